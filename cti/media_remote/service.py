"""The gRPC service of the media process: who may speak, and the streams of nodes and files."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import structlog
from google.protobuf.message import Message

from cti.media_remote.host import EngineHost
from cti.media_remote.node_session import NodeSession
from cti.media_remote.prompt_cache import FileVersion
from cti95598.media.v1 import media_pb2 as pb
from cti95598.media.v1.media_pb2_grpc import (
    MediaServiceServicer,
    add_MediaServiceServicer_to_server,
)
from domain.tasks import end_tasks

_log = structlog.get_logger(__name__)

MOST_IN_ONE_MESSAGE = 512
# A message costs far more than what is in it: commands or events of so long go together.
GATHER_S = 0.004
_PIECE_BYTES = 64 * 1024
_STATUS_EVERY_S = 1.0
_LONGEST_NAME = 100

OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

Context = grpc.aio.ServicerContext[Message, Message]


@dataclass(frozen=True, slots=True)
class _Attendance:
    """A stream that serves a session; a newer one takes over."""

    over: asyncio.Event


class MediaService(MediaServiceServicer):
    """Serves nodes that name themselves by a token, or on loopback whoever asks."""

    def __init__(self, host: EngineHost, tokens: Mapping[str, str]) -> None:
        """`tokens` by node; none: nodes are taken at their word."""
        self._host = host
        self._tokens = tokens
        self._attending: dict[str, _Attendance] = {}

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        add_MediaServiceServicer_to_server(self, server)

    async def Control(  # noqa: N802 - gRPC name
        self, request_iterator: AsyncIterator[pb.NodeMessage], context: Context
    ) -> AsyncIterator[pb.EngineMessage]:
        """See media.proto."""
        await self._admit(context, None)  # before anything of a stranger is read or waited for
        first = await anext(request_iterator, None)
        if first is None or not first.hello.session:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message is no hello")
            return
        hello = first.hello
        await self._admit(context, hello.node)
        former = self._attending.get(hello.node)
        if former is not None:
            former.over.set()
        attendance = self._attending[hello.node] = _Attendance(asyncio.Event())
        session, resumed = self._host.session(hello)
        _log.info("media_node_attends", node=hello.node, resumed=resumed)
        news = asyncio.Event()
        session.wake = news.set
        reading = asyncio.create_task(_read(request_iterator, session, attendance.over))
        ticking = asyncio.create_task(_tick(news))
        try:
            welcome = pb.Welcome(
                engine=self._host.engine_id,
                resumed=resumed,
                fingerprint=self._host.engine.fingerprint(),
            )
            yield pb.EngineMessage(welcome=welcome, seen_command=session.commands.told())
            status_due_s = 0.0
            while not attendance.over.is_set() and not session.is_given_up:
                message = pb.EngineMessage(seen_command=session.commands.told())
                message.first_event, events = session.events.take(MOST_IN_ONE_MESSAGE)
                message.events.extend(events)
                if self._host.now_s() >= status_due_s or session.has_left:
                    status_due_s = self._host.now_s() + _STATUS_EVERY_S * 0.9
                    message.status.CopyFrom(self._host.status(hello.node))
                yield message
                if not session.events.has_news:
                    news.clear()
                    await news.wait()
                    await asyncio.sleep(GATHER_S)
        finally:
            await end_tasks([reading, ticking])
            if self._attending.get(hello.node) is attendance:
                del self._attending[hello.node]
                session.wake = _nobody
                self._host.detached(session)
                _log.info("media_node_gone", node=hello.node, ports=len(session.ports))

    # Prompts

    async def HasPrompt(  # noqa: N802
        self, request: pb.HasPromptRequest, context: Context
    ) -> pb.HasPromptResponse:
        """See media.proto."""
        await self._admit(context, request.node)
        file = request.file
        version = FileVersion(request.node, file.path, file.modified_ns, file.size_bytes)
        known = self._host.prompts.bind(version, request.sha256)
        if known:
            self._host.prompt_known(version)
        return pb.HasPromptResponse(known=known)

    async def ShipPrompt(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.PromptPiece], context: Context
    ) -> pb.ShipPromptResponse:
        """See media.proto."""
        await self._admit(context, None)
        first = await anext(request_iterator, None)
        try:
            prompt = self._host.prompts.incoming("" if first is None else first.sha256)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise AssertionError from error
        try:
            piece = first
            while piece is not None:
                await asyncio.to_thread(prompt.write, piece.data)
                piece = await anext(request_iterator, None)
            self._host.prompts.keep(prompt, self._host.now_s())
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except OSError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error.strerror))
        finally:
            prompt.drop()
        return pb.ShipPromptResponse()

    # Recordings

    async def FetchRecording(  # noqa: N802
        self, request: pb.FetchRecordingRequest, context: Context
    ) -> AsyncIterator[pb.RecordingPiece]:
        """See media.proto."""
        await self._admit(context, request.node)
        path = self._host.spool.path(request.node, request.name)
        if path is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such recording")
            return
        offset = request.offset
        while data := await asyncio.to_thread(_read_piece, path, offset):
            yield pb.RecordingPiece(data=data)
            offset += len(data)

    async def ForgetRecording(  # noqa: N802
        self, request: pb.ForgetRecordingRequest, context: Context
    ) -> pb.ForgetRecordingResponse:
        """See media.proto."""
        await self._admit(context, request.node)
        self._host.spool.forget(request.node, request.name)
        return pb.ForgetRecordingResponse()

    async def _admit(self, context: Context, node: str | None) -> None:
        """Let nodes in that have their token; `None`: any node."""
        if node is not None and not 0 < len(node) <= _LONGEST_NAME:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no node's name")
        if not self._tokens:
            return
        given = _token(context)
        wanted = list(self._tokens.values()) if node is None else [self._tokens.get(node, "")]
        if not any(each and hmac.compare_digest(each.encode(), given) for each in wanted):
            _log.warning("media_node_refused", node=node, peer=context.peer())
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong token for this node")


async def _read(
    messages: AsyncIterator[pb.NodeMessage], session: NodeSession, over: asyncio.Event
) -> None:
    """Take what a node says until its stream ends or another one takes over."""
    try:
        async for message in messages:
            if over.is_set():
                return
            session.events.seen(message.seen_event)
            session.apply(message.first_command, message.commands)
            if session.commands.is_due:
                session.wake()
    finally:
        over.set()
        session.wake()


def _token(context: Context) -> bytes:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            return value.removeprefix("Bearer ").encode()
    return b""


def _read_piece(path: Path, offset: int) -> bytes:
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(offset)
        return file.read(_PIECE_BYTES)
    return b""


async def _tick(news: asyncio.Event) -> None:
    while True:
        await asyncio.sleep(_STATUS_EVERY_S)
        news.set()


def _nobody() -> None:
    """Nobody attends."""
