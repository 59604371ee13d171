"""The media process without its network: one engine, and the sessions of the nodes that use it."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Protocol

import structlog

from cti.media import (
    MediaEngine,
    MediaEvent,
    PortClosed,
    PortId,
    RecordingEnded,
    RecordingId,
    TapAudio,
    TapEnded,
    TapId,
)
from cti.media_remote.node_session import NodeSession
from cti.media_remote.orphans import SilenceWatch
from cti.media_remote.prompt_cache import FileVersion, PromptCache
from cti.media_remote.spool import RecordingSpool, Spooled
from cti.media_remote.wire import SAME_IDS, event_message
from cti95598.media.v1 import media_pb2 as pb

_log = structlog.get_logger(__name__)


class HostedEngine(MediaEngine, Protocol):
    """What the media process needs of the engine beside its commands."""

    def figures(self) -> dict[str, int]:
        """Counts of the whole engine, by name."""


@dataclass(frozen=True, slots=True)
class OrphanLimits:
    """How long ports go on without their node."""

    silent_s: float = 60.0
    """After so long without RTP from anybody of a group its ports are closed."""
    most_s: float = 4 * 3600.0
    """After so long they are closed, whoever talks."""


class EngineHost:
    """Sessions by node; implements `SessionHost`."""

    def __init__(
        self,
        engine: HostedEngine,
        prompts: PromptCache,
        spool: RecordingSpool,
        *,
        orphans: OrphanLimits | None = None,
    ) -> None:
        self.engine: MediaEngine = engine
        self.prompts = prompts
        self.spool = spool
        self.engine_id = os.urandom(16).hex()
        self.port_base = int.from_bytes(os.urandom(4)) << 24
        self._figures = engine.figures
        self._limits = orphans or OrphanLimits()
        self._current: dict[str, NodeSession] = {}
        self._former: list[NodeSession] = []
        self._by_port: dict[PortId, NodeSession] = {}
        self._by_recording: dict[RecordingId, NodeSession] = {}
        self._by_tap: dict[TapId, NodeSession] = {}
        self._wall_less_loop_s = time.time() - self.now_s()

    # Sessions

    def session(self, hello: pb.Hello) -> tuple[NodeSession, bool]:
        """Return a node's session, and whether it was there: the former one becomes an orphan."""
        for former in self._former:
            if former.node == hello.node and former.session_id in hello.ended_sessions:
                former.give_up()
        current = self._current.get(hello.node)
        if current is not None and current.session_id in hello.ended_sessions:
            self._replace(current)
            current.give_up()
            current = None
        if current is not None and (
            current.session_id != hello.session or current.is_given_up or current.is_leaving
        ):
            self._replace(current)
            if not (current.is_given_up or current.is_leaving):
                _log.warning("media_session_orphaned", node=hello.node, ports=len(current.ports))
                current.orphan()
            current = None
        resumed = current is not None and hello.engine == self.engine_id
        if current is None:
            current = NodeSession(self, hello.node, hello.session)
            self._current[hello.node] = current
            for spooled in self.spool.waiting(hello.node):
                current.tell(_spooled_event(spooled))
        current.watch = None
        # A node that has not read our welcome has seen nothing of this session yet.
        current.events.rewind(hello.seen_event if resumed else 0)
        current.want_stock(hello.stock)
        return current, resumed

    def detached(self, session: NodeSession) -> None:
        """The node's stream has ended."""
        if session.has_left:
            if self._current.get(session.node) is session:
                del self._current[session.node]
        elif session.watch is None:
            session.watch = SilenceWatch(self.now_s())

    def _replace(self, session: NodeSession) -> None:
        del self._current[session.node]
        if session.watch is None:
            session.watch = SilenceWatch(self.now_s())
        if not session.is_empty:
            self._former.append(session)

    def current(self, node: str) -> NodeSession | None:
        """Return the session that a node has now."""
        return self._current.get(node)

    # SessionHost

    def now_s(self) -> float:
        """See SessionHost."""
        return asyncio.get_running_loop().time()

    def owns_port(self, port: PortId, session: NodeSession) -> None:
        """See SessionHost."""
        self._by_port[port] = session

    def owns_recording(self, recording: RecordingId, session: NodeSession) -> None:
        """See SessionHost."""
        self._by_recording[recording] = session

    def owns_tap(self, tap: TapId, session: NodeSession) -> None:
        """See SessionHost."""
        self._by_tap[tap] = session

    def tell_spooled(self, spooled: Spooled) -> None:
        """See SessionHost."""
        current = self._current.get(spooled.node)
        if current is not None:
            current.tell(_spooled_event(spooled))

    def prompt_known(self, file: FileVersion) -> None:
        """A file's content is here: let plays begin that waited for it."""
        current = self._current.get(file.node)
        if current is not None:
            current.prompt_known(file)

    # Events of the engine

    def on_event(self, event: MediaEvent) -> None:
        """Hand an event to the session that it concerns."""
        if isinstance(event, RecordingEnded):
            session = self._by_recording.pop(event.recording, None)
        elif isinstance(event, TapEnded):
            session = self._by_tap.pop(event.tap, None)
        elif isinstance(event, TapAudio):
            session = self._by_tap.get(event.tap)
        elif isinstance(event, PortClosed):
            session = self._by_port.pop(event.port, None)
            for other in self._current.values():
                other.restock()
        else:
            session = self._by_port.get(event.port)
        if session is not None:
            session.on_event(event)
            if session.is_empty and session in self._former:
                self._former.remove(session)

    # Ports without a node

    @property
    def has_orphans(self) -> bool:
        """Whether somebody has to look after ports."""
        return any(each.watch is not None for each in self._sessions())

    def watch(self, packets_received: dict[PortId, int]) -> None:
        """Close what nobody is heard on, given the counts of all open ports."""
        now_s, limits = self.now_s(), self._limits
        for session in self._sessions():
            if session.watch is None:
                continue
            counts: dict[int, int] = {
                port: packets_received[port] for port in session.ports if port in packets_received
            }
            session.watch.observe(counts, now_s)
            over = session.watch.over(
                session.sources, now_s, silent_s=limits.silent_s, most_s=limits.most_s
            )
            if over:
                _log.info("media_orphans_closed", node=session.node, ports=len(over))
                session.close(over)

    def status(self, node: str) -> pb.Status:
        """Describe the engine, and what a node has left behind."""
        now_s = self.now_s()
        orphans = [
            pb.Orphan(
                session=session.session_id,
                port=port + self.port_base,
                number=number,
                since_unix_ms=round((session.watch.since_s + self._wall_less_loop_s) * 1000),
                silent_s=round(session.watch.silent_s(port, now_s)),
            )
            for session in self._former
            if session.node == node and session.watch is not None
            for port, number in session.ports.items()
        ]
        return pb.Status(figures=self._figures(), orphans=orphans)

    def _sessions(self) -> list[NodeSession]:
        return [*self._current.values(), *self._former]


def _spooled_event(spooled: Spooled) -> pb.Event:
    ended = event_message(spooled.ended, SAME_IDS).recording_ended
    return pb.Event(
        recording_spooled=pb.RecordingSpooled(
            name=spooled.name, session=spooled.session, ended=ended
        )
    )
