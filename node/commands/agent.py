"""`cti95598 agent`: the agent's toolbar on the command line, with a softphone of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import grpc
import typer

from agents.toolbar_client import ToolbarClient
from cti import audio
from cti.phone import Phone, PhoneCall, PhoneSettings, phone_media
from cti.rtp_port import MediaRouter
from cti.sip.transports.transport import Hop
from domain.failures import PlatformError
from node.commands.far_host import address_of
from node.commands.toolbar import Options, Toolbar, console
from node.credentials import read_plain_passwords

_PASSWORD_VARIABLE = "CTI95598_PASSWORD"  # noqa: S105 - the variable's name
_PHONE_PASSWORD_VARIABLE = "CTI95598_PHONE_PASSWORD"  # noqa: S105 - the variable's name

_REGISTER_TIMEOUT_S = 10.0
_TONE_MS = 1000


def agent_command(
    agent: Annotated[str, typer.Option(help="Agent number (工号).", metavar="NUMBER")],
    grpc_address: Annotated[
        str, typer.Option("--grpc", help="The platform's gRPC address.", metavar="HOST:PORT")
    ] = "127.0.0.1:50051",
    sip_address: Annotated[
        str, typer.Option("--sip", help="Where the softphone registers.", metavar="HOST:PORT")
    ] = "127.0.0.1:5060",
    tenant: Annotated[str, typer.Option(help="Virtual call centre (虚拟呼叫中心).")] = "demo",
    password_file: Annotated[
        Path | None,
        typer.Option(
            help=f"File with the agent's password; else ${_PASSWORD_VARIABLE}, else --credentials, "
            "else it is asked for.",
            exists=True,
        ),
    ] = None,
    credentials: Annotated[
        Path,
        typer.Option(help="Passwords that the platform made at its first start, if there."),
    ] = Path(".data/demo-credentials.yaml"),
    device: Annotated[
        str,
        typer.Option(
            help="SIP user of the phone; default: the agent's number, and with --no-softphone the "
            "one in the configuration."
        ),
    ] = "",
    softphone: Annotated[
        bool, typer.Option(help="Register a softphone of our own, or use another phone.")
    ] = True,
    tone: Annotated[
        float | None, typer.Option(help="What the softphone says: a tone.", metavar="HZ")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Record what the softphone hears (WAV).", metavar="WAV")
    ] = None,
    auto_ready: Annotated[bool, typer.Option(help="示闲 at once and after every call.")] = False,
    auto_answer: Annotated[bool, typer.Option(help="The softphone picks up by itself.")] = False,
    take_over: Annotated[
        bool, typer.Option(help="Sign in although signed in elsewhere (without a call there).")
    ] = False,
) -> None:
    """坐席工具条与软电话。 The agent's toolbar, with a softphone, on the command line.

    Commands are read from standard input, one a line; 帮助 help lists them.

    The end of the input signs out, unless --auto-ready is given.
    Exit status: 0 signed out, 1 refused or the platform was lost.

    Passwords never stand on the command line: see --password-file and
    --credentials. The softphone's own password is read from
    $CTI95598_PHONE_PASSWORD or --credentials.
    """
    options = Options(
        agent=agent,
        tenant=tenant,
        device=device or (agent if softphone else ""),
        grpc_address=grpc_address,
        take_over=take_over,
        auto_ready=auto_ready,
        tone_hz=tone,
        record=record,
    )
    try:
        stored = _stored_passwords(credentials, tenant, agent, options.device)
        password = _agent_password(password_file, stored[0])
        phone_password = os.environ.get(_PHONE_PASSWORD_VARIABLE) or stored[1]
        server = _hop(sip_address)
        if softphone and not phone_password:
            raise typer.BadParameter(
                "话机密码未知 the softphone's password is not known: "
                f"set ${_PHONE_PASSWORD_VARIABLE}, give --credentials, or use --no-softphone"
            )
        settings = PhoneSettings(
            user=options.device, local_ip=_local_ip(server), auto_answer=auto_answer
        )
        phone = (settings, server, phone_password) if softphone else None
        done = asyncio.run(_work(options, password, phone))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(130) from None
    except PlatformError as error:
        console.print(f"失败:{error.failure.zh} · failed: {error}")
        raise typer.Exit(1) from error
    except TimeoutError as error:
        console.print(f"软电话无法注册:没有响应 · nothing answers SIP at {sip_address}")
        raise typer.Exit(1) from error
    except grpc.aio.AioRpcError as error:
        console.print(
            f"无法连接平台 {grpc_address} · no platform is reachable by gRPC there: "
            f"{error.details()}"
        )
        raise typer.Exit(1) from error
    raise typer.Exit(0 if done else 1)


def _stored_passwords(path: Path, tenant: str, agent: str, device: str) -> tuple[str, str]:
    """Return the agent's and the phone's password of the file, empty where there is none."""
    if not path.exists():
        return "", ""
    stored = read_plain_passwords(path)
    return (
        stored.agents.get(tenant, {}).get(agent, ""),
        stored.phones.get(tenant, {}).get(device, ""),
    )


def _agent_password(file: Path | None, stored: str) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8").strip()
    password = os.environ.get(_PASSWORD_VARIABLE) or stored
    if password:
        return password
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            "密码未知 the agent's password is not known: "
            f"give --password-file or set ${_PASSWORD_VARIABLE}"
        )
    return str(typer.prompt("密码 password", hide_input=True))


def _hop(address: str) -> Hop:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise typer.BadParameter(f"--sip {address}: write HOST:PORT")
    return Hop("udp", address_of(host), int(port))


def _local_ip(server: Hop) -> str:
    """Return the address this machine reaches the server from; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((server.host, server.port))
        return str(probe.getsockname()[0])


async def _work(
    options: Options, password: str, phone: tuple[PhoneSettings, Hop, str] | None
) -> bool:
    working = asyncio.current_task()
    if working is not None:  # so that a terminated toolbar signs out
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    async with AsyncExitStack() as leaving:
        client = ToolbarClient(options.grpc_address)
        leaving.push_async_callback(client.aclose)
        if phone is not None:
            media = await leaving.enter_async_context(phone_media())
            softphone = _Softphone(phone[0], options, media)
            leaving.push_async_callback(softphone.aclose)
            await softphone.register(phone[1], phone[2])
        return await Toolbar(client, options).work(password)


class _Softphone:
    """The agent's phone: says its tone, or nothing, in every call."""

    def __init__(self, settings: PhoneSettings, options: Options, media: MediaRouter) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="cti95598-agent-")
        self._voice: Path | None = None
        if options.tone_hz is not None:
            path = Path(self._scratch.name) / "tone.wav"
            self._voice = audio.write_tone(path, options.tone_hz, _TONE_MS)
        self._phone = Phone(settings, media)
        self._phone.record_to = options.record
        self._phone.on_call = self._on_call

    async def register(self, server: Hop, password: str) -> None:
        await self._phone.open()
        async with asyncio.timeout(_REGISTER_TIMEOUT_S):
            granted_s = await self._phone.register(server, password)
        console.print(
            f"软电话 {self._phone.settings.user} 已注册 · softphone registered ({granted_s} s)"
        )

    async def aclose(self) -> None:
        await self._phone.aclose()
        self._scratch.cleanup()

    def _on_call(self, call: PhoneCall) -> None:
        voice = self._voice
        if voice is None:
            return

        def speak_once() -> None:
            if call.is_answered and not call.is_over:
                call.on_change = lambda: None
                call.play(voice, loop=True)

        call.on_change = speak_once
        speak_once()
