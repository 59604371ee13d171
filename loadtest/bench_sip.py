"""What SIP costs: microseconds a parse and a write, transactions and calls a second on one core.

Run: python -m loadtest.bench_sip
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from cti.sip.endpoint import ServerTransaction, SipEndpoint
from cti.sip.messages.message import Request, Response, SipSyntaxError, parse_message, response_to
from cti.sip.messages.uri import NameAddr
from cti.sip.transactions.client_transaction import client_machine
from cti.sip.transactions.server_transaction import server_machine
from cti.sip.transactions.timers import Timers
from cti.sip.transactions.transaction import Send
from cti.sip.transports.tls_files import Tls
from cti.sip.transports.transport import Hop, TransportName

STREAMS_AND_UDP: tuple[TransportName, ...] = ("udp", "tcp", "tls")

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 30000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n"
)


def invite(number: int, *, method: str = "INVITE") -> Request:
    """Return a request as a carrier's gateway sends it, without Via."""
    return Request(
        method,
        "sip:95598@127.0.0.1:5060",
        [
            ("Max-Forwards", "70"),
            ("From", '"13812345678" <sip:13812345678@127.0.0.1>;tag=1928301774'),
            ("To", "<sip:95598@127.0.0.1>"),
            ("Call-ID", f"a84b4c76e66710-{number}@127.0.0.1"),
            ("CSeq", f"314159 {method}"),
            ("Contact", "<sip:13812345678@127.0.0.1:5080>"),
            ("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO"),
            ("Supported", "timer, 100rel"),
            ("User-Agent", "bench"),
            ("Content-Type", "application/sdp"),
        ],
        SDP,
    )


def with_via(request: Request, number: int) -> Request:
    """Add the top Via a client would."""
    request.headers.prepend("Via", f"SIP/2.0/UDP 127.0.0.1:5080;branch=z9hG4bK{number:016x};rport")
    return request


def microseconds(action: Callable[[], object], rounds: int = 20_000) -> float:
    """Return the best of five runs, in CPU time of one call."""
    best_s = float("inf")
    for _ in range(5):
        began_s = time.process_time()
        for _ in range(rounds // 5):
            action()
        best_s = min(best_s, time.process_time() - began_s)
    return best_s / (rounds // 5) * 1e6


def measure_messages() -> None:
    """Print the cost of the parser and the writer."""
    request = with_via(invite(1), 1)
    data = request.to_bytes()
    ok = response_to(request, 200, to_tag="callee", body=SDP, content_type="application/sdp")
    ok_data = ok.to_bytes()
    for name, action in (
        (f"parse INVITE with SDP ({len(data)} bytes)", lambda: parse_message(data)),
        (f"parse 200 with SDP ({len(ok_data)} bytes)", lambda: parse_message(ok_data)),
        ("build a response", lambda: response_to(request, 200, to_tag="callee")),
        ("write INVITE", request.to_bytes),
        ("write 200", ok.to_bytes),
    ):
        print(f"{name:45} {microseconds(action):8.1f} us")


_HOSTILE = {
    "quotes": b"Contact: " + b'""' * 2_000 + b"\r\n",
    "commas": b"Contact: " + b"," * 4_000 + b"\r\n",
    "open brackets": b"Contact: " + b"<" * 4_000 + b"\r\n",
    "backslashes": b'Subject: "' + b"\\" * 4_000 + b"\r\n",
    "folded lines": b"Subject: a\r\n" + b" b\r\n" * 20,
    "unknown headers": b"".join(b"X-%d: 1\r\n" % number for number in range(20)),
}


def measure_hostile() -> None:
    """Print what long and odd messages cost; twice the bytes may cost twice the time."""
    request = with_via(invite(1), 1)
    request.body = b""
    head, gap, _ = request.to_bytes().partition(b"\r\n\r\n")

    def parse(data: bytes) -> None:
        with contextlib.suppress(SipSyntaxError):
            for value in parse_message(data).headers.get_all("Contact"):
                NameAddr.parse(value)

    for name, lines in _HOSTILE.items():
        half, full = (head + b"\r\n" + lines * times + gap for times in (6, 12))
        half_us = microseconds(functools.partial(parse, half), 500)
        full_us = microseconds(functools.partial(parse, full), 500)
        print(
            f"{f'parse {name} ({len(full)} bytes)':45} {full_us:8.1f} us "
            f"({full_us / half_us:.1f} times those of half)"
        )


def measure_machines(rounds: int = 10_000) -> None:
    """Print client and server INVITE transactions a second, messages parsed, without sockets."""
    timers = Timers()
    requests = [with_via(invite(number), number) for number in range(rounds)]
    began_s = time.process_time()
    for request in requests:
        client = client_machine(request, reliable=False, timers=timers)
        sent = client.start(0.0)[0]
        assert isinstance(sent, Send)  # noqa: S101 - a benchmark
        received = parse_message(sent.data)
        assert isinstance(received, Request)  # noqa: S101
        server = server_machine(received, reliable=False, timers=timers)
        server.start(received, 0.0)
        answer = server.respond(response_to(received, 200, to_tag="x"), 0.0)[0]
        assert isinstance(answer, Send)  # noqa: S101
        response = parse_message(answer.data)
        assert isinstance(response, Response)  # noqa: S101
        client.receive(response, 0.1)
    spent_s = time.process_time() - began_s
    print(
        f"{'transactions over the core, both ends':45} {rounds / spent_s:8.0f} /s "
        f"({spent_s / rounds * 1e6:.0f} us each)"
    )


class _Busy:
    """A shedder that has no time for anybody."""

    is_shedding = True

    def __init__(self, *, trusts: bool) -> None:
        self._trusts = trusts

    def is_trusted(self, _source: str) -> bool:
        return self._trusts

    def admits(self, _now_s: float, *, has_priority: bool = False) -> bool:
        return has_priority

    def is_phone(self, _source: str) -> bool:
        return False

    def retry_after_s(self) -> int:
        return 5

    def on_wait(self, wait_s: float) -> None:
        """Nobody asks."""


async def measure_refusals(calls: int = 10_000) -> None:
    """Print what it costs to refuse a call for want of time, its ACK and the system calls included.

    A trunk's call is refused before it is parsed, a stranger's after that.
    """
    for name, trusts in (("trunk", True), ("stranger", False)):
        endpoint = SipEndpoint(user_agent="bench")
        endpoint.shedder = _Busy(trusts=trusts)
        hop = Hop("udp", *await endpoint.listen("udp", "127.0.0.1", 0))
        with socket.socket(type=socket.SOCK_DGRAM) as caller:
            caller.bind(("127.0.0.1", 5080))
            caller.settimeout(5)
            own_s = 0.0
            began_s = time.process_time()
            for number in range(calls):
                asked_s = time.process_time()
                caller.sendto(with_via(invite(number), number).to_bytes(), (hop.host, hop.port))
                own_s += time.process_time() - asked_s
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                asked_s = time.process_time()
                refusal = parse_message(caller.recv(65_535))
                ack = with_via(invite(number, method="ACK"), number)
                ack.headers.set("To", refusal.headers.first_row("To") or "")
                caller.sendto(ack.to_bytes(), (hop.host, hop.port))
                own_s += time.process_time() - asked_s
            spent_s = time.process_time() - began_s - own_s
        print(f"{f'refuse a call of a {name} for want of time':45} {spent_s / calls * 1e6:8.1f} us")
        await endpoint.aclose()


async def measure_endpoints(
    transport: TransportName, tls: Tls, calls: int = 4_000, at_once: int = 50
) -> None:
    """Print what a call's signalling costs over loopback, both ends in this process.

    A call is INVITE, 180, 200, ACK, BYE, 200: six messages, each sent and received here.
    """
    client = SipEndpoint(user_agent="bench", tls=tls)
    server = SipEndpoint(user_agent="bench", tls=tls)
    await client.listen(transport, "127.0.0.1", 0)
    hop = Hop(transport, *await server.listen(transport, "127.0.0.1", 0))
    done = asyncio.Event()
    state = {"started": 0, "finished": 0, "failed": 0}

    def on_request(transaction: ServerTransaction) -> None:
        request = transaction.request
        if request.method == "INVITE":
            transaction.respond(response_to(request, 180, to_tag="callee"))
        transaction.respond(response_to(request, 200, to_tag="callee", body=SDP))

    def start() -> None:
        state["started"] += 1
        number = state["started"]

        def on_response(response: Response) -> None:
            if response.status == 200:
                client.send_ack(invite(number, method="ACK"), hop)
                client.send_request(
                    invite(number, method="BYE"), hop, on_response=finish, on_failure=fail
                )

        client.send_request(invite(number), hop, on_response=on_response, on_failure=fail)

    def finish(_response: Response) -> None:
        state["finished"] += 1
        if state["started"] < calls:
            start()
        elif state["finished"] + state["failed"] == calls:
            done.set()

    def fail(_code: object) -> None:
        state["failed"] += 1

    server.on_request = on_request
    began_s = time.process_time()
    for _ in range(at_once):
        start()
    await asyncio.wait_for(done.wait(), 120.0)
    spent_s = time.process_time() - began_s
    memory_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{f'calls over {transport.upper()}, both ends':45} {calls / spent_s:8.0f} /s "
        f"({spent_s / calls * 1e6:.0f} us each, {state['failed']} failed, "
        f"{client.transaction_count + server.transaction_count} transactions live, "
        f"{memory_mib:.0f} MiB)"
    )
    await client.aclose()
    await server.aclose()


def self_signed(directory: Path) -> Tls:
    """Make a certificate of 127.0.0.1 that only this run trusts."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=bench"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True)  # noqa: S603
    return Tls(certificate=certificate, key=key, ca=certificate)


def main() -> int:
    """Measure all."""
    measure_messages()
    measure_hostile()
    measure_machines()
    uvloop.run(measure_refusals())
    with tempfile.TemporaryDirectory() as directory:
        tls = self_signed(Path(directory))
        for transport in STREAMS_AND_UDP:
            uvloop.run(measure_endpoints(transport, tls))
    return 0


if __name__ == "__main__":
    sys.exit(main())
