"""The media process: an engine, its sessions, and the port that nodes connect to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import structlog

from cti.media_engine import RtpEngine
from cti.media_remote.host import EngineHost, OrphanLimits
from cti.media_remote.prompt_cache import PromptCache
from cti.media_remote.service import OPTIONS, MediaService
from cti.media_remote.spool import RecordingSpool
from domain.failures import Code, PlatformError
from domain.tasks import end_tasks

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """PEM files of the server's certificate and of its key, which may be the same."""

    certificate: Path
    key: Path

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Read them as they are now; OSError."""
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair])

    def credentials(self) -> grpc.ServerCredentials:
        """Serve what the files have when a node connects: a certificate is renewed before its end.

        Streams that are there go on, and with them all calls.
        """
        first = latest = self.read()

        def present() -> grpc.ServerCertificateConfiguration:
            nonlocal latest
            try:
                latest = self.read()
            except OSError as error:
                _log.warning("media_certificate_unreadable", reason=str(error))
            return latest

        return grpc.dynamic_ssl_server_credentials(first, present)


@dataclass(frozen=True, slots=True)
class MediaServerSettings:
    """Where a media process listens, and what it keeps."""

    host: str = "127.0.0.1"
    port: int = 50055
    port_min: int = 20_000
    port_max: int = 29_999
    quarantine_ms: int = 2000
    prompts_limit_bytes: int = 1 << 30
    orphans: OrphanLimits = field(default_factory=OrphanLimits)
    look_every_s: float = 5.0
    """How often ports without a node are looked at, or oftener where the limits ask for it."""
    keys: ServerKeys | None = None
    """None: no TLS."""
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By node; none: any process that can connect is believed."""


class MediaServer:
    """One engine for as many nodes as it has ports for."""

    def __init__(self, settings: MediaServerSettings, directory: Path) -> None:
        """Keep copies of prompts, and recordings that wait, below `directory`."""
        self._settings = settings
        self._directory = directory
        self._looking: asyncio.Task[None] | None = None
        self.failed = asyncio.Event()
        """Set when the engine moves no packets any more: the process should begin anew."""
        self.address = ("", 0)
        """Where it listens, once it has started."""

    async def start(self) -> None:
        """Start the engine and listen; PlatformError CONFIG_INVALID where the port is taken."""
        settings = self._settings
        prompts = PromptCache(self._directory / "prompts", limit_bytes=settings.prompts_limit_bytes)
        spool = RecordingSpool(self._directory / "recordings")
        await asyncio.to_thread(spool.recover)
        self._engine = RtpEngine(
            port_min=settings.port_min,
            port_max=settings.port_max,
            quarantine_ms=settings.quarantine_ms,
        )
        self.host = EngineHost(self._engine, prompts, spool, orphans=settings.orphans)
        self._engine.on_event = self.host.on_event
        self._engine.on_failed = self.failed.set
        self._server = grpc.aio.server(options=OPTIONS)
        MediaService(self.host, settings.tokens).add_to(self._server)
        try:
            port = self._listen()
            await self._server.start()
        except BaseException:
            await self._engine.aclose()
            raise
        self.address = (settings.host, port)
        self._looking = asyncio.get_running_loop().create_task(self._look_after_orphans())

    def _listen(self) -> int:
        settings = self._settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        where = f"{host}:{settings.port}"
        keys = settings.keys
        try:
            if keys is None:
                return self._server.add_insecure_port(where)
            return self._server.add_secure_port(where, keys.credentials())
        except RuntimeError as error:
            raise PlatformError(Code.CONFIG_INVALID, f"cannot listen at {where}") from error

    async def _look_after_orphans(self) -> None:
        settings = self._settings
        every_s = min(settings.look_every_s, settings.orphans.silent_s / 2)
        while True:
            await asyncio.sleep(every_s)
            if self.host.has_orphans:
                self.host.watch(await self._engine.survey())

    async def stop(self, *, grace_s: float = 0.5) -> None:
        """Close all ports and finish all recordings, which wait in the spool for their nodes."""
        if self._looking is not None:
            await end_tasks([self._looking])
        await self._engine.aclose()
        # What the engine told last goes out before the streams end.
        await self._server.stop(grace_s)
