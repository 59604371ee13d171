"""Video and fax between two phones, on real SIP with real datagrams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cti.media_engine import RtpEngine
from cti.sdp import Stream, parse_sdp
from domain.failures import Code
from tests.call_control.exchange import Exchange, Phone
from tests.call_control.party import PartyCall
from tests.call_control.platform import until
from tests.media.test_relay import UDPTL, FarEnd

H264 = (
    "a=rtpmap:97 H264/90000\r\na=fmtp:97 profile-level-id=42e01f;packetization-mode=1\r\n"
    "a=rtcp-fb:97 nack pli\r\na=ssrc:1 cname:secret@phone\r\n"
)
T38 = "a=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n"


def described(*streams: str, version: int = 1) -> bytes:
    head = f"v=0\r\no=- 7 {version} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    return (head + "".join(streams)).encode()


def audio(port: int) -> str:
    return f"m=audio {port} RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"


def video(port: int) -> str:
    return f"m=video {port} RTP/AVP 97\r\n{H264}" if port else "m=video 0 RTP/AVP 97\r\n"


def fax(port: int) -> str:
    return f"m=image {port} udptl t38\r\n{T38}" if port else "m=image 0 udptl t38\r\n"


class Line:
    """A phone's side of a call: its sockets, and what it says to changes."""

    def __init__(self) -> None:
        self.voice, self.picture, self.reports = FarEnd(), FarEnd(), FarEnd()
        self.reoffers: list[bytes] = []
        self.answers: list[bytes] = []
        self.refusals: list[Code] = []
        self.says: bytes | Code = Code.NO_COMMON_CODEC
        self.call: PartyCall | None = None

    def watch(self, call: PartyCall) -> None:
        self.call = call
        call.on_reoffer = self._on_reoffer  # type: ignore[method-assign]
        call.on_answered = self.answers.append  # type: ignore[method-assign,assignment]
        call.on_reoffer_refused = self.refusals.append  # type: ignore[method-assign,assignment]

    def _on_reoffer(self, sdp: bytes) -> bytes | Code:
        self.reoffers.append(sdp)
        return self.says

    def reinvite(self, *streams: str, version: int) -> None:
        assert self.call is not None
        assert self.call.session is not None
        self.call.session.reinvite(described(*streams, version=version))


def stream(sdp: bytes, kind: str) -> Stream:
    (found,) = (each for each in parse_sdp(sdp).streams if each.kind == kind)
    return found


async def obeyed(exchange: Exchange) -> None:
    """Wait until the engine has obeyed what it was told so far."""
    router, closed = exchange.control._router, asyncio.Event()
    port, _ = router.engine.open_port("127.0.0.1")
    router.ports[port] = lambda _event: closed.set()
    router.engine.close_port(port)
    await asyncio.wait_for(closed.wait(), 10)


async def both_ways(one: FarEnd, one_number: int, other: FarEnd, other_number: int) -> None:
    """Let datagrams pass between two far ends, each given the platform's port towards it."""
    for datagram in (UDPTL, bytes(range(200))):
        one.send(datagram, one_number)
        assert await other.receive() == (datagram, other_number)
        other.send(datagram[::-1], other_number)
        assert await one.receive() == (datagram[::-1], one_number)


@pytest.fixture
async def exchange(tmp_path: Path, engine: RtpEngine) -> AsyncIterator[Exchange]:
    exchange = Exchange(tmp_path, engine)
    await exchange.listen()
    yield exchange
    await exchange.control.aclose()
    await until(lambda: exchange.user_agent.session_count == 0)
    for phone in exchange.phones.values():
        await phone.endpoint.aclose()
    await exchange.endpoint.aclose()
    assert engine.figures()["ports"] == 0


@pytest.fixture
async def one(exchange: Exchange) -> Phone:
    return await exchange.phone("1001")


@pytest.fixture
async def two(exchange: Exchange) -> Phone:
    return await exchange.phone("1002")


async def talking(exchange: Exchange, one: Phone, two: Phone) -> tuple[Line, Line]:
    """Two phones that talk, the caller first."""
    near, far = Line(), Line()
    one.next_sdp = described(audio(near.voice.number))
    two.next_sdp = described(audio(far.voice.number))
    call = one.dial("1002")
    rung = await two.next_call()
    rung.answer()
    await call.until_answered()
    await until(lambda: "bridged" in exchange.sink.names)
    near.watch(call)
    far.watch(rung)
    return near, far


@pytest.mark.parametrize("by_caller", [True, False])
@pytest.mark.parametrize("in_place", [True, False])
async def test_a_fax_goes_over_and_back(
    exchange: Exchange, one: Phone, two: Phone, by_caller: bool, in_place: bool
) -> None:
    near, far = await talking(exchange, one, two)
    asking, asked = (near, far) if by_caller else (far, near)
    rest = "" if in_place else "m=audio 0 RTP/AVP 8\r\n"
    asked.says = described(rest, fax(asked.picture.number), version=2)
    asking.reinvite(rest, fax(asking.picture.number), version=2)
    await until(lambda: asking.answers)
    theirs, ours = stream(asked.reoffers[0], "image"), stream(asking.answers[0], "image")
    assert ("T38MaxBitRate", "14400") in [(n, v) for n, v in _spelt(asked.reoffers[0])]
    assert len(parse_sdp(asked.reoffers[0]).streams) == (1 if in_place else 2)
    assert asking.picture.number != theirs.port
    await obeyed(exchange)
    await both_ways(asking.picture, ours.port, asked.picture, theirs.port)

    asked.says = described(audio(asked.voice.number), "" if in_place else fax(0), version=3)
    asking.reinvite(audio(asking.voice.number), "" if in_place else fax(0), version=3)
    await until(lambda: len(asking.answers) == 2)
    assert stream(asked.reoffers[1], "audio").port
    assert stream(asking.answers[1], "audio").port
    assert asking.call is not None
    asking.call.hang_up()
    assert asked.call is not None
    await asked.call.until_ended()


def _spelt(sdp: bytes) -> list[tuple[str, str]]:
    lines = [line[2:] for line in sdp.decode().split("\r\n") if line.startswith("a=")]
    return [(line.partition(":")[0], line.partition(":")[2]) for line in lines]


async def test_a_fax_that_is_refused_stays_audio(
    exchange: Exchange, one: Phone, two: Phone
) -> None:
    near, far = await talking(exchange, one, two)
    far.says = Code.NO_COMMON_CODEC
    near.reinvite(fax(near.picture.number), version=2)
    await until(lambda: near.refusals)
    assert near.refusals == [Code.NO_COMMON_CODEC]
    assert len(far.reoffers) == 1
    # Both can still change their audio.
    near.reinvite(audio(near.voice.number), version=2)
    await until(lambda: near.answers)
    assert stream(near.answers[0], "audio").port
    assert len(far.reoffers) == 1


async def test_who_leaves_while_the_other_one_is_asked(
    exchange: Exchange, one: Phone, two: Phone
) -> None:
    near, far = await talking(exchange, one, two)
    assert near.call is not None
    assert far.call is not None

    def hang_up(sdp: bytes) -> bytes | Code:
        assert near.call is not None
        near.call.hang_up()
        return described(fax(far.picture.number), version=2)

    far.call.on_reoffer = hang_up  # type: ignore[method-assign]
    near.reinvite(fax(near.picture.number), version=2)
    await far.call.until_ended()
    await near.call.until_ended()


async def test_video_from_the_first_invite(exchange: Exchange, one: Phone, two: Phone) -> None:
    near, far = Line(), Line()
    one.next_sdp = described(audio(near.voice.number), video(near.picture.number))
    two.next_sdp = described(
        audio(far.voice.number), video(far.picture.number),
        f"a=rtcp:{far.reports.number} IN IP4 127.0.0.1\r\n",
    )  # fmt: skip
    call = one.dial("1002")
    rung = await two.next_call()
    assert rung.session is not None
    offered = stream(rung.session.offer, "video")
    assert offered.port
    assert b"secret" not in rung.session.offer
    assert "profile-level-id=42e01f" in (offered.value("fmtp") or "")
    rung.answer()
    answer = await call.until_answered()
    await until(lambda: "bridged" in exchange.sink.names)
    told = stream(answer, "video")
    assert stream(answer, "audio").port
    await obeyed(exchange)
    await both_ways(near.picture, told.port, far.picture, offered.port)
    # RTCP: the far end told its port, the caller's is the one above.
    reports = int((told.value("rtcp") or "").split()[0])
    near.picture.send(b"report", reports)
    assert (await far.reports.receive())[0] == b"report"
    call.hang_up()
    await rung.until_ended()


@pytest.mark.parametrize("takes", [True, False])
async def test_video_that_is_added(exchange: Exchange, one: Phone, two: Phone, takes: bool) -> None:
    near, far = await talking(exchange, one, two)
    number = far.picture.number if takes else 0
    far.says = described(audio(far.voice.number), video(number), version=2)
    near.reinvite(audio(near.voice.number), video(near.picture.number), version=2)
    await until(lambda: near.answers)
    told = stream(near.answers[0], "video")
    assert stream(near.answers[0], "audio").port
    assert bool(told.port) is takes
    if not takes:
        return
    offered = stream(far.reoffers[0], "video")
    await obeyed(exchange)
    await both_ways(near.picture, told.port, far.picture, offered.port)
    # A hold of the audio is nothing to ask the other side about.
    near.reinvite(
        audio(near.voice.number) + "a=sendonly\r\n", video(near.picture.number), version=3
    )
    await until(lambda: len(near.answers) == 2)
    assert len(far.reoffers) == 1
    assert stream(near.answers[1], "video").port == told.port
    await obeyed(exchange)
    await both_ways(near.picture, told.port, far.picture, offered.port)


async def test_a_flow_takes_no_video(exchange: Exchange, one: Phone) -> None:
    line = Line()
    one.next_sdp = described(audio(line.voice.number), video(line.picture.number))

    async def answers(call: object) -> None:
        await call.answer()  # type: ignore[attr-defined]
        await asyncio.get_running_loop().create_future()

    exchange.handler = answers
    call = one.dial("95598")
    answer = await call.until_answered()
    assert stream(answer, "audio").port
    assert not stream(answer, "video").port
    call.hang_up()
