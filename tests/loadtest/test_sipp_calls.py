"""Calls that follow a sipp scenario: against a far end of the test, sipp, and our own platform."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import cast

import pytest

from cti.phone import Phone, PhoneSettings, phone_media
from loadtest.figures.tally import Tally
from loadtest.generator.media import Media
from loadtest.generator.platform import own_platform
from loadtest.generator.run import play
from loadtest.generator.sip_text import Address
from loadtest.generator.sipp_calls import SippCalls
from loadtest.rtp_capture import write_capture
from loadtest.scenario.loader import load_scenario
from loadtest.scenario.model import Sipp
from tests.peers.waiting import wait_until

LOADTEST = Path(__file__).parents[2] / "loadtest"
HEAD = """\
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
From: <sip:a@[local_ip]>;tag=[call_number]
To: <sip:b@[remote_ip]>[peer_tag_param]
Call-ID: [call_id]
Max-Forwards: 70
Contact: <sip:a@[local_ip]:[local_port]>
Content-Length: 0"""


async def eventually(condition: Callable[[], bool]) -> None:
    await wait_until(condition, 20, "what the test waits for")


def sends(method: str, attributes: str = "", head: str = HEAD, uri: str = "sip:b@far") -> str:
    text = f"{method} {uri} SIP/2.0\n{head}\nCSeq: [cseq] {method}"
    return f"<send {attributes}><![CDATA[\n{text}\n]]></send>\n"


class FarEnd(asyncio.DatagramProtocol):
    """A socket that keeps what came, and answers as a test says."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.source: Address = ("", 0)
        self.answers: list[str] = []
        """Status lines, each for the next request that is no ACK; empty: none."""
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, source: Address) -> None:
        text = data.decode()
        self.came.append(text)
        self.source = source
        if text.startswith(("SIP/2.0", "ACK")) or not self.answers:
            return
        status = self.answers.pop(0)
        if status:
            self.answer(text, status)

    def answer(self, request: str, status: str, extra: str = "") -> None:
        names = ("via:", "from:", "call-id:", "cseq:")
        lines = [one for one in request.split("\r\n") if one.lower().startswith(names)]
        to = next(one for one in request.split("\r\n") if one.startswith("To:"))
        to = to if "tag=" in to else f"{to};tag=far"
        self.send([f"SIP/2.0 {status}", *lines, to, "Contact: <sip:b@far>", *extra.splitlines()])

    def send(self, lines: list[str]) -> None:
        assert self.transport is not None
        self.transport.sendto(
            "\r\n".join([*lines, "Content-Length: 0", "", ""]).encode(), self.source
        )

    def methods(self) -> list[str]:
        return [one.split(" ")[0] for one in self.came]


class Bench:
    """A scenario, its calls, and what came of them."""

    def __init__(self, calls: SippCalls, tally: Tally, far: FarEnd) -> None:
        self.calls, self.tally, self.far = calls, tally, far
        self._over: asyncio.Queue[object] = asyncio.Queue()

    async def call(self) -> Tally:
        """Make one call, and return the tally when it is over."""
        self.begin()
        return await self.over()

    def begin(self) -> None:
        self.calls.start_call(self.tally, self._over.put_nowait)

    async def over(self) -> Tally:
        async with asyncio.timeout(20):
            await self._over.get()
        return self.tally


@asynccontextmanager
async def bench(folder: Path, steps: str, **plan: object) -> AsyncIterator[Bench]:
    (folder / "scenario.xml").write_text(f"<scenario>\n{steps}</scenario>")
    loop = asyncio.get_running_loop()
    transport, far = await loop.create_datagram_endpoint(FarEnd, local_addr=("127.0.0.1", 0))
    media = Media("127.0.0.1")
    sipp = Sipp.model_validate({"file": str(folder / "scenario.xml"), **plan})
    address = transport.get_extra_info("sockname")
    calls = SippCalls(sipp, address, media, Random(1))
    await calls.open()
    try:
        yield Bench(calls, Tally(loop.time), far)
    finally:
        await calls.aclose()
        await media.aclose()
        transport.close()


CALL = (
    sends("INVITE", 'retrans="500"')
    + '<recv response="180" optional="true"/><recv response="200" rrs="true"/>\n'
    + sends("ACK")
    + '<recv request="BYE"/>\n'
)


async def test_a_call_is_counted_from_its_dialling_to_its_end(tmp_path: Path) -> None:
    async with bench(tmp_path, CALL.replace('<recv request="BYE"/>', "<pause/>")) as one:
        one.far.answers = ["200 OK"]
        tally = await one.call()
        assert (tally.offered, tally.answered, tally.completed, tally.live) == (1, 1, 1, 0)
        assert tally.setup_s.count == tally.post_dial_delay_s.count == 1
        invite, ack = one.far.came
        assert "CSeq: 1 INVITE" in invite
        assert "To: <sip:b@127.0.0.1>;tag=far" in ack


async def test_a_request_is_sent_again_until_it_is_answered(tmp_path: Path) -> None:
    steps = sends("OPTIONS", 'retrans="20"') + '<recv response="200"/>'
    async with bench(tmp_path, steps) as one:
        one.far.answers = ["", "", "200 OK"]
        tally = await one.call()
        assert one.far.came[0] == one.far.came[1] == one.far.came[2]
        assert (tally.completed, tally.retransmissions) == (1, 2)


async def test_a_request_that_nobody_answers_fails_in_the_end(tmp_path: Path) -> None:
    steps = sends("INVITE", 'retrans="5"') + '<recv response="200"/>'
    async with bench(tmp_path, steps) as one:
        tally = await one.call()
        assert tally.failed == {"timeout": 1}
        assert one.far.methods() == ["INVITE"] * 6


async def test_what_comes_again_is_answered_again_also_after_the_end(tmp_path: Path) -> None:
    async with bench(tmp_path, CALL.replace('<recv request="BYE"/>', "<pause/>")) as one:
        one.far.answers = ["200 OK"]
        tally = await one.call()
        one.far.answer(one.far.came[0], "200 OK")
        await eventually(lambda: len(one.far.came) == 3)
        assert one.far.came[2] == one.far.came[1]
        assert (tally.retransmissions_received, tally.retransmissions) == (1, 1)


async def test_a_refusal_is_acknowledged_and_named(tmp_path: Path) -> None:
    async with bench(tmp_path, CALL) as one:
        one.far.answers = ["503 Service Unavailable"]
        tally = await one.call()
        await eventually(lambda: one.far.methods() == ["INVITE", "ACK"])
        assert tally.failed == {"503": 1}
        assert tally.refusal_s.count == 1
        via = one.far.came[0].split("\r\n")[1]
        assert via in one.far.came[1]  # the same transaction


async def test_a_call_that_is_given_up_is_hung_up(tmp_path: Path) -> None:
    async with bench(tmp_path, CALL) as one:
        one.far.answers = ["200 OK", "200 OK"]
        one.begin()
        await eventually(lambda: "ACK" in one.far.methods())
        await one.calls.aclose()
        assert (await one.over()).failed == {"not_hung_up": 1}
        await eventually(lambda: one.far.methods()[-1] == "BYE")
        assert "BYE sip:b@far" in one.far.came[-1]
        assert "tag=far" in one.far.came[-1]


async def test_a_call_that_rings_and_is_given_up_is_cancelled(tmp_path: Path) -> None:
    async with bench(tmp_path, CALL.replace('rrs="true"', 'timeout="50"')) as one:
        one.far.answers = ["180 Ringing", "200 OK"]
        tally = await one.call()
        assert tally.failed == {"recv_timeout": 1}
        await eventually(lambda: one.far.methods()[-1] == "CANCEL")
        assert one.far.came[0].split("\r\n")[1] == one.far.came[-1].split("\r\n")[1]
        one.far.answer(one.far.came[0], "487 Request Terminated")
        await eventually(lambda: one.far.methods()[-1] == "ACK")


async def test_a_message_that_no_step_expects_fails_the_call(tmp_path: Path) -> None:
    async with bench(tmp_path, CALL.replace("BYE", "INFO")) as one:
        one.far.answers = ["200 OK"]
        one.begin()
        await eventually(lambda: "ACK" in one.far.methods())
        lines = one.far.came[0].split("\r\n")
        call_id = next(one for one in lines if one.startswith("Call-ID"))
        one.far.send(
            ["BYE sip:a@b SIP/2.0", "Via: SIP/2.0/UDP far;branch=z9hG4bK1", call_id,
             "From: <sip:b@far>;tag=far", "To: <sip:a@near>;tag=1", "CSeq: 1 BYE"]
        )  # fmt: skip
        assert (await one.over()).failed == {"hung_up_early": 1}
        await eventually(lambda: one.far.came[-1].startswith("SIP/2.0 200 OK"))


async def test_labels_tests_timeouts_and_variables_lead_through_the_steps(tmp_path: Path) -> None:
    steps = (
        sends("OPTIONS")
        + '<recv response="200"><action>\n'
        + '<ereg regexp="tag=(.*)" search_in="hdr" header="To:" assign_to="all,tag"/>\n'
        + '<ereg regexp="none" search_in="msg" assign_to="missing"/></action></recv>\n'
        + '<nop next="wrong" test="missing"/><nop next="right" test="tag"/>\n'
        + '<label id="wrong"/>'
        + sends("MESSAGE")
        + '<label id="right"/>'
        + sends("INFO", head=f"{HEAD}\nX-Tag: [$tag]")
        + '<recv response="500" timeout="30" ontimeout="done"/>'
        + sends("MESSAGE")
        + '<label id="done"/>'
    )
    async with bench(tmp_path, steps) as one:
        one.far.answers = ["200 OK"]
        tally = await one.call()
        assert tally.completed == 1
        assert one.far.methods() == ["OPTIONS", "INFO"]
        assert "X-Tag: far" in one.far.came[1]


async def test_a_challenge_is_answered_and_routes_are_followed(tmp_path: Path) -> None:
    steps = (
        sends("INVITE")
        + '<recv response="401" auth="true"/>'
        + sends("ACK")
        + sends("INVITE", head=f"{HEAD}\n[field1]\n[routes]")
        + '<recv response="200" rrs="true"/>'
        + sends("ACK", head=f"{HEAD}\n[routes]", uri="[next_url]")
    )
    fields = tmp_path / "fields.csv"
    fields.write_text("SEQUENTIAL\n1001;[authentication username=[field0] password=secret]\n")
    async with bench(tmp_path, steps, fields=str(fields)) as one:
        far = one.far
        one.begin()
        await eventually(lambda: len(far.came) == 1)
        far.answer(
            far.came[0], "401 Unauthorized",
            'WWW-Authenticate: Digest realm="r", nonce="n", algorithm=MD5, qop="auth"',
        )  # fmt: skip
        await eventually(lambda: len(far.came) == 3)
        again = far.came[2]
        assert 'Authorization: Digest username="1001"' in again
        assert 'uri="sip:b@far"' in again
        assert "Route:" not in again
        far.answer(again, "200 OK", "Record-Route: <sip:p2;lr>\nRecord-Route: <sip:p1;lr>")
        assert (await one.over()).completed == 1
        await eventually(lambda: len(far.came) == 4)
        assert far.came[3].startswith("ACK sip:b@far SIP/2.0")
        assert "Route: <sip:p1;lr>, <sip:p2;lr>" in far.came[3]


async def test_a_scenario_that_only_goes_round_fails(tmp_path: Path) -> None:
    async with bench(tmp_path, '<label id="a"/><nop next="a"/>') as one:
        assert (await one.call()).failed == {"endless_scenario": 1}


async def test_keys_and_sound_of_a_capture_are_played_to_a_phone(tmp_path: Path) -> None:
    """The far end is our phone: it hears the keys in their order, and the packets arrive."""
    write_capture(tmp_path / "key.pcap", frequency_hz=440, duration_ms=900, keys={200: "5"})
    text = (LOADTEST / "scenarios" / "queue_caller.xml").read_text()
    sound = (
        '<nop><action><exec play_pcap_audio="key.pcap"/></action></nop><pause milliseconds="1000"/>'
        '<nop><action><exec play_dtmf="12"/></action></nop><recv request="BYE"'
    )
    (tmp_path / "caller.xml").write_text(text.replace('<recv request="BYE"', sound))
    media = Media("127.0.0.1")
    async with phone_media(40_000, 40_999) as router:
        phone = Phone(PhoneSettings("95598", auto_answer=True), router)
        calls = SippCalls(
            Sipp(file=str(tmp_path / "caller.xml"), service="95598"),
            await phone.open(), media, Random(1),
        )  # fmt: skip
        await calls.open()
        tally = Tally(asyncio.get_running_loop().time)
        over = asyncio.Event()
        calls.start_call(tally, lambda _: over.set())
        heard = await phone.next_call(5)
        await eventually(lambda: heard.keys_heard == "512")
        heard.hang_up()
        figures = await heard.wait_closed(5)
        await over.wait()
        await media.wait_for_legs(5)
        await calls.aclose()
        await phone.aclose()
    await media.aclose()
    assert (tally.completed, tally.failed) == (1, {})
    assert tally.timers_s["answer"].count == 1
    assert figures.packets_received > 40
    assert tally.rtp_sent >= figures.packets_received


@pytest.fixture
def uac(tmp_path: Path) -> Path:
    """What sipp itself calls with."""
    shown = subprocess.run(["sipp", "-sd", "uac"], capture_output=True, text=True, check=False)
    file = tmp_path / "uac.xml"
    file.write_text(shown.stdout[shown.stdout.index("<?xml") :])
    return file


@pytest.mark.peer
async def test_the_scenario_of_sipp_calls_sipp(uac: Path, tmp_path: Path) -> None:
    """Sipp answers, with its own scenario, callers that follow its other own scenario."""
    uas = await asyncio.create_subprocess_exec(
        "sipp", "-sn", "uas", "-nostdin", "-i", "127.0.0.1", "-p", "25160", "-mp", "41000",
        cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    media = Media("127.0.0.1")
    calls = SippCalls(
        Sipp(file=str(uac), pause_s=0.05),
        ("127.0.0.1", 25160), media, Random(1),
    )  # fmt: skip
    await calls.open()
    tally = Tally(asyncio.get_running_loop().time)
    try:
        for _ in range(50):
            calls.start_call(tally, lambda _: None)
        await eventually(lambda: not tally.live)
    finally:
        await calls.aclose()
        await media.aclose()
        uas.kill()
        await uas.wait()
    assert (tally.completed, tally.failed) == (50, {})


@pytest.mark.stores
@pytest.mark.parametrize("name", ["ivr_caller", "queue_caller"])
async def test_our_platform_takes_callers_of_sipp_scenarios(name: str, tmp_path: Path) -> None:
    """The same XML that sipp itself plays, through the IVR and through an agent."""
    for file in (LOADTEST / "flows").glob("load-*.yaml"):
        (tmp_path / file.name).write_text(file.read_text())
    write_capture(tmp_path / "key.pcap", frequency_hz=0, duration_ms=200, keys={20: "1"})
    xml = (LOADTEST / "scenarios" / f"{name}.xml").read_text()
    (tmp_path / "caller.xml").write_text(xml)
    flow, agents = (
        ("load-ivr", "")
        if name == "ivr_caller"
        else ("load-queue", "agents: {count: 2, talk_s: 0.3}\n")
    )
    (tmp_path / "whole.yaml").write_text(
        f"name: n\nduration_s: 2\nplatform: {{flow: {flow}.yaml}}\n{agents}"
        "callers:\n  - arrival: {kind: steady, per_s: 3}\n"
        '    sipp: {file: caller.xml, service: "95598", pause_s: 1}\n'
    )
    scenario = load_scenario(tmp_path / "whole.yaml")
    tally = Tally(asyncio.get_running_loop().time)
    async with own_platform(scenario, tmp_path / "data") as under_test:
        await play(scenario, under_test, tally)
    assert (tally.offered, tally.completed, tally.failed) == (6, 6, {})
    assert tally.setup_s.count == 6
    assert tally.rtp_received > 0
