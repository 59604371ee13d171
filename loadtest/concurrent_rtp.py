"""Concurrent calls with sound both ways: music from the platform, a tone from every caller."""

from __future__ import annotations

import asyncio
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cti import audio
from cti.phone import Phone, PhoneCall, PhoneSettings, phone_media
from demo.platform import RunningPlatform
from loadtest.cpu import usage_of
from loadtest.runs import load_configuration, load_ports

_PACKETS_PER_S = 50
_DIALS_PER_S = 40
_ANSWER_WITHIN_S = 30.0
_SETTLE_S = 2.0
_COUNTS = ("packets_sent", "sent_within_1_ms", "sent_within_5_ms", "sent_later", "skipped_rounds")


@dataclass(frozen=True, slots=True)
class ConcurrentResult:
    """What the engine counted while all calls were up, and what callers received in all."""

    calls: int
    seconds: float
    counts: dict[str, int]
    lost_at_callers: int
    worst_jitter_ms: float
    cpu_s: dict[str, float]

    @property
    def sent_share(self) -> float:
        """Packets sent, of those that were due."""
        return self.counts["packets_sent"] / (self.calls * self.seconds * _PACKETS_PER_S)

    def within(self, *names: str) -> float:
        """Share of packets in these classes of lateness."""
        sent = self.counts["packets_sent"]
        return sum(self.counts[name] for name in names) / sent if sent else 0.0

    @property
    def media_us_per_packet(self) -> float:
        """CPU of the media threads by packet sent; the packet received with it is included."""
        return 1e6 * self.cpu_s.get("media", 0.0) / max(1, self.counts["packets_sent"])


async def concurrent_run(data: Path, *, calls: int, seconds: int) -> ConcurrentResult:
    """Hold `calls` calls for `seconds`, with RTP both ways."""
    ports = load_ports()
    platform = RunningPlatform(data, ports, load_configuration(ports, "load-wait", agents=0))
    await platform.start()
    try:
        async with phone_media(45_000, 64_999) as media:
            phone = Phone(PhoneSettings("13800138000"), media)
            await phone.open()
            try:
                tone = audio.write_wav(data / "tone.wav", audio.tone(440, 1000))
                live = await _dial_all(phone, platform, calls, tone)
                return await _measure(platform, live, seconds)
            finally:
                await phone.aclose()
    finally:
        await platform.stop()


async def _dial_all(
    phone: Phone, platform: RunningPlatform, calls: int, tone: Path
) -> list[PhoneCall]:
    live = []
    for _ in range(calls):
        live.append(phone.dial(platform.access_url(), platform.sip))
        await asyncio.sleep(1 / _DIALS_PER_S)
    for call in live:
        await call.wait_answered(_ANSWER_WITHIN_S)
        call.play(tone, loop=True)
    await asyncio.sleep(_SETTLE_S)
    return live


async def _measure(
    platform: RunningPlatform, live: list[PhoneCall], seconds: int
) -> ConcurrentResult:
    clock = asyncio.get_running_loop().time
    usage, counts, began = usage_of(platform.pid), await _counts(platform), clock()
    await asyncio.sleep(seconds)
    after, counts_after, ended = usage_of(platform.pid), await _counts(platform), clock()
    for call in live:
        call.hang_up()
    figures = [await call.wait_closed(_ANSWER_WITHIN_S) for call in live]
    return ConcurrentResult(
        calls=len(live),
        seconds=ended - began,
        counts={name: counts_after[name] - counts[name] for name in _COUNTS},
        lost_at_callers=sum(one.packets_lost for one in figures),
        worst_jitter_ms=max(one.jitter_ms for one in figures),
        cpu_s=after.since(usage),
    )


async def _counts(platform: RunningPlatform) -> dict[str, int]:
    """Read the engine's counts where an operator would: /metrics."""
    url = f"http://127.0.0.1:{platform.ports.http}/metrics"
    text = await asyncio.to_thread(_fetch, url)
    lines = (line.split() for line in text.splitlines() if line.startswith("media_"))
    found = {name.removeprefix("media_"): int(float(value)) for name, value in lines}
    return {name: found[name] for name in _COUNTS}


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - our own server
        text: str = response.read().decode()
        return text
