"""A program hears a call over gRPC while it goes on, if it may."""

from __future__ import annotations

import asyncio
import io
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from rich.console import Console

from cti.audio import read_wav, tone_spans, write_tone
from cti.call import Call, DialTarget
from cti.calls.listening import MOST_WAITING_PIECES
from cti.media import TapAudio
from cti.media_engine import RtpEngine
from cti.rtp_port import MediaRouter
from cti.sdp import Direction
from cti95598.recording.v1 import live_audio_pb2 as pb
from cti95598.recording.v1.live_audio_pb2_grpc import LiveAudioStub
from domain.events import EventStamp
from domain.failures import Code
from domain.ids import NodeId, TenantId
from node.clients import Clients, ClientSettings, Right
from node.commands.listen import TwoSidedFile, listen
from node.live_audio import LiveAudioService
from node.toolbar_server import ToolbarServer
from tests.call_control.exchange import Exchange, Transferor, exchange_on, held
from tests.call_control.party import Party
from tests.call_control.platform import until
from tests.call_control.talking import serve
from tests.call_control.tone_media import ToneMedia
from tests.fakes.media import FakeMedia

CALLER_HZ, AGENT_HZ, EXPERT_HZ, MUSIC_HZ = 440, 1000, 1400, 800
TALK_MS = 600
END = grpc.aio.EOF  # type: ignore[attr-defined]


class Programs:
    """Clients and their tokens."""

    def __init__(self) -> None:
        self.rights: dict[str, frozenset[Right]] = {
            "asr": frozenset({Right.AUDIO_LIVE}),
            "other": frozenset(),
        }
        self.tenants = {"asr": "demo", "other": "demo", "stranger": "elsewhere"}

    def client(self, token: str) -> tuple[TenantId, str] | None:
        name = token.removeprefix("token of ")
        return (TenantId(self.tenants[name]), name) if name in self.tenants else None

    def settings(self, tenant: TenantId, client: str) -> ClientSettings | None:
        rights = self.rights.get(client, frozenset({Right.AUDIO_LIVE}))
        return ClientSettings(id=client, rights=rights)


@asynccontextmanager
async def served(exchange: Exchange, programs: Programs) -> AsyncIterator[str]:
    """The address of a gRPC server for the calls of an exchange."""
    events = EventStamp(NodeId("node-1"), exchange.sink)
    clients = Clients(lambda: programs, programs.settings)
    service = LiveAudioService(clients, exchange.control.listen, events)
    server = ToolbarServer(service, host="127.0.0.1", port=0)
    host, port = await server.start()
    yield f"{host}:{port}"
    await server.stop()


def stream(channel: grpc.aio.Channel, call_id: str, token: str = "token of asr") -> Any:
    stub: Any = LiveAudioStub(channel)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    return stub.Listen(pb.ListenRequest(call_id=call_id), metadata=metadata)


def call_id(exchange: Exchange) -> str:
    (arrived,) = (e for e in exchange.sink.events if e.HasField("call_arrived"))
    return arrived.call_id


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with exchange_on(tmp_path, FakeMedia()) as running:
        yield running


@pytest.fixture
async def carrier(exchange: Exchange) -> AsyncIterator[Party]:
    party = await exchange.carrier()
    yield party
    await party.endpoint.aclose()


@pytest.fixture
async def engine() -> AsyncIterator[RtpEngine]:
    engine = RtpEngine(port_min=33000, port_max=33499)
    yield engine
    await engine.aclose()


@pytest.fixture
async def far_ends() -> AsyncIterator[MediaRouter]:
    engine = RtpEngine(port_min=33500, port_max=33999)
    router = MediaRouter(engine)
    engine.on_event = router.on_event
    yield router
    await engine.aclose()


async def test_both_sides_are_heard_through_hold_and_transfer(
    tmp_path: Path, engine: RtpEngine, far_ends: MediaRouter
) -> None:
    exchange = Exchange(tmp_path, engine)
    await exchange.listen()
    tones = {
        hz: str(write_tone(tmp_path / f"{hz}.wav", hz, TALK_MS))
        for hz in (CALLER_HZ, AGENT_HZ, EXPERT_HZ, MUSIC_HZ)
    }
    exchange.hold_music = [Path(tones[MUSIC_HZ])]
    carrier = await Party().listen()
    agent, expert = await exchange.phone("1001"), await exchange.phone("1002")
    caller_media, agent_media, expert_media = (
        ToneMedia(far_ends, tmp_path / f"{name}-heard.wav")
        for name in ("caller", "agent", "expert")
    )
    carrier.sdp = caller_media.sdp
    agent.next_sdp, expert.next_sdp = agent_media.sdp, expert_media.sdp

    async def speak(media: ToneMedia, hz: int) -> None:
        media.played.clear()
        far_ends.engine.play(media.port.port_id, [tones[hz]])
        await asyncio.wait_for(media.played.wait(), 5)

    exchange.handler = _connect
    caller = carrier.call("95598", exchange.hop)
    phone = await agent.next_call()
    phone.answer()
    await agent_media.connect(phone)
    await caller_media.connect(caller)
    await until(lambda: "bridged" in exchange.sink.names)
    async with served(exchange, Programs()) as address:
        shown, heard = io.StringIO(), tmp_path / "heard.wav"
        listening = asyncio.create_task(
            listen(address, "token of asr", call_id(exchange), heard, Console(file=shown))
        )
        await until(lambda: "live_audio_opened" in exchange.sink.names)
        far_ends.engine.play(caller_media.port.port_id, [tones[CALLER_HZ]], loop=True)
        await speak(agent_media, AGENT_HZ)
        assert phone.session is not None
        phone.session.reinvite(held(phone, Direction.SENDONLY))
        await until(lambda: engine.figures()["taps"] == 1 and _holds(exchange))
        await speak(agent_media, AGENT_HZ)  # on hold nobody hears that
        asks = Transferor(agent, phone)
        asks.refer("sip:1002@cti95598")
        asked = await expert.next_call()
        asked.answer()
        await expert_media.connect(asked)
        await asks.told(200)
        await speak(expert_media, EXPERT_HZ)
        asked.hang_up()
        await caller.until_ended()
        await asyncio.wait_for(listening, 5)
    for media in (caller_media, agent_media, expert_media):
        await media.close()

    left, right = read_wav(heard)
    assert tone_spans(left, CALLER_HZ)
    assert not any(tone_spans(left, hz) for hz in (AGENT_HZ, EXPERT_HZ, MUSIC_HZ))
    (by_agent,), (by_expert,) = (tone_spans(right, hz) for hz in (AGENT_HZ, EXPERT_HZ))
    assert abs(by_agent.duration_ms - TALK_MS) <= 60
    assert abs(by_expert.duration_ms - TALK_MS) <= 60
    assert by_agent.end_ms + TALK_MS <= by_expert.start_ms
    assert not tone_spans(right, MUSIC_HZ)
    words = shown.getvalue()
    assert "开始收听 · listening" in words
    assert "通话结束" in words
    closed = exchange.sink.one("live_audio_closed")
    assert closed.client == "asr"
    assert closed.dropped_ms == 0
    assert closed.heard_ms == left.duration_ms
    assert engine.figures()["taps"] == 0
    await until(lambda: exchange.control.calls == 0)
    for party in (exchange, carrier, agent, expert):
        await party.endpoint.aclose()


def _holds(exchange: Exchange) -> bool:
    ((call, _),) = exchange.control._calls.values()
    return call.conversation is not None and bool(call.conversation.parties.hear_music())


async def _connect(call: Call) -> None:
    """A flow that connects its callers to phone 1001."""
    await call.answer()
    leg = await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)
    await call.bridge(leg, record_party="1001")


@pytest.mark.parametrize(
    ("token", "call", "status", "code"),
    [
        ("", "", grpc.StatusCode.UNAUTHENTICATED, Code.TOKEN_INVALID),
        ("nobody's", "", grpc.StatusCode.UNAUTHENTICATED, Code.TOKEN_INVALID),
        ("token of other", "", grpc.StatusCode.PERMISSION_DENIED, Code.RIGHT_MISSING),
        ("token of stranger", "", grpc.StatusCode.NOT_FOUND, Code.CALL_UNKNOWN),
        ("token of asr", "no such call", grpc.StatusCode.NOT_FOUND, Code.CALL_UNKNOWN),
    ],
)
async def test_who_may_not_hear_a_call_is_told_why(
    exchange: Exchange, carrier: Party, token: str, call: str, status: grpc.StatusCode, code: Code
) -> None:
    _, _, caller, phone = await serve(exchange, carrier)
    async with (
        served(exchange, Programs()) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stream(channel, call or call_id(exchange), token).read()
    assert refused.value.code() == status
    words = refused.value.details() or ""
    assert words.startswith(f"{code}: ")
    assert " / " in words
    assert "live_audio_opened" not in exchange.sink.names
    phone.hang_up()
    await caller.until_ended()


async def test_a_right_that_is_taken_away_ends_the_stream(
    exchange: Exchange, carrier: Party
) -> None:
    _, _, caller, phone = await serve(exchange, carrier)
    programs = Programs()
    media = exchange.media
    assert isinstance(media, FakeMedia)
    async with (
        served(exchange, programs) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        reading = stream(channel, call_id(exchange))
        facts = (await reading.read()).call
        assert (facts.sample_rate_hz, facts.encoding) == (8000, "pcm_s16le")
        (tap,) = media.taps
        media.on_event(TapAudio(tap, 0, bytes(3200), bytes(3200)))
        assert len((await reading.read()).piece.right) == 3200
        programs.rights["asr"] = frozenset()
        media.on_event(TapAudio(tap, 200, bytes(3200), bytes(3200)))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await reading.read()
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert not media.taps
        assert exchange.sink.cause("live_audio_closed") == Code.RIGHT_MISSING
    phone.hang_up()
    await caller.until_ended()


async def test_a_program_that_leaves_ends_the_tap(exchange: Exchange, carrier: Party) -> None:
    _, _, caller, phone = await serve(exchange, carrier)
    media = exchange.media
    assert isinstance(media, FakeMedia)
    async with (
        served(exchange, Programs()) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        reading = stream(channel, call_id(exchange))
        await reading.read()
        reading.cancel()
        await until(lambda: "live_audio_closed" in exchange.sink.names)
        assert not media.taps
        assert exchange.sink.cause("live_audio_closed") == ""
    assert exchange.control.calls == 1
    phone.hang_up()
    await caller.until_ended()


async def test_a_program_that_reads_slowly_is_told_what_it_missed(
    exchange: Exchange, carrier: Party
) -> None:
    _, _, caller, phone = await serve(exchange, carrier)
    media = exchange.media
    assert isinstance(media, FakeMedia)
    count = 40 * MOST_WAITING_PIECES
    async with (
        served(exchange, Programs()) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        reading = stream(channel, call_id(exchange))
        await reading.read()
        (tap,) = media.taps
        for index in range(count):  # faster than anybody can send
            media.on_event(TapAudio(tap, index * 200, bytes(3200), bytes(3200)))
        phone.hang_up()
        await caller.until_ended()
        pieces, end = [], None
        while (message := await reading.read()) is not END:
            if message.HasField("piece"):
                pieces.append(message.piece)
            else:
                end = message.end
    assert end is not None
    assert end.code == Code.FLOW_ENDED
    assert end.dropped_ms == pieces[-1].dropped_ms == (count - MOST_WAITING_PIECES) * 200
    assert len(pieces) == MOST_WAITING_PIECES
    closed = exchange.sink.one("live_audio_closed")
    assert (closed.heard_ms, closed.dropped_ms) == (count * 200, end.dropped_ms)


def test_what_was_dropped_is_silence_in_the_file(tmp_path: Path) -> None:
    file = TwoSidedFile(tmp_path / "two.wav", 8000)
    one, two = array("h", [1000] * 1600).tobytes(), array("h", [-2000] * 1600).tobytes()
    file.write(0, one, two)
    file.write(600, one, two)
    file.close()
    left, right = read_wav(tmp_path / "two.wav")
    assert left.duration_ms == right.duration_ms == 800
    assert set(left.between(0, 200).samples) == set(left.between(600).samples) == {1000}
    assert set(right.between(600).samples) == {-2000}
    assert set(left.between(200, 600).samples) == {0}
