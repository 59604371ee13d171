"""The media engine of a node: inside its process, or in a media process that it looks after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from fastapi import APIRouter

from cti.media import RecordingEnded
from cti.media_engine import RtpEngine
from cti.media_remote.client import RemoteEngine
from cti.media_remote.link import MediaAddress
from cti.settings import MediaSettings
from cti95598.events.v1.events_pb2 import Alarm, RecordingFinished
from domain.events import EventStamp
from domain.failures import Code, PlatformError
from domain.ids import CallId, TenantId
from domain.loopback import is_loopback
from recording.layout import recording_of_path

log = structlog.get_logger(__name__)

_SAMPLE_RATE_HZ = 8000
# At most so long a start waits for a media process; without one the node has no calls to take.
_START_WAIT_S = 3.0


class NodeMedia:
    """Makes the engine that the settings ask for, and tells of its state."""

    def __init__(
        self,
        settings: MediaSettings,
        *,
        node: str,
        directory: Path,
        recordings: Path,
        token: Callable[[], str],
        events: EventStamp,
        tenant: TenantId,
    ) -> None:
        """`directory`: where paths of the settings start. PlatformError CONFIG_INVALID.

        `tenant` is whose stream alarms go to.
        """
        self._events = events
        self._tenant = tenant
        self._recordings = recordings
        self._told_up: bool | None = None
        self._remote: RemoteEngine | None = None
        self.engine: RtpEngine | RemoteEngine
        host = settings.engine_host
        if host is None:
            self.engine = inside = RtpEngine(port_min=settings.port_min, port_max=settings.port_max)
            inside.on_failed = self._failed
            return
        addresses = settings.addresses
        self._remote = self.engine = RemoteEngine(
            MediaAddress(settings.engine, _authority(settings, directory), _token(host, token())),
            node=node,
            local_ips=[
                each.local_ip for each in (addresses.main, addresses.ipv6) if each is not None
            ],
            recordings=recordings,
            stock=settings.engine_ports_ahead,
            lost_after_s=settings.engine_lost_after_s,
        )
        self._remote.on_up = self._changed
        self._remote.on_recovered = self._recovered

    async def start(self) -> None:
        """Connect to the media process; without it the node starts, and refuses calls."""
        if self._remote is not None and not await self._remote.start(_START_WAIT_S):
            self._changed(is_up=False)

    async def aclose(self) -> None:
        """Close all ports and finish all recordings."""
        await self.engine.aclose()

    def reasons(self) -> list[str]:
        """Tell why no calls can be taken."""
        if isinstance(self.engine, RtpEngine) and self.engine.has_failed:
            return ["the media engine has failed: restart the node"]
        if self._remote is None or self._remote.status.is_up:
            return []
        status = self._remote.status
        reason = f": {status.reason}" if status.reason else ""
        return [f"the media process {status.target} is away{reason}"]

    def impaired(self) -> list[str]:
        """Tell what does not work as it should."""
        if self._remote is None:
            return []
        status, parts = self._remote.status, []
        if status.orphans:
            parts.append(f"{len(status.orphans)} RTP ports of calls of an earlier process go on")
        if status.recordings_waiting:
            parts.append(f"{status.recordings_waiting} recordings are on their way here")
        return parts

    def status(self) -> dict[str, Any]:
        """Describe the engine, and what an earlier process of this node has left in it."""
        if self._remote is None:
            return {"engine": "inside", "is_up": not self.reasons()}
        status = asdict(self._remote.status)
        return {"engine": status.pop("target"), **status}

    def _changed(self, is_up: bool) -> None:
        if is_up is self._told_up:
            return
        was_known, self._told_up = self._told_up is not None, is_up
        target = "" if self._remote is None else self._remote.status.target
        if is_up:
            log.info("media_process_there", target=target)
            if was_known:
                self._alarm(f"媒体进程已恢复 the media process is back: {target}", None)
        else:
            log.error("media_process_away", target=target)
            self._alarm(f"媒体进程失联 the media process is away: {target}", Code.MEDIA_UNAVAILABLE)

    def _failed(self) -> None:
        text = "媒体引擎故障,请重启节点 the media engine has failed: restart the node"
        self._alarm(text, Code.MEDIA_UNAVAILABLE)

    def _alarm(self, text: str, cause: Code | None) -> None:
        self._events.publish(self._tenant, Alarm(component="media", text=text), cause=cause)

    def _recovered(self, ended: RecordingEnded) -> None:
        """A recording that an earlier process of this node began is in its place now."""
        names = recording_of_path(self._recordings, Path(ended.path))
        if names is None:
            log.error("recording_of_no_call", path=ended.path)
            return
        tenant, call_id, recording_id = names
        log.info("recording_recovered", call_id=call_id, error=ended.error)
        self._events.publish(
            TenantId(tenant),
            RecordingFinished(
                recording=recording_id,
                path=ended.path,
                sha256=ended.sha256,
                size_bytes=ended.size_bytes,
                duration_ms=ended.duration_ms,
                channels=ended.channels,
                sample_rate_hz=_SAMPLE_RATE_HZ,
                dropped_frames=ended.dropped_frames,
                left_party="caller",
            ),
            call_id=CallId(call_id),
            cause=Code.RECORDING_FAILED if ended.error else None,
        )


def media_router(status: Callable[[], dict[str, Any]]) -> APIRouter:
    """Show the state of the media engine on the gateway."""
    router = APIRouter()

    @router.get("/media")
    async def media() -> dict[str, Any]:
        return status()

    return router


def _authority(settings: MediaSettings, directory: Path) -> bytes | None:
    if settings.engine_ca is None:
        return None
    path = (directory / settings.engine_ca).resolve()
    try:
        return path.read_bytes()
    except OSError as error:
        raise PlatformError(
            Code.CONFIG_INVALID, f"media.engine_ca {path}: {error.strerror}"
        ) from error


def _token(host: str, token: str) -> str:
    if not token and not is_loopback(host):
        raise PlatformError(
            Code.CONFIG_INVALID,
            "secrets.yaml has no media_token for the media process on another machine; "
            "`cti95598 media --allow NODE` there makes one",
        )
    return token
