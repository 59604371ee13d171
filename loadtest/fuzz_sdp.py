"""Give the negotiation spoilt session descriptions by the hundred thousand: nothing may break.

Run: python -m loadtest.fuzz_sdp --descriptions 300000 --seed 1

Each is answered, taken as the answer to an offer of ours, and kept as what a later offer builds on.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from cti.media import SrtpSuite
from cti.sdp import (
    Codec,
    Direction,
    LocalAudio,
    LocalSecrets,
    Negotiated,
    Protection,
    SrtpPolicy,
    answer,
    build_offer,
    negotiated,
    parse_sdp,
)
from domain.failures import Code, PlatformError
from loadtest.fuzz_mutations import Mutator

_WIRE = Path(__file__).parent.parent / "tests" / "sdp" / "wire"
_REFUSALS = frozenset({Code.SDP_MALFORMED, Code.NO_COMMON_CODEC, Code.NO_COMMON_PROTECTION})
_MOST_FINDINGS = 20
_FINGERPRINT = ":".join(["AB"] * 32)
_NASTY_LINES = (
    b"m=audio 9 RTP/AVP", b"m=audio 65536 RTP/AVP 8", b"m=audio 9/0 RTP/AVP 8 8 8",
    b"m=audio 0 RTP/AVP 8", b"m=audio 9 UDP/TLS/RTP/SAVPF 0", b"m=audio 9 RTP/SAVP 8 96",
    b"m=image 9 udptl t38", b"m=video 9 RTP/AVP 31", b"m=\xe7\x94\xb5 9 RTP/AVP 8",
    b"c=IN IP4 0.0.0.0", b"c=IN IP6 ::", b"c=IN IP6 ::ffff:127.0.0.1", b"c=IN IP4 224.0.0.1/1",
    b"c=IN IP4 1.2.3", b"c=IN IP6 fe80::1%1", b"t=-1 0", b"t=0", b"o=", b"v=1", b"=", b"a",
    b"a=rtpmap:128 PCMA/8000", b"a=rtpmap:8 opus/48000/2", b"a=rtpmap:96 opus/48000/2/2",
    b"a=rtpmap:96", b"a=rtpmap:96 /", b"a=rtpmap:0 telephone-event/8000",
    b"a=fmtp:101 16-,,-16,0-999", b"a=ptime:-20", b"a=ptime:99999", b"a=ptime:10", b"a=maxptime:0",
    b"a=sendonly", b"a=inactive", b"a=rtcp:0", b"a=rtcp:70000 IN IP4 x", b"a=rtcp-mux",
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:", b"a=crypto:999999999999 x y",
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA|2^99999999999999999999",
    b"a=fingerprint:sha-256", b"a=fingerprint:", b"a=setup:", b"a=setup:holdconn",
    b"a=ice-ufrag:", b"a=ice-ufrag:a b", b"a=ice-pwd:" + b"x" * 300, b"a=mid:", b"a=mid:a b",
    b"a=mid:\xe2\x80\xa8", b"a=group:BUNDLE", b"a=group:BUNDLE 0 0 0", b"a=ice-lite", b"a=:",
)  # fmt: skip


@dataclass
class Report:
    """What a run found."""

    seed: int
    descriptions: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """How descriptions were answered: the kind of protection, or the code of the refusal."""
    cpu_s: float = 0.0
    findings: Counter[str] = field(default_factory=Counter)
    examples: dict[str, bytes] = field(default_factory=dict)
    """For each finding the description it came with."""

    def find(self, what: str, description: bytes) -> None:
        """Note a finding."""
        self.findings[what] += 1
        if len(self.examples) < _MOST_FINDINGS:
            self.examples.setdefault(what, description)


class _Run:
    def __init__(self, report: Report) -> None:
        self._report = report
        self._random = random = Random(report.seed)  # noqa: S311 - repeatable, not secret
        self._pool = [file.read_bytes() for file in sorted(_WIRE.glob("*.sdp"))]
        for protection in Protection:
            self._pool.append(self._offer(self._local(SrtpPolicy.OPTIONAL), protection))
        self._mutator = Mutator(random, self._pool)

    def step(self) -> None:
        """Spoil one description and use it in every way."""
        body, random = self._spoilt(), self._random
        local = self._local(random.choice(tuple(SrtpPolicy)))
        self._report.descriptions += 1
        self._report.outcomes[self._guarded(body, lambda: self._answer(body, local))] += 1
        sent = self._offer(local, random.choice(tuple(Protection)))
        self._guarded(body, lambda: self._take_answer(sent, body, local.srtp))

    def _spoilt(self) -> bytes:
        random = self._random
        body = random.choice(self._pool)
        if random.random() < 0.7:
            body = self._mutator.mutate(body)
        lines = body.split(b"\r\n")
        for _ in range(random.choice((0, 1, 1, 2, 4))):
            line = random.choice(_NASTY_LINES)
            if random.random() < 0.5:
                lines.insert(random.randint(0, len(lines)), line)
            else:
                lines[random.randrange(len(lines))] = line
        return b"\r\n".join(lines)

    def _local(self, srtp: SrtpPolicy) -> LocalAudio:
        random = self._random
        codecs = random.sample(tuple(Codec), random.randint(1, len(Codec)))
        return LocalAudio(
            random.choice(("192.0.2.1", "2001:db8::1")),
            20_000,
            codecs,
            random.random() < 0.5,
            random.choice((None, *Codec)),
            random.choice(tuple(Direction)),
            srtp,
            LocalSecrets(_FINGERPRINT, tuple(SrtpSuite), random.randbytes),
        )

    def _offer(self, local: LocalAudio, protection: Protection) -> bytes:
        return build_offer(local, session_id=1, version=1, protection=protection)

    def _answer(self, body: bytes, local: LocalAudio) -> str:
        offer = parse_sdp(body)
        reply, agreed = answer(offer, local, session_id=1, version=1)
        self._check(agreed, local.srtp)
        back = parse_sdp(_well_formed(reply))
        if [each.kind for each in back.streams] != [each.kind for each in offer.streams]:
            raise AssertionError("the answer has other streams than the offer")
        again = build_offer(
            local, session_id=1, version=2, protection=agreed.protection, former=offer.streams
        )
        ours = parse_sdp(_well_formed(again))
        if len(ours.streams) != len(offer.streams):
            raise AssertionError("a later offer has other streams")
        answer(offer, local, session_id=1, version=3, before=agreed)
        return str(agreed.protection)

    def _take_answer(self, sent: bytes, body: bytes, srtp: SrtpPolicy) -> str:
        agreed = negotiated(parse_sdp(sent), parse_sdp(body), srtp)
        self._check(agreed, srtp)
        return str(agreed.protection)

    def _check(self, agreed: Negotiated, srtp: SrtpPolicy) -> None:
        if srtp is SrtpPolicy.REQUIRED and agreed.protection is Protection.NONE:
            raise AssertionError("unprotected against the policy")

    def _guarded(self, body: bytes, use: Callable[[], str]) -> str:
        try:
            return use()
        except PlatformError as error:
            if error.code not in _REFUSALS:
                self._report.find(f"refused by {error.code}", body)
            return str(error.code)
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            self._report.find(f"{type(error).__name__}: {error} at {place}", body)
            return "finding"


def _well_formed(description: bytes) -> bytes:
    """Check that nothing of a peer's broke out of its line."""
    *lines, last = description.split(b"\r\n")
    if last or any(line[1:2] != b"=" or b"\n" in line or b"\r" in line for line in lines):
        raise AssertionError("a line of ours is none")
    return description


def fuzz(descriptions: int, seed: int) -> Report:
    """Run and return what was found."""
    report = Report(seed)
    run = _Run(report)
    began_s = time.process_time()
    for _ in range(descriptions):
        run.step()
    report.cpu_s = time.process_time() - began_s
    return report


def main() -> int:
    """Run as asked, print the figures; 1 when there are findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--descriptions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    report = fuzz(arguments.descriptions, arguments.seed)
    shares = ", ".join(f"{count} {what}" for what, count in report.outcomes.most_common())
    print(
        f"{report.descriptions} descriptions, answered: {shares}; seed {report.seed}\n"
        f"{report.descriptions / report.cpu_s:.0f} descriptions a second"
    )
    for what, count in report.findings.most_common():
        print(f"FINDING ×{count}: {what}\n    {report.examples.get(what)!r}")
    print("no findings" if not report.findings else f"{len(report.findings)} findings")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
