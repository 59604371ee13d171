"""A short run of `python -m loadtest.fuzz_sdp`."""

from __future__ import annotations

from loadtest.fuzz_sdp import fuzz


def test_spoilt_descriptions_break_nothing() -> None:
    report = fuzz(3000, seed=7)
    assert not report.findings
    # Spoilt as they are, enough of them get far.
    assert {"dtls", "sdes", "none"} <= report.outcomes.keys()
