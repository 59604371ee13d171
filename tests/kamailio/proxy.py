"""The real Kamailio with the configuration of `deploy/kamailio`, on ports of its own."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.ports import free_port
from tests.peers.process import PeerProcess
from tests.peers.waiting import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy" / "kamailio"
OUTER, INNER = "127.0.0.1", "127.0.0.10"


@dataclass(frozen=True, slots=True)
class ProxyPorts:
    sip: int
    tls: int
    wss: int
    inner: int


class Kamailio:
    """One Kamailio before nodes, given as host:port."""

    def __init__(self, directory: Path, nodes: Sequence[str], **settings: object) -> None:
        """Prepare its files; `settings` replace values of settings.cfg."""
        self.ports = ProxyPorts(*(free_port() for _ in range(4)))
        self._directory = directory
        self._process = PeerProcess(directory)
        self._log: Path = directory / "kamailio.log"
        directory.mkdir(parents=True)
        for name in ("kamailio.cfg", "tls.cfg"):
            shutil.copy(DEPLOY / name, directory)
        (directory / "carriers.list").write_text("")
        (directory / "dispatcher.list").write_text(
            "".join(f"1 sip:{node} 0 0 rweight=50\n" for node in nodes)
        )
        (directory / "secret.cfg").write_text(f'#!define TOPOLOGY_KEY "{secrets.token_hex(24)}"\n')
        values = {
            "OUTER_IP": OUTER,
            "PUBLIC_IP": OUTER,
            "INNER_IP": INNER,
            "SIP_PORT": self.ports.sip,
            "TLS_PORT": self.ports.tls,
            "WSS_PORT": self.ports.wss,
            "INNER_PORT": self.ports.inner,
            "PROBE_EVERY_S": 1,
            "NODE_SILENT_MS": 1000,
            "WORKERS": 2,
            "MAX_CONNECTIONS": 200,
            "CONFIG_DIR": directory,
            "RUN_DIR": directory,
            **settings,
        }
        self._write_settings(values)
        command: list[str | Path] = [
            DEPLOY / "make-test-certificates",
            directory / "certs",
            OUTER,
            "localhost",
        ]
        subprocess.run(command, check=True)

    def _write_settings(self, values: dict[str, object]) -> None:
        text = (DEPLOY / "settings.cfg").read_text(encoding="utf-8")
        for name, value in values.items():
            text, found = re.subn(f'"!{name}![^!]*!"', f'"!{name}!{value}!"', text)
            assert found == 1, f"{name} in settings.cfg"
        (self._directory / "settings.cfg").write_text(text, encoding="utf-8")

    @property
    def server(self) -> str:
        """Where UDP and TCP are, outside."""
        return f"{OUTER}:{self.ports.sip}"

    @property
    def inner(self) -> str:
        """Where nodes send to."""
        return f"{INNER}:{self.ports.inner}"

    @property
    def authority(self) -> Path:
        """The certificate that signed ours."""
        return self._directory / "certs" / "ca.pem"

    @property
    def lines(self) -> list[str]:
        """What it has logged."""
        return self._process.lines

    async def start(self) -> None:
        """Start it and wait until it serves."""
        await self._process.start(
            [
                "/usr/sbin/kamailio", "-DD", "-E", "-f", str(self._directory / "kamailio.cfg"),
                "-m", "64", "-M", "8", "-Y", str(self._directory),
            ],
            has_children=True,
        )  # fmt: skip
        await wait_until(self._is_up, 30, "Kamailio answers kamcmd")

    async def _is_up(self) -> bool:
        return "uptime" in await self.rpc("core.uptime")

    async def takes_calls(self, node: str) -> bool:
        """Whether it gives new calls to a node: its state is active, and the probe was answered."""
        targets = (await self.rpc("dispatcher.list")).split("URI: ")
        return any(
            each.startswith(f"sip:{node}\n") and re.search("FLAGS: A[PX]", each) for each in targets
        )

    async def rpc(self, *command: str) -> str:
        """Ask by kamcmd, as an operator does; nothing while Kamailio starts."""
        control = f"unix:{self._directory}/kamailio_ctl"
        asking = PeerProcess(self._directory)
        await asking.start(["/usr/sbin/kamcmd", "-s", control, *command])
        with contextlib.suppress(TimeoutError):
            await asking.exited(2)
        await asking.stop()
        return "\n".join(asking.lines)

    async def stop(self) -> None:
        await self._process.stop()
