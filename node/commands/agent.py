"""`cti95598 agent`: the agent's toolbar on the command line, with a softphone of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from agents.toolbar_client import ToolbarClient, summary_line
from cti import audio
from cti.phone import Phone, PhoneCall, PhoneSettings, phone_media
from cti.rtp_port import MediaRouter
from cti.sip.transports.transport import Hop
from cti95598.agents.v1 import agents_pb2 as pb
from domain.failures import PlatformError
from node.commands.far_host import address_of
from node.credentials import read_plain_passwords

_PASSWORD_VARIABLE = "CTI95598_PASSWORD"  # noqa: S105 - the variable's name
_PHONE_PASSWORD_VARIABLE = "CTI95598_PHONE_PASSWORD"  # noqa: S105 - the variable's name
_console = Console(highlight=False, soft_wrap=True)

_REGISTER_TIMEOUT_S = 10.0
_TONE_MS = 1000
_STATE_WORDS = {
    pb.AGENT_STATE_SIGNED_OUT: "签出 signed out",
    pb.AGENT_STATE_NOT_READY: "示忙 not ready",
    pb.AGENT_STATE_READY: "示闲 ready",
    pb.AGENT_STATE_RINGING: "振铃 ringing",
    pb.AGENT_STATE_TALKING: "通话 talking",
    pb.AGENT_STATE_AFTER_CALL_WORK: "话后处理 after-call work",
}

_WORDS = {
    "示闲": "ready",
    "示忙": "notready",
    "接听": "answer",
    "挂断": "hangup",
    "统计": "summary",
    "签出": "signout",
    "帮助": "help",
    "quit": "signout",
} | {name: name for name in ("ready", "notready", "answer", "hangup", "summary", "signout", "help")}

_HELP = """命令 commands:
  示闲 ready            接受来电 take calls
  示忙 notready [原因]   不接来电 take no calls, with a reason
  接听 answer           让话机接听 let the phone pick up
  挂断 hangup           挂断通话 hang up the call
  统计 summary          今日统计 today's figures
  签出 signout          签出并退出 sign out and leave
  帮助 help             本页 this page"""


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

    Commands are read from standard input, one a line:
    示闲 ready, 示忙 notready, 接听 answer, 挂断 hangup, 统计 summary,
    签出 signout, 帮助 help.

    The end of the input signs out, unless --auto-ready is given.
    Exit status: 0 signed out, 1 refused or the platform was lost.

    Passwords never stand on the command line: see --password-file and
    --credentials. The softphone's own password is read from
    $CTI95598_PHONE_PASSWORD or --credentials.
    """
    options = _Options(
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
        _console.print(f"失败:{error.failure.zh} · failed: {error}")
        raise typer.Exit(1) from error
    except TimeoutError as error:
        _console.print(f"软电话无法注册:没有响应 · nothing answers SIP at {sip_address}")
        raise typer.Exit(1) from error
    except grpc.aio.AioRpcError as error:
        _console.print(
            f"无法连接平台 {grpc_address} · no platform is reachable by gRPC there: "
            f"{error.details()}"
        )
        raise typer.Exit(1) from error
    raise typer.Exit(0 if done else 1)


@dataclass(frozen=True, slots=True)
class _Options:
    agent: str
    tenant: str
    device: str
    grpc_address: str
    take_over: bool
    auto_ready: bool
    tone_hz: float | None
    record: Path | None


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
    options: _Options, password: str, phone: tuple[PhoneSettings, Hop, str] | None
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
        return await _Toolbar(client, options).work(password)


class _Softphone:
    """The agent's phone: says its tone, or nothing, in every call."""

    def __init__(self, settings: PhoneSettings, options: _Options, media: MediaRouter) -> None:
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
        _console.print(
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


class _Toolbar:
    """Reads commands and shows what happens to the agent."""

    def __init__(self, client: ToolbarClient, options: _Options) -> None:
        self._client = client
        self._options = options
        self._state = pb.AGENT_STATE_UNSPECIFIED
        self._shown_call = ""
        self._commands: dict[str, Callable[[str], Awaitable[pb.Result | None]]] = {
            "ready": lambda _: client.ready(),
            "notready": client.not_ready,
            "answer": lambda _: client.answer(),
            "hangup": lambda _: client.hang_up(),
            "signout": lambda _: client.sign_out(),
            "summary": self._summary,
            "help": self._help,
        }

    async def work(self, password: str) -> bool:
        """Sign in and work until sign-out; False when the sign-in was refused."""
        options = self._options
        signed_in = await self._client.sign_in(
            options.tenant,
            options.agent,
            password,
            device=options.device,
            take_over=options.take_over,
        )
        if not signed_in.result.accepted:
            self._show_refusal("签入 sign in", signed_in.result)
            return False
        queues = " ".join(signed_in.queues)
        _console.print(f"{signed_in.display_name}({options.agent})已签入 · signed in: {queues}")
        tasks = {asyncio.create_task(self._follow()), asyncio.create_task(self._obey())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await self._leave()
        return True

    async def _leave(self) -> None:
        """Sign out unless that has happened."""
        if self._state == pb.AGENT_STATE_SIGNED_OUT:
            return
        try:
            await self._client.sign_out()
        except grpc.aio.AioRpcError:
            return  # the session is gone already
        _console.print(_STATE_WORDS[pb.AGENT_STATE_SIGNED_OUT])

    async def _follow(self) -> None:
        # What is automatic ends where the agent, or an unanswered call, says 示忙.
        due = {pb.AGENT_STATE_NOT_READY}
        async for event in self._client.events():
            changed = event.state != self._state
            self._state = event.state
            if event.HasField("call") and event.call.call_id != self._shown_call:
                self._shown_call = event.call.call_id
                _console.print(_screen_pop(event.call))
            if changed:
                reason = f"({event.reason})" if event.reason else ""
                _console.print(f"状态 state: {_STATE_WORDS.get(event.state, '?')}{reason}")
            if self._options.auto_ready and event.state in due:
                await self._run("ready", "")
            due = {pb.AGENT_STATE_AFTER_CALL_WORK}
            if event.state == pb.AGENT_STATE_SIGNED_OUT:
                return

    async def _obey(self) -> None:
        lines = _standard_input()
        while True:
            line = await lines.get()
            if line is None:
                if self._options.auto_ready:
                    await asyncio.Event().wait()
                return
            word, _, rest = line.strip().partition(" ")
            if not word:
                continue
            name = _WORDS.get(word.lower())
            if name is None:
                _console.print(f"没有命令 {word},输入 help · no such command")
                continue
            await self._run(name, rest.strip())
            if name == "signout" and self._state == pb.AGENT_STATE_SIGNED_OUT:
                return

    async def _run(self, name: str, rest: str) -> None:
        result = await self._commands[name](rest)
        if result is None:
            return
        if not result.accepted:
            self._show_refusal(name, result)
        elif name == "signout" and self._state != pb.AGENT_STATE_SIGNED_OUT:
            self._state = pb.AGENT_STATE_SIGNED_OUT
            _console.print(_STATE_WORDS[self._state])

    async def _summary(self, _: str) -> None:
        _console.print(summary_line(self._options.agent, await self._client.summary()))

    async def _help(self, _: str) -> None:
        _console.print(_HELP, markup=False)

    @staticmethod
    def _show_refusal(name: str, result: pb.Result) -> None:
        _console.print(
            f"{name} 被拒绝:{result.words_zh} · refused: {result.words_en} ({result.code})"
        )


def _screen_pop(call: pb.CallSummary) -> Panel:
    table = Table.grid(padding=(0, 2))
    rows = [
        ("来电 caller", call.caller),
        ("被叫 called", call.called),
        ("队列 queue", call.queue),
        ("等待 waited", f"{call.waited_ms / 1000:.1f} s"),
        ("语言 language", call.language),
        ("路径 path", " → ".join(call.path)),
    ]
    rows += [(name, _plain(value)) for name, value in sorted(call.attached.items())]
    for row in rows:
        table.add_row(*map(escape, row))
    return Panel(table, title="来电弹屏 screen pop", expand=False)


def _plain(value: str) -> str:
    """Show attached data, which comes as JSON, without its quotes."""
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return parsed if isinstance(parsed, str) else value


def _standard_input() -> asyncio.Queue[str | None]:
    """Read lines in a thread of their own: files, pipes and terminals alike; None at the end."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        try:
            for line in sys.stdin:
                loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, None)
        except RuntimeError:
            return  # the loop is closed: nobody listens any more

    threading.Thread(target=read, daemon=True, name="standard-input").start()
    return lines
