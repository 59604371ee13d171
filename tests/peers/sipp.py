"""sipp with the scenarios of `sipp/`: a caller, a registration, an agent's phone."""

from __future__ import annotations

from pathlib import Path

from demo.ports import free_port
from tests.peers.process import PeerProcess

SCENARIOS = Path(__file__).parent / "sipp"


class Sipp:
    """Calls of one scenario; sipp wants to be root to replay captured packets."""

    def __init__(self, directory: Path, *, local_port: int = 0, address: str = "127.0.0.1") -> None:
        self._process = PeerProcess(directory)
        self._directory = directory
        self._address = address
        self.local_port = local_port or free_port()
        self._media_port = 30000 + self.local_port % 1000 * 4

    async def start(
        self,
        scenario: str,
        server: str,
        *,
        service: str,
        pause_ms: int = 0,
        calls: int = 1,
        per_second: int = 10,
        transport: str = "u1",
        **options: str,
    ) -> None:
        """Run `scenario`; `options` are its [keywords], or -au and -ap as `au` and `ap`.

        `transport` is sipp's own word: u1 and t1 take one socket for all calls, tn one for each.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        command = ["/usr/bin/sipp", "-sf", str(SCENARIOS / f"{scenario}.xml")]
        command += ["-m", str(calls), "-r", str(per_second), "-t", transport]
        command += ["-max_socket", "1000"]  # below the limit of open files
        command += ["-s", service, "-d", str(pause_ms), "-nostdin", "-timeout", "60s"]
        command += ["-i", self._address, "-p", str(self.local_port)]
        command += ["-mi", self._address, "-mp", str(self._media_port)]
        command += ["-trace_err", "-error_file", str(self._directory / f"{scenario}.err")]
        command += ["-trace_msg", "-message_file", str(self._directory / f"{scenario}.msg")]
        options = {"via": "UDP" if transport == "u1" else "TCP", **options}
        for name, value in options.items():
            command += [f"-{name}", value] if name in {"au", "ap"} else ["-key", name, value]
        await self._process.start([*command, server] if server else command)

    async def succeeded(self, scenario: str, timeout_s: float = 60.0) -> None:
        """Wait for the scenario's end and check that it went as written."""
        status = await self._process.exited(timeout_s)
        errors = self._directory / f"{scenario}.err"
        words = errors.read_text() if errors.exists() else ""
        assert status == 0, f"sipp {scenario} ended with {status}\n{words}"

    def messages(self, scenario: str) -> str:
        """What it sent and received."""
        return (self._directory / f"{scenario}.msg").read_text(errors="replace")

    async def stop(self) -> None:
        await self._process.stop()
