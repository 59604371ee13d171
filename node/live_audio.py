"""Live audio of calls over gRPC, for programs that may hear them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import grpc
import grpc.aio
import structlog
from google.protobuf.message import Message

from agents.service import bearer_token, peer_address
from cti.calls.listening import HeardPiece, Listening
from cti95598.events.v1.events_pb2 import LiveAudioClosed, LiveAudioOpened
from cti95598.recording.v1 import live_audio_pb2 as pb
from cti95598.recording.v1.live_audio_pb2_grpc import (
    LiveAudioServicer,
    add_LiveAudioServicer_to_server,
)
from domain.events import EventStamp
from domain.failures import CATALOGUE, Code, PlatformError
from domain.ids import CallId, TenantId, time_ordered_id
from node.clients import Clients, Right

_log = structlog.get_logger(__name__)

SAMPLE_RATE_HZ = 8000
ENCODING = "pcm_s16le"

Context = grpc.aio.ServicerContext[Message, Message]
Listen = Callable[[TenantId, CallId], Listening]
"""Begins to hear a tenant's call; PlatformError."""


class LiveAudioService(LiveAudioServicer):
    """Checks who asks, passes on what is heard, and tells the events who heard it."""

    def __init__(self, clients: Clients, listen: Listen, events: EventStamp) -> None:
        self._clients = clients
        self._listen = listen
        self._events = events

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        add_LiveAudioServicer_to_server(self, server)

    async def Listen(  # noqa: N802 - gRPC name
        self, request: pb.ListenRequest, context: Context
    ) -> AsyncIterator[pb.ListenResponse]:
        """Hear both sides of a call until it ends, or the client leaves."""
        token, source = bearer_token(context), peer_address(context.peer())
        refused: PlatformError | None = None
        try:
            tenant, client = self._clients.authorized(token, Right.AUDIO_LIVE)
            listening = self._listen(tenant, CallId(request.call_id))
        except PlatformError as error:
            _log.warning("live_audio_refused", source=source, reason=str(error.code))
            await _abort(context, error)
            raise AssertionError from error  # abort has raised
        stream_id = time_ordered_id()
        opened = LiveAudioOpened(listening=stream_id, client=client, source_address=source)
        self._events.publish(tenant, opened, call_id=listening.info.call_id)
        try:
            yield pb.ListenResponse(call=_facts(listening))
            while (piece := await listening.next()) is not None:
                # Whoever may hear no more hears no more, without waiting for the call's end.
                self._clients.authorized(token, Right.AUDIO_LIVE)
                yield pb.ListenResponse(piece=_piece(piece))
            yield pb.ListenResponse(end=_end(listening))
        except PlatformError as error:
            refused = error
        finally:
            cause = refused.code if refused is not None else listening.cause
            listening.close()
            closed = LiveAudioClosed(
                listening=stream_id,
                client=client,
                heard_ms=listening.taken_ms,
                dropped_ms=listening.dropped_ms,
            )
            self._events.publish(tenant, closed, call_id=listening.info.call_id, cause=cause)
        if refused is not None:
            await _abort(context, refused)


async def _abort(context: Context, error: PlatformError) -> None:
    failure = error.failure
    words = f"{failure.zh} / {failure.en}"
    await context.abort(grpc.StatusCode[failure.grpc_status], f"{error.code}: {words}")


def _facts(listening: Listening) -> pb.CallFacts:
    info = listening.info
    return pb.CallFacts(
        call_id=info.call_id,
        access_code=info.access_code,
        language=listening.language,
        arrived_unix_us=info.arrived_unix_us,
        began_unix_us=listening.began_unix_us,
        sample_rate_hz=SAMPLE_RATE_HZ,
        encoding=ENCODING,
    )


def _piece(piece: HeardPiece) -> pb.AudioPiece:
    return pb.AudioPiece(
        start_ms=piece.start_ms, left=piece.left, right=piece.right, dropped_ms=piece.dropped_ms
    )


def _end(listening: Listening) -> pb.CallAudioEnd:
    words = CATALOGUE[listening.cause or Code.FLOW_ENDED]
    return pb.CallAudioEnd(
        code=words.code,
        words_zh=words.zh,
        words_en=words.en,
        duration_ms=listening.taken_ms,
        dropped_ms=listening.dropped_ms,
    )
