"""An address that scans is shut out, recorded, shown to operators, and let in again by them."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from typer.testing import CliRunner

from demo.platform import RunningPlatform, configuration
from demo.ports import free_ports
from node.cli import app
from tests.node.running import until
from tests.peers.conftest import FLOWS

SCANNER = "127.0.0.66"
SCAN = (
    b"OPTIONS sip:100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.66:5060;branch=z9hG4bK%d;rport"
    b"\r\nFrom: <sip:100@127.0.0.66>;tag=1\r\nTo: <sip:100@127.0.0.1>\r\nCall-ID: %d\r\n"
    b"CSeq: 1 OPTIONS\r\nUser-Agent: %s\r\nContent-Length: 0\r\n\r\n"
)


class Peer(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.answers.put_nowait(data)


async def bans(data: Path, *arguments: str) -> str:
    """Run the operator's command; it has a loop of its own."""
    runner = CliRunner()
    result = await asyncio.to_thread(runner.invoke, app, ["bans", "--data", str(data), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


async def test_a_scanner_is_shut_out_until_an_operator_lifts_it(tmp_path: Path) -> None:
    ports = free_ports()
    config = configuration(ports)
    config["tenants"][0]["trunks"][0]["addresses"] = ["127.0.0.1/32"]
    # Nobody calls: the hotline's prompts need not be made.
    config["flows"] = str(FLOWS)
    config["tenants"][0]["access_codes"] = [{"code": "96000", "flow": "straight"}]
    data = tmp_path / "data"
    platform = RunningPlatform(data, ports, config)
    await platform.start()
    probe = socket.socket(type=socket.SOCK_DGRAM)
    probe.bind((SCANNER, 0))
    probe.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, peer = await loop.create_datagram_endpoint(Peer, sock=probe)

    def send(number: int, agent: bytes) -> None:
        transport.sendto(SCAN % (number, number, agent), ("127.0.0.1", ports.sip))

    async def is_shut_out() -> bool:
        return SCANNER in await bans(data)

    try:
        send(1, b"phone")
        assert b" 200 " in await asyncio.wait_for(peer.answers.get(), 5)
        for number in range(10, 25):  # one datagram might be forged
            send(number, b"friendly-scanner")
        await until(is_shut_out)
        assert "扫描" in await bans(data)
        send(3, b"phone")
        assert "may send again" in await bans(data, "--lift", SCANNER)
        assert peer.answers.empty()
        send(4, b"phone")
        assert b"Call-ID: 4\r\n" in await asyncio.wait_for(peer.answers.get(), 5)
    finally:
        transport.close()
        await platform.stop()
