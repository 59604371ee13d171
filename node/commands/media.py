"""`cti95598 media`: the media engine in a process of its own, for nodes here and elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import ssl
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
import uvloop
import yaml
from rich.console import Console

from cti.media_remote.host import OrphanLimits
from cti.media_remote.server import MediaServer, MediaServerSettings, ServerKeys
from domain.failures import Code, PlatformError
from domain.loopback import is_loopback
from domain.tasks import end_tasks
from node.commands.serve import allow_open_files
from node.data_directory import DataDirectory, InstanceLock, write_private
from node.listeners import bound_listener
from node.logs import configure_logs

_console = Console(highlight=False, soft_wrap=True)

_TOKEN_BYTES = 32
_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_PORT_MAX = 65535


def media_command(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where nodes connect (gRPC).")
    ] = "127.0.0.1:50055",
    data: Annotated[
        Path,
        typer.Option("--data", "-d", metavar="DIR", help="Copies of prompts, waiting recordings."),
    ] = Path(".data/media"),
    port_min: Annotated[int, typer.Option(min=1, max=_PORT_MAX, help="First RTP port.")] = 20_000,
    port_max: Annotated[int, typer.Option(min=1, max=_PORT_MAX, help="Last RTP port.")] = 29_999,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TLS certificate (PEM); beyond loopback.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key (PEM).")] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="Make a token for this node, if it has none yet."),
    ] = None,
    orphans_silent_s: Annotated[
        float,
        typer.Option(min=1, help="Close ports without a node after so long without RTP."),
    ] = 60.0,
    orphans_most_s: Annotated[
        float, typer.Option(min=1, help="Close ports without a node after so long in any case.")
    ] = 14_400.0,
    prompts_limit_mb: Annotated[
        int, typer.Option(min=64, help="Copies of prompts that are kept, in megabytes.")
    ] = 1024,
) -> None:
    """媒体进程 · Run the media engine for nodes whose `media.engine` names this address.

    Calls' audio goes on while their node restarts. Beyond loopback it needs a certificate, and a
    token for each node (--allow makes one; write it as media_token into the node's secrets.yaml).
    """
    try:
        host, port = _address(listen)
        directory = DataDirectory.at(data)
        tokens = _tokens(directory.root / "media-tokens.yaml", allow or [])
        settings = MediaServerSettings(
            host=host,
            port=port,
            port_min=port_min,
            port_max=port_max,
            prompts_limit_bytes=prompts_limit_mb << 20,
            orphans=OrphanLimits(orphans_silent_s, orphans_most_s),
            keys=_keys(certificate, key),
            tokens=tokens,
        )
        _check_secure(settings)
        configure_logs(directory.log)
        allow_open_files()
        uvloop.run(_run(settings, directory))
    except PlatformError as error:
        typer.echo(error.detail or str(error), err=True)
        raise typer.Exit(1) from None


async def _run(settings: MediaServerSettings, directory: DataDirectory) -> None:
    lock = InstanceLock(directory)
    lock.acquire()
    bound_listener("grpc", settings.host, settings.port).close()
    server = MediaServer(settings, directory.root)
    await server.start()
    host, port = server.address
    shown = f"[{host}]" if ":" in host else host
    directory.write_instance({"addresses": {"media": f"{shown}:{port}"}})
    _console.print(f"READY  media  {shown}:{port}", markup=False)
    _console.print(f"  数据 data  {directory.root}", markup=False)
    if settings.tokens:
        _console.print(f"  节点 nodes  {', '.join(settings.tokens)}", markup=False)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ends = [asyncio.create_task(each.wait()) for each in (stop, server.failed)]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if server.failed.is_set():
            raise PlatformError(Code.MEDIA_UNAVAILABLE, "the media engine has failed")
    finally:
        await end_tasks(ends)
        _console.print("正在停止:写完录音 · stopping …")
        await server.stop()
        directory.instance_file.unlink(missing_ok=True)
        lock.release()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > _PORT_MAX:
        raise PlatformError(Code.CONFIG_INVALID, f"--listen {text}: write HOST:PORT")
    return host.strip("[]"), int(port)


def _keys(certificate: Path | None, key: Path | None) -> ServerKeys | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise PlatformError(Code.CONFIG_INVALID, "--certificate and --key belong together")
    try:
        keys = ServerKeys(certificate, key)
        keys.read()
        # gRPC would only say that it cannot listen.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        raise PlatformError(
            Code.CONFIG_INVALID,
            f"{certificate}, {key}: they are no PEM certificate and its key without a password",
        ) from error
    except OSError as error:
        raise PlatformError(Code.CONFIG_INVALID, f"{error.filename}: {error.strerror}") from error
    return keys


def _check_secure(settings: MediaServerSettings) -> None:
    if is_loopback(settings.host):
        return
    if settings.keys is None:
        raise PlatformError(
            Code.CONFIG_INVALID,
            f"{settings.host} is no loopback address: give --certificate and --key",
        )
    if not settings.tokens:
        raise PlatformError(
            Code.CONFIG_INVALID,
            f"{settings.host} is no loopback address: name the nodes that may come, --allow NODE",
        )


def _tokens(path: Path, allow: list[str]) -> Mapping[str, str]:
    """Read the nodes' tokens, and make those that are missing."""
    tokens: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        if stat.S_IMODE(path.stat().st_mode) & _OPEN_TO_OTHERS:
            raise PlatformError(Code.CONFIG_INVALID, f"{path}: others may read it; chmod 600")
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        nodes = document.get("nodes") if isinstance(document, dict) else None
        if not isinstance(nodes, dict) or not all(isinstance(each, str) for each in nodes.values()):
            raise PlatformError(Code.CONFIG_INVALID, f"{path}: it names no nodes; move it away")
        tokens = nodes
    missing = [node for node in allow if not tokens.get(node)]
    if missing:
        tokens |= {node: secrets.token_hex(_TOKEN_BYTES) for node in missing}
        dumped = yaml.dump({"nodes": tokens}, Dumper=yaml.CSafeDumper, allow_unicode=True)
        write_private(path, f"# media_token of each node that may come; keep it private.\n{dumped}")
        _console.print(f"令牌已写入 · tokens of {', '.join(missing)} were written to {path}")
    return tokens
