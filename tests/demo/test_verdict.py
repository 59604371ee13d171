"""The demo must not pass when anything is wrong."""

from __future__ import annotations

import datetime as dt
import hashlib
import struct
import wave
from array import array
from pathlib import Path
from typing import Any

import pytest

from cti import audio
from cti95598.agents.v1 import agents_pb2 as pb
from demo import verdict
from demo.performance import AGENT_HZ, CALLER_HZ, TALK_MS, Evidence
from demo.platform import RunningPlatform
from demo.ports import STANDARD_PORTS
from demo.story import Story
from reports.queries import CallReport

NOW = dt.datetime(2026, 11, 21, 10, 0, tzinfo=dt.UTC)
GOOD_PATH = ("greeting", "main_menu", "bill_read", "queue_bill", "rate", "goodbye")


def after(pause_ms: int, hertz: int) -> audio.Sound:
    samples = array("h", audio.silence(pause_ms).samples)
    samples.extend(audio.tone(hertz, TALK_MS).samples)
    return audio.Sound(samples)


def write_dual(path: Path, left: audio.Sound, right: audio.Sound) -> str:
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        pairs = zip(left.samples, right.samples, strict=False)
        file.writeframes(b"".join(struct.pack("<hh", *pair) for pair in pairs))
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Case:
    """A call that went well, to be spoilt."""

    def __init__(self, directory: Path) -> None:
        self.platform = RunningPlatform(directory / "data", STANDARD_PORTS)
        self.recording = directory / "recording.wav"
        self.left, self.right = after(300, CALLER_HZ), after(310, AGENT_HZ)
        self.evidence = Evidence(
            audio.write_wav(directory / "caller.wav", after(100, AGENT_HZ)),
            audio.write_wav(directory / "agent.wav", after(100, CALLER_HZ)),
            sip_call_id="x",
            summary_before=pb.SummaryResponse(
                calls_answered=3, ratings=2, rating_sum=6, talk_ms=1000
            ),
            summary=pb.SummaryResponse(
                calls_answered=4, ratings=3, rating_sum=11, talk_ms=TALK_MS + 1100
            ),
        )
        self.record: dict[str, Any] = {
            "call_id": "c",
            "caller": "13800138000",
            "called": "95598",
            "access_code": "95598",
            "trunk": "loopback",
            "arrived_at": NOW,
            "flow": "95598",
            "flow_version": "v",
            "queue": "bill",
            "agent": "1001",
            "rating": 5,
            "cause": "flow_ended",
            "outcome": "completed",
            "sip_status": 200,
            "wait_ms": 1000,
            "ring_ms": 500,
            "talk_ms": TALK_MS + 200,
            "duration_ms": 60_000,
            "packets_sent": 3000,
            "packets_received": 3000,
            "packets_lost": 0,
            "jitter_ms": 0.1,
        }
        self.path: tuple[str, ...] = GOOD_PATH
        self.sha256 = ""

    def failed(self) -> set[str]:
        """Judge, and return the English names of the checks that failed."""
        sha256 = write_dual(self.recording, self.left, self.right)
        report = CallReport(
            record=self.record,
            steps=[
                {
                    "step": step,
                    "flow_node": node,
                    "kind": "play",
                    "entered_at": NOW,
                    "left_at": NOW,
                    "exit": "done",
                    "digits": "",
                    "note": "",
                    "duration_ms": 10,
                }
                for step, node in enumerate(self.path)
            ],
            visits=[],
            legs=[],
            conversations=[],
            recordings=[
                {
                    "path": str(self.recording),
                    "sha256": self.sha256 or sha256,
                    "duration_ms": 5300,
                    "channels": 2,
                    "size_bytes": 1,
                    "left_party": "caller",
                    "right_party": "agent",
                }
            ],
        )
        story = Story()
        verdict.judge(self.platform, story, report, self.evidence)
        story.verdict()
        return {check.en for check in story.checks if not check.passed}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_a_good_call_passes(case: Case) -> None:
    assert case.failed() == set()


def test_a_node_missing_on_the_path_fails(case: Case) -> None:
    case.path = tuple(node for node in GOOD_PATH if node != "rate")
    assert case.failed() == {"path complete"}


@pytest.mark.parametrize(
    ("field", "value", "failing"),
    [
        ("agent", None, "record's fields"),
        ("outcome", "abandoned", "record's fields"),
        ("packets_lost", 3, "record's fields"),
        ("talk_ms", 1000, "record's fields"),
        ("rating", None, "rating stored"),
    ],
)
def test_a_wrong_field_of_the_record_fails(
    case: Case, field: str, value: object, failing: str
) -> None:
    case.record[field] = value
    assert case.failed() == {failing}


def test_swapped_channels_fail(case: Case) -> None:
    case.left, case.right = case.right, case.left
    assert case.failed() == {"left (caller)", "right (agent)", "channels in step"}


def test_channels_out_of_step_fail(case: Case) -> None:
    case.right = after(700, AGENT_HZ)
    assert case.failed() == {"channels in step"}


def test_a_changed_recording_fails(case: Case) -> None:
    case.sha256 = "0" * 64
    assert case.failed() == {"recording's SHA-256 as in the index"}


def test_a_deaf_caller_fails(case: Case) -> None:
    case.evidence.caller_heard = audio.write_wav(
        case.recording.with_name("silent.wav"), audio.silence(5000)
    )
    assert case.failed() == {"the caller hears the agent"}


def test_a_missing_summary_fails(case: Case) -> None:
    case.evidence.summary = None
    assert case.failed() == {"agent's summary"}


def test_a_summary_that_lacks_this_call_fails(case: Case) -> None:
    case.evidence.summary = case.evidence.summary_before
    assert case.failed() == {"agent's summary"}


def test_no_checks_are_no_success() -> None:
    assert not Story().passed
