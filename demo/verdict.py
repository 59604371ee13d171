"""After the call: its path, record and recording, each looked at and printed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from agents.toolbar_client import summary_line
from cti import audio
from demo.performance import (
    AGENT,
    AGENT_HZ,
    CALLER,
    CALLER_HZ,
    RATING,
    TALK_MS,
    Evidence,
)
from demo.platform import RunningPlatform
from demo.story import Story
from domain.masking import mask_number
from recording.integrity import Integrity, verify
from reports.queries import CALENDAR, CallReport, RecordQueries

_PATIENCE_S = 15.0
_EXPECTED_PATH = ("greeting", "main_menu", "bill_read", "queue_bill", "rate", "goodbye")
_LEAST_TONE_MS = TALK_MS - 500
_MOST_OFFSET_MS = 60.0
_LEAKAGE_DBFS = -45.0


async def report(platform: RunningPlatform, story: Story, evidence: Evidence) -> None:
    """Look at everything the call left behind."""
    async with platform.records() as records:
        call = await _finished_call(records, evidence.sip_call_id)
    if call is None:
        story.check(
            False,
            "话单",
            "call record",
            f"no finished record of SIP Call-ID {evidence.sip_call_id}",
            f"{platform.log}; cti95598 records --data {platform.directory.root}",
        )
        return
    judge(platform, story, call, evidence)


def judge(platform: RunningPlatform, story: Story, call: CallReport, evidence: Evidence) -> None:
    """Print and check path, record, recording, both ends and the agent's day."""
    _check_path(story, call, platform)
    _check_record(story, call, platform)
    recording = _check_recording(story, call, platform)
    _check_ends(story, evidence)
    _tell_summary(story, evidence)
    story.heading("位置", "Where things lie")
    for name, path in {
        "录音 recording": recording,
        "客户听到的 heard by the caller": evidence.caller_heard,
        "坐席听到的 heard by the agent": evidence.agent_heard,
        "提示音 prompts": platform.directory.prompts,
        "平台日志 platform's log": platform.log,
        "口令 passwords": platform.directory.demo_credentials,
        "数据 all data": platform.directory.root,
    }.items():
        story.line(f"{name}: {path}")


async def _finished_call(records: RecordQueries, sip_call_id: str) -> CallReport | None:
    """Wait until the call's record, rating and recording are complete; None when they never are."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + _PATIENCE_S
    call: CallReport | None = None
    while loop.time() < deadline_s:
        call = await records.call(sip_call_id)
        if call is not None and _is_complete(call):
            return call
        await asyncio.sleep(0.2)
    return call


def _is_complete(call: CallReport) -> bool:
    return (
        call.record["ended_at"] is not None
        and bool(call.recordings)
        and all(row["sha256"] for row in call.recordings)
        and all(row["left_at"] is not None for row in call.steps)
    )


def _check_path(story: Story, call: CallReport, platform: RunningPlatform) -> None:
    story.heading("客户轨迹", "The caller's path")
    for row in call.steps:
        details = [f"→ {row['exit']}" if row["exit"] else ""]
        details += [f"按键 keys {row['digits']}" if row["digits"] else "", row["note"] or ""]
        story.line(
            f"{row['step']:>2}. {_clock(row['entered_at'])} {row['kind']:<7} "
            f"{row['flow_node']:<18} {(row['duration_ms'] or 0) / 1000:6.1f} s  "
            + "  ".join(filter(None, details))
        )
    nodes = [row["flow_node"] for row in call.steps]
    missing = [node for node in _EXPECTED_PATH if node not in nodes]
    story.check(
        not missing,
        "轨迹完整",
        "path complete",
        f"{len(nodes)} nodes" + (f", missing: {', '.join(missing)}" if missing else ""),
        f"cti95598 records --data {platform.directory.root}; {platform.log}",
    )


def _check_record(story: Story, call: CallReport, platform: RunningPlatform) -> None:
    record = call.record
    story.heading("话单", "Call record")
    shown = {
        "呼叫 call": record["call_id"],
        "主叫 caller": mask_number(record["caller"] or ""),
        "被叫 called": f"{record['called']}(中继 trunk {record['trunk']})",
        "到达 arrived": f"{_date(record['arrived_at'])} (Asia/Shanghai)",
        "流程 flow": f"{record['flow']} {record['flow_version']}",
        "队列 queue": f"{record['queue']},等待 waited {_seconds(record['wait_ms'])}",
        "坐席 agent": f"{record['agent']},振铃 rang {_seconds(record['ring_ms'])},"
        f"通话 talked {_seconds(record['talk_ms'])}",
        "评价 rating": record["rating"],
        "结束 ending": f"{record['cause']} / {record['outcome']},SIP {record['sip_status']}",
        "时长 duration": _seconds(record["duration_ms"]),
        "媒体 media": f"收 received {record['packets_received']},发 sent {record['packets_sent']},"
        f"丢 lost {record['packets_lost']},抖动 jitter {record['jitter_ms'] or 0:.1f} ms",
    }
    for name, value in shown.items():
        story.line(f"{name}: {value}")
    expected = {
        "caller": CALLER,
        "access_code": "95598",
        "queue": "bill",
        "agent": AGENT,
        "outcome": "completed",
        "packets_lost": 0,
    }
    wrong = {name: record[name] for name, value in expected.items() if record[name] != value}
    talked_ms = record["talk_ms"] or 0
    if not TALK_MS <= talked_ms <= TALK_MS + 3000:
        wrong["talk_ms"] = talked_ms
    where = f"cti95598 records --data {platform.directory.root}; {platform.log}"
    story.check(not wrong, "话单字段", "record's fields", f"{wrong or 'all as expected'}", where)
    story.check(
        record["rating"] == RATING, "评价入库", "rating stored", f"{record['rating']}", where
    )


def _check_recording(story: Story, call: CallReport, platform: RunningPlatform) -> Path | None:
    story.heading("双声道录音", "Dual-channel recording")
    if len(call.recordings) != 1:
        found = f"{len(call.recordings)} recordings"
        story.check(False, "录音", "recording", found, str(platform.directory.recordings))
        return None
    row = call.recordings[0]
    path = Path(row["path"])
    story.line(f"{path}")
    story.line(
        f"{_seconds(row['duration_ms'])}, {row['channels']} channels, {row['size_bytes']} bytes, "
        f"left {row['left_party']}, right {row['right_party']}"
    )
    story.line(f"SHA-256 {row['sha256']}")
    integrity = verify(path, row["sha256"])
    story.check(
        integrity is Integrity.INTACT,
        "录音 SHA-256 与索引一致",
        "recording's SHA-256 as in the index",
        str(integrity),
        str(path),
    )
    if integrity is Integrity.MISSING:
        return path
    channels = audio.read_wav(path)
    if len(channels) != 2:
        story.check(False, "双声道", "two channels", f"{len(channels)} channels", str(path))
        return path
    _check_channels(story, channels[0], channels[1], path)
    return path


def _check_channels(story: Story, left: audio.Sound, right: audio.Sound, path: Path) -> None:
    for zh, en, channel, own_hz, other_hz in (
        ("左声道(客户)", "left (caller)", left, CALLER_HZ, AGENT_HZ),
        ("右声道(坐席)", "right (agent)", right, AGENT_HZ, CALLER_HZ),
    ):
        tone_ms, leak_dbfs = _tone(channel, own_hz, other_hz)
        words = f"{own_hz} Hz for {tone_ms / 1000:.2f} s, {other_hz} Hz at {leak_dbfs:.0f} dBFS"
        story.line(f"{zh} {en}: {words}")
        story.check(
            tone_ms >= _LEAST_TONE_MS and leak_dbfs < _LEAKAGE_DBFS, zh, en, words, str(path)
        )
    onsets = audio.tone_onset_ms(left, CALLER_HZ), audio.tone_onset_ms(right, AGENT_HZ)
    if onsets[0] is None or onsets[1] is None:
        words = "a tone is missing"
        story.check(False, "声道同步", "channels in step", words, str(path))
        return
    offset_ms = onsets[1] - onsets[0]
    story.line(f"声道间偏移 offset between the channels: {offset_ms:+.1f} ms")
    story.check(
        abs(offset_ms) <= _MOST_OFFSET_MS,
        "声道同步",
        "channels in step",
        f"{offset_ms:+.1f} ms (tones began together)",
        str(path),
    )


def _check_ends(story: Story, evidence: Evidence) -> None:
    for zh, en, path, other_hz, own_hz in (
        ("客户听到坐席", "the caller hears the agent", evidence.caller_heard, AGENT_HZ, CALLER_HZ),
        ("坐席听到客户", "the agent hears the caller", evidence.agent_heard, CALLER_HZ, AGENT_HZ),
    ):
        if not path.exists():
            story.check(False, zh, en, "nothing was recorded", str(path))
            continue
        (heard,) = audio.read_wav(path)
        tone_ms = _duration_ms(audio.tone_spans(heard, other_hz))
        echo_ms = _duration_ms(audio.tone_spans(heard, own_hz))
        story.check(
            tone_ms >= _LEAST_TONE_MS and not echo_ms,
            zh,
            en,
            f"{other_hz} Hz for {tone_ms / 1000:.2f} s, own tone for {echo_ms} ms",
            str(path),
        )


def _tell_summary(story: Story, evidence: Evidence) -> None:
    story.heading("坐席小结", "The agent's summary")
    before, after = evidence.summary_before, evidence.summary
    if before is None or after is None:
        story.check(False, "坐席小结", "agent's summary", "none came")
        return
    story.line(summary_line(AGENT, after))
    # The agent may have had other calls today; this one has to have been added.
    gained = {
        "answered": after.calls_answered - before.calls_answered,
        "rated": after.ratings - before.ratings,
        "stars": after.rating_sum - before.rating_sum,
    }
    talk_ms = after.talk_ms - before.talk_ms
    story.check(
        gained == {"answered": 1, "rated": 1, "stars": RATING} and talk_ms >= TALK_MS,
        "坐席小结",
        "agent's summary",
        f"this call added {gained}, {_seconds(talk_ms)} of talk",
    )


def _tone(channel: audio.Sound, own_hz: float, other_hz: float) -> tuple[int, float]:
    """Return how long the own tone sounds, and the loudest that the other one ever is."""
    tone_ms = _duration_ms(audio.tone_spans(channel, own_hz))
    return tone_ms, max((audio.tone_dbfs(w, other_hz) for w in channel.windows(100)), default=-99)


def _duration_ms(spans: Iterable[audio.Span]) -> int:
    return sum(span.duration_ms for span in spans)


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(CALENDAR):%H:%M:%S}"


def _date(moment: datetime) -> str:
    return f"{moment.astimezone(CALENDAR):%Y-%m-%d %H:%M:%S}"


def _seconds(duration_ms: int | None) -> str:
    return f"{(duration_ms or 0) / 1000:.1f} s"
