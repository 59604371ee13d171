"""Phones that register, then refresh, at a platform of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from demo.platform import RunningPlatform
from loadtest.cpu import usage_of
from loadtest.phones import Phones, RegisterFigures
from loadtest.runs import load_configuration, load_ports

_TENANT = "demo"
_FIRST_PHONE = 200_000


@dataclass(frozen=True, slots=True)
class Round:
    """One round of registrations: what the phones saw, and what the platform spent."""

    name: str
    figures: RegisterFigures
    cpu_s: dict[str, float]

    def cpu_ms(self, part: str | None = None) -> float:
        """CPU of one part, or of all, a registration."""
        total = self.cpu_s.get(part, 0.0) if part else sum(self.cpu_s.values())
        return 1000 * total / self.figures.successful if self.figures.successful else 0.0


async def register_run(data: Path, *, rate: int, seconds: int, users: int) -> list[Round]:
    """All phones register with a challenge each; then they refresh by the nonce they have."""
    ports = load_ports()
    config = load_configuration(ports, "load-ivr", agents=0)
    numbers = [str(_FIRST_PHONE + each) for each in range(users)]
    config["tenants"][0]["phones"] = numbers
    platform = RunningPlatform(data, ports, config)
    await platform.start()
    try:
        passwords = platform.passwords().phones[_TENANT]
        realm = config["sip"]["realm"]
        phones = Phones(passwords, realm, platform.sip.host, platform.sip.port)
        rounds = []
        for name, registrations in (("first", len(passwords)), ("refresh", rate * seconds)):
            before = usage_of(platform.pid)
            figures = await phones.round(rate=rate, registrations=registrations)
            rounds.append(Round(name, figures, usage_of(platform.pid).since(before)))
        phones.close()
        return rounds
    finally:
        await platform.stop()
