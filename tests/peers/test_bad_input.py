"""What the whole platform does with bad input and lost parts: the RFC's answer, and a record."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cti import audio
from cti.phone import Phone, PhoneSettings
from cti.sip.endpoint import SipEndpoint
from cti.sip.sessions.session import SessionEnd, SessionObserverBase
from cti.sip.user_agent import UserAgent
from cti95598.agents.v1 import agents_pb2 as pb
from domain.failures import Code, PlatformError
from tests.media.peer import FRAME, PCMA_SILENCE, Peer, rtp
from tests.peers.bench import Bench
from tests.peers.sipp import Sipp
from tests.peers.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.asyncio(loop_scope="session")]

# The last packet of a key of 100 ms (RFC 4733 2.3).
KEY_ONE = bytes([1, 0x8A, 3, 0x20])
KEY_TWO = bytes([2, 0x8A, 3, 0x20])


class Datagrams(asyncio.DatagramProtocol):
    """A bare UDP socket."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.received.put_nowait(data)


async def test_malformed_sip_is_answered_or_dropped_and_counted(bench: Bench) -> None:
    loop = asyncio.get_running_loop()
    transport, socket = await loop.create_datagram_endpoint(
        Datagrams, remote_addr=("127.0.0.1", bench.platform.ports.sip)
    )
    before = await bench.metric("sip_malformed_total")
    try:
        for garbage in (
            b"\xff" * 1200,
            b"INVITE\r\n\r\n",
            b"SIP/2.0 999 \r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
        ):
            transport.sendto(garbage)
        transport.sendto(
            b"OPTIONS sip:95598@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKx;"
            b"rport\r\nMax-Forwards: seventy\r\nFrom: <sip:a@127.0.0.1>;tag=1\r\n"
            b"To: <sip:95598@127.0.0.1>\r\nCall-ID: bad@test\r\nCSeq: one OPTIONS\r\n\r\n"
        )
        answer = await asyncio.wait_for(socket.received.get(), 5)
        assert answer.startswith(b"SIP/2.0 400 ")
    finally:
        transport.close()

    async def counted() -> bool:
        return await bench.metric("sip_malformed_total") >= before + 5

    await wait_until(counted, 5, "five malformed messages counted")
    assert "Traceback" not in bench.platform_log()


class Caller(SessionObserverBase):
    """A caller who sends a description of the test's own, and media of the test's own."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.answered: asyncio.Future[bytes] = loop.create_future()
        self.ended: asyncio.Future[SessionEnd] = loop.create_future()

    def on_answered(self, sdp: bytes) -> None:
        self.answered.set_result(sdp)

    def on_ended(self, end: SessionEnd) -> None:
        self.ended.set_result(end)


@asynccontextmanager
async def calling(bench: Bench, number: str, access_code: str, sdp: bytes) -> AsyncIterator[Caller]:
    endpoint = SipEndpoint(user_agent="test")
    user_agent = UserAgent(endpoint, on_invite=lambda session: session.reject(status=486))
    await endpoint.listen("udp", "127.0.0.1", 0)
    caller = Caller()
    try:
        user_agent.invite(
            bench.platform.access_url(access_code),
            from_=f"sip:{number}@127.0.0.1",
            hop=bench.platform.sip,
            sdp=sdp,
            observer=caller,
        )
        yield caller
    finally:
        await endpoint.aclose()


def alaw_offer(port: int) -> bytes:
    return (
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"
    ).encode()


def answered_port(sdp: bytes) -> int:
    media = re.search(rb"^m=audio (\d+) ", sdp, re.MULTILINE)
    assert media is not None, sdp
    return int(media[1])


@pytest.mark.parametrize(
    ("sdp", "status", "cause", "counted"),
    [
        (b"v=0\r\nm=audio nonsense\r\n", 400, "sdp_malformed", 1),
        (
            (
                b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
                b"m=audio 4000 RTP/AVP 18\r\n"
            ),
            488,
            "no_common_codec",
            0,
        ),
    ],
)
async def test_a_description_of_no_use_gets_its_status_and_a_record(
    bench: Bench, sdp: bytes, status: int, cause: str, counted: int
) -> None:
    before = await bench.metric("sdp_malformed_total")
    number = bench.caller_number()
    async with calling(bench, number, "96000", sdp) as caller:
        end = await asyncio.wait_for(caller.ended, 5)
    assert end.status == status
    record = (await bench.record_of(number)).record
    assert (record["cause"], record["sip_status"]) == (cause, status)
    assert await bench.metric("sdp_malformed_total") == before + counted
    assert "Traceback" not in bench.platform_log()


async def test_damaged_and_foreign_rtp_is_counted_and_not_heard(bench: Bench) -> None:
    before = await bench.metric("media_packets_invalid")
    number = bench.caller_number()
    mine, stranger = await Peer.open(), await Peer.open("127.0.0.2")
    damaged = [b"\x80", b"\xff" * 40, bytes(1500)]
    foreign = [rtp(8, 1, 0, PCMA_SILENCE), rtp(101, 2, 160, KEY_TWO)]
    voice = [rtp(8, index, index * FRAME, PCMA_SILENCE) for index in range(5)]
    async with calling(bench, number, "96001", alaw_offer(mine.port)) as caller:
        port = answered_port(await asyncio.wait_for(caller.answered, 5))
        await mine.wait(1)
        # Nothing valid has been heard, so the socket still takes datagrams from anywhere.
        for datagram in damaged:
            mine.send(datagram, port)
        for datagram in foreign:
            stranger.send(datagram, port)
        # From now on the kernel may drop what is foreign, uncounted.
        for good in voice:
            mine.send(good, port)
            mine.send(damaged[0], port)
            stranger.send(foreign[0], port)
        mine.send(rtp(101, len(voice), 9000, KEY_ONE), port)
        end = await asyncio.wait_for(caller.ended, 5)
    assert end.by_peer
    report = await bench.record_of(number)
    assert report.record["cause"] == "flow_ended"
    assert [(row["flow_node"], row["digits"]) for row in report.steps][:1] == [("welcome", "1")]
    assert report.record["packets_received"] == len(voice) + 1
    surely = len(damaged) + len(foreign) + len(voice)
    assert surely <= report.record["packets_invalid"] <= surely + len(voice)

    async def counted() -> bool:
        return await bench.metric("media_packets_invalid") >= before + surely

    await wait_until(counted, 5, "damaged RTP counted")
    assert "Traceback" not in bench.platform_log()


async def test_a_wrong_sip_password_is_refused(bench: Bench) -> None:
    phone = Phone(PhoneSettings(user="1001"), bench.media)
    await phone.open()
    try:
        with pytest.raises(PlatformError) as refusal:
            await phone.register(bench.platform.sip, "not the password")
        assert refusal.value.code is Code.AUTHENTICATION_FAILED
    finally:
        await phone.aclose()


async def test_an_unknown_access_code_gets_404_and_a_record(bench: Bench) -> None:
    number = bench.caller_number()
    async with bench.phone(number) as caller:
        call = caller.dial(bench.platform.access_url("95599"), bench.platform.sip)
        with pytest.raises(PlatformError):
            await call.wait_answered(5)
        assert (await call.wait_ended(1)).status == 404
    report = await bench.record_of(number)
    assert report.record["cause"] == "access_code_unknown"
    assert report.record["outcome"] == "refused"


async def test_a_call_returns_to_the_queue_when_the_phone_is_gone(bench: Bench) -> None:
    number = bench.caller_number()
    gone = Sipp(bench.directory("gone"))
    try:
        password = bench.phone_password("1001")
        await gone.start("register", bench.server, service="1001", au="1001", ap=password)
        await gone.succeeded("register")
    finally:
        await gone.stop()
    async with bench.phone(number) as caller:
        call = caller.dial(bench.platform.access_url("96000"), bench.platform.sip)
        await call.wait_answered(5)
        await call.press("1")
        async with bench.toolbar("1001") as toolbar:
            await toolbar.reached(pb.AGENT_STATE_RINGING)
            await wait_until(
                lambda: toolbar.state == pb.AGENT_STATE_NOT_READY, 10, "1001 put to not ready"
            )
            async with (
                bench.phone("1002", register=True, auto_answer=True) as phone,
                bench.toolbar("1002") as second,
            ):
                agent = await phone.next_call(10)
                await second.reached(pb.AGENT_STATE_TALKING)
                call.hang_up()
                await agent.wait_ended(5)
    report = await bench.record_of(number)
    assert report.record["agent"] == "1002"
    assert report.record["offers"] == 2
    assert len(report.visits) == 1


async def test_no_agent_is_ready_without_a_phone(bench: Bench) -> None:
    async with bench.toolbar("1005", ready=False) as toolbar:
        result = await toolbar.client.ready()
        assert not result.accepted
        assert result.code == "phone_not_registered"


async def test_a_call_returns_to_the_queue_when_nobody_picks_up(bench: Bench) -> None:
    number = bench.caller_number()
    async with (
        bench.phone(number) as caller,
        bench.phone("1003", register=True) as deaf,
        bench.toolbar("1003") as toolbar,
    ):
        call = caller.dial(bench.platform.access_url("96000"), bench.platform.sip)
        await call.wait_answered(5)
        await call.press("1")
        ringing = await deaf.next_call(10)
        await ringing.wait_ended(10)
        await wait_until(
            lambda: toolbar.state == pb.AGENT_STATE_NOT_READY, 10, "1003 put to not ready"
        )
        assert (await toolbar.client.ready()).accepted
        again = await deaf.next_call(10)
        again.answer()
        await wait_until(lambda: toolbar.state == pb.AGENT_STATE_TALKING, 5, "talking")
        call.hang_up()
    report = await bench.record_of(number)
    assert report.record["offers"] == 2
    assert len(report.visits) == 1


@pytest.mark.parametrize("store", ["redis-server", "postgres"])
async def test_a_caller_waits_on_while_a_store_is_killed_and_restarted(
    bench: Bench, store: str
) -> None:
    number = bench.caller_number()
    async with (
        bench.phone("1004", register=True, auto_answer=True) as phone,
        bench.phone(number) as caller,
    ):
        call = caller.dial(
            bench.platform.access_url("96000"),
            bench.platform.sip,
            record=bench.directory("caller") / "heard.wav",
        )
        await call.wait_answered(5)
        await call.press("1")
        await call.wait_heard(lambda heard: music_ms(heard) > 1000, 10)
        pid = bench.child(store)
        os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: bench.child(store) not in {0, pid}, 30, f"{store} restarted")
        at_restart_ms = call.heard().duration_ms
        await call.wait_heard(lambda heard: music_ms(heard.between(at_restart_ms)) > 1000, 10)
        await wait_until(bench.is_healthy, 20, "healthy again")
        async with bench.toolbar("1004") as toolbar:
            agent = await phone.next_call(15)
            await toolbar.reached(pb.AGENT_STATE_TALKING)
            call.hang_up()
            await agent.wait_ended(5)
    report = await bench.record_of(number, timeout_s=30)
    assert report.record["agent"] == "1004"
    assert [row["flow_node"] for row in report.steps] == ["welcome", "wait"]


def music_ms(heard: audio.Sound) -> int:
    """How long something has been heard without a pause, up to now."""
    spans = audio.sound_spans(heard)
    return spans[-1].duration_ms if spans else 0
