"""The node's end of the control stream: it opens again by itself, and nothing is lost between."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

import grpc
import grpc.aio
import structlog

from cti.media_remote.numbered import Numbered, SeenCount
from cti.media_remote.service import GATHER_S, MOST_IN_ONE_MESSAGE, OPTIONS
from cti95598.media.v1 import media_pb2 as pb
from cti95598.media.v1.media_pb2_grpc import MediaServiceStub
from domain.tasks import end_tasks

_log = structlog.get_logger(__name__)

_WELCOME_WITHIN_S = 3.0
_SILENT = "it does not answer; it may not run, or want TLS"
_SILENT_OR_STRANGE = (
    "it does not answer; it may not run, or its certificate is not of engine_ca for this address"
)
_RETRY_S = 0.2
_RETRY_REFUSED_S = 5.0
_CHANNEL_OPTIONS = (
    *OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True, slots=True)
class MediaAddress:
    """Where a media process is, and how it and we know each other."""

    target: str
    """host:port, as gRPC names it."""
    ca: bytes | None = None
    """PEM of the authority of its certificate; None: no TLS, which loopback alone allows."""
    token: str = ""

    def channel(self) -> grpc.aio.Channel:
        """Open a channel, which connects when it is used."""
        if self.ca is None:
            return grpc.aio.insecure_channel(self.target, options=_CHANNEL_OPTIONS)
        credentials = grpc.ssl_channel_credentials(self.ca)
        return grpc.aio.secure_channel(self.target, credentials, options=_CHANNEL_OPTIONS)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What each request carries."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()


class LinkUser(Protocol):
    """Whom the link works for."""

    def take_event(self, event: pb.Event) -> None:
        """An event of the engine, each once and in order."""

    def take_status(self, status: pb.Status) -> None:
        """The engine's counts."""

    def attended(self) -> None:
        """The engine is there, and knows what it knew."""

    def away(self) -> None:
        """The stream has broken; the engine may go on with all it has."""

    def lost(self) -> None:
        """All that the engine had of this session is gone."""


class MediaLink:
    """Sends commands in few messages: those of a few milliseconds go together."""

    def __init__(
        self,
        address: MediaAddress,
        user: LinkUser,
        *,
        node: str,
        stock: dict[str, int],
        lost_after_s: float,
    ) -> None:
        self._address = address
        self._user = user
        self._node = node
        self._stock = [pb.Stock(local_ip=ip, ports=count) for ip, count in stock.items()]
        self._lost_after_s = lost_after_s
        self.sessions = [uuid4().hex]
        """Of this process, the present one last."""
        self.channel = address.channel()
        self.stub = MediaServiceStub(self.channel)
        self.is_up = False
        self.reason = ""
        """Why it is not up, as far as it is known."""
        self.fingerprint = ""
        """Of the engine's DTLS certificate; another one after its restart."""
        self._engine = ""
        self._commands: Numbered[pb.Command] = Numbered()
        self._events = SeenCount()
        self._news = asyncio.Event()
        self._giving_up: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect, and keep connected."""
        self._running = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """End the stream; the engine keeps what was not closed."""
        if self._running is not None:
            await end_tasks([self._running])
        if self._giving_up is not None:
            self._giving_up.cancel()
        await self.channel.close(None)

    def send(self, command: pb.Command) -> None:
        """Queue a command; it goes with all others of these milliseconds."""
        self._commands.append(command)
        self._news.set()

    # The stream, again and again

    async def _run(self) -> None:
        while True:
            pause_s = _RETRY_S
            try:
                await self._attend()
            except grpc.aio.AioRpcError as error:
                self.reason = error.details() or error.code().name
                if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                    pause_s = _RETRY_REFUSED_S
                    _log.error(
                        "media_engine_refuses_us",
                        target=self._address.target,
                        reason=self.reason,
                    )
                elif self.is_up:
                    _log.warning("media_engine_away", reason=self.reason)
            except TimeoutError:
                self.reason = _SILENT if self._address.ca is None else _SILENT_OR_STRANGE
                _log.warning("media_engine_silent", target=self._address.target, reason=self.reason)
            except Exception:  # noqa: BLE001 - without a link there are no calls at all
                _log.exception("media_link_failed", target=self._address.target)
            self._break()
            await asyncio.sleep(pause_s)

    def _break(self) -> None:
        if not self.is_up:
            return
        self.is_up = False
        loop = asyncio.get_running_loop()
        self._giving_up = loop.call_later(self._lost_after_s, self._give_up)
        self._user.away()

    def _give_up(self) -> None:
        """Its calls have been ended meanwhile: what the engine still has is to be closed."""
        self.sessions.append(uuid4().hex)
        self._begin_again()

    def _begin_again(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        self._engine = ""
        self._commands.clear()
        self._events.clear()
        self._user.lost()

    async def _attend(self) -> None:
        hello = self._hello()
        call = self.stub.Control(None, metadata=self._address.metadata, wait_for_ready=True)
        try:
            async with asyncio.timeout(_WELCOME_WITHIN_S):
                await call.write(pb.NodeMessage(hello=hello))
                first = await call.read()
            if not isinstance(first, pb.EngineMessage):
                return
            if hello.session != self.sessions[-1]:
                return  # given up while we waited: this is the stream of a session that is over
            self._welcomed(first.welcome, first.seen_command)
            writing = asyncio.get_running_loop().create_task(self._write(call))
            try:
                while isinstance(message := await call.read(), pb.EngineMessage):
                    self._take(message)
            finally:
                await end_tasks([writing])
        finally:
            call.cancel()

    def _hello(self) -> pb.Hello:
        return pb.Hello(
            node=self._node,
            session=self.sessions[-1],
            engine=self._engine,
            seen_event=self._events.last,
            stock=self._stock,
            ended_sessions=self.sessions[:-1],
        )

    def _welcomed(self, welcome: pb.Welcome, seen_command: int) -> None:
        if not welcome.resumed and self._engine:
            self._begin_again()
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
        self._engine = welcome.engine
        self.fingerprint = welcome.fingerprint
        self._commands.rewind(seen_command)
        self._news.set()
        self.is_up = True
        self.reason = ""
        self._user.attended()

    def _take(self, message: pb.EngineMessage) -> None:
        self._commands.seen(message.seen_command)
        for event in self._events.new_of(message.first_event, message.events):
            self._user.take_event(event)
        if message.HasField("status"):
            self._user.take_status(message.status)
        if self._events.is_due:
            self._news.set()

    async def _write(
        self, call: grpc.aio.StreamStreamCall[pb.NodeMessage, pb.EngineMessage]
    ) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER_S)
            self._news.clear()
            while self._commands.has_news or self._events.is_due:
                number, commands = self._commands.take(MOST_IN_ONE_MESSAGE)
                await call.write(
                    pb.NodeMessage(
                        first_command=number, commands=commands, seen_event=self._events.told()
                    )
                )
