"""What one field of a scenario alone cannot tell: files, the order of steps, names that exist."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from itertools import pairwise
from pathlib import Path

from cti import audio
from domain.document_problems import Problem, instead, place_text
from domain.words import Words
from domain.yaml_source import Place, YamlSource
from ivr.loader import load_file
from loadtest.figures.causes import FAILED_BY_CAUSE
from loadtest.figures.names import timer_of
from loadtest.scenario.arrival import expected_calls, peak_per_s
from loadtest.scenario.files import Kind, named_files
from loadtest.scenario.model import (
    Callers,
    Dial,
    ExpectHangUp,
    HangUp,
    Profile,
    Scenario,
    Speak,
    Stay,
    Threshold,
)
from loadtest.scenario.sipp_xml import SippError, load_fields, load_sipp

_MOST_PER_S = 5_000
_MOST_CALLS = 5_000_000
"""An hour at a thousand calls a second, and room above it."""


class Check:
    """All the faults of a scenario whose fields are right, each for itself."""

    def __init__(
        self,
        scenario: Scenario,
        source: YamlSource,
        path: Path,
        figures: Collection[str] | None,
    ) -> None:
        self._scenario = scenario
        self._source = source
        self._path = path
        self._figures = figures

    def problems(self) -> list[Problem]:
        """Return them in the order of their lines."""
        return sorted(self._problems(), key=lambda one: (one.file != str(self._path), one.line))

    def _problems(self) -> Iterator[Problem]:
        yield from self._whole()
        for at, callers in enumerate(self._scenario.callers):
            yield from self._callers(("callers", at), callers)
        yield from self._load()
        yield from self._thresholds(("thresholds",), self._scenario.thresholds)
        if self._scenario.smoke is not None:
            yield from self._thresholds(("smoke", "thresholds"), self._scenario.smoke.thresholds)
        for place, kind, name, keys in named_files(self._scenario):
            yield from self._file(place, kind, name, keys)

    def _at(self, place: Place, reason: Words, remedy: Words) -> Problem:
        line = self._source.line(place)
        return Problem(str(self._path), line, place_text(place), reason, remedy)

    def _whole(self) -> Iterator[Problem]:
        scenario = self._scenario
        if not (scenario.callers or scenario.agents or scenario.registrations):
            yield self._at(
                (),
                Words("场景里什么负载也没有", "the scenario loads nothing"),
                Words(
                    "写 callers、agents 或 registrations", "give callers, agents or registrations"
                ),
            )
        if scenario.callers and not scenario.duration_s:
            yield self._at(
                ("duration_s",),
                Words("时长为零,一个呼叫也不会开始", "in no time no call begins"),
                Words("写大于 0 的秒数", "write seconds above 0"),
            )
        if scenario.warm_up_s and scenario.warm_up_s >= scenario.duration_s:
            yield self._at(
                ("warm_up_s",),
                Words("预热占满了全程", "nothing is counted: the warm-up takes all of the run"),
                Words("让它短于 duration_s", "make it shorter than duration_s"),
            )
        seen: set[str] = set()
        for at, callers in enumerate(scenario.callers):
            if callers.name in seen:
                yield self._at(
                    ("callers", at, "name"),
                    Words(f"已有“{callers.name}”", f"{callers.name!r} is there already"),
                    Words("改名其中一个", "rename one"),
                )
            seen.add(callers.name)

    # ── Callers ───────────────────────────────────────────────────────────────────────────────────
    def _callers(self, place: Place, callers: Callers) -> Iterator[Problem]:
        if bool(callers.steps) == (callers.sipp is not None):
            yield self._at(
                place,
                Words("须写 steps 或 sipp 之一", "callers have either steps or sipp"),
                Words(
                    "删去一个" if callers.steps else "写其中一个",
                    "remove one" if callers.steps else "give one of them",
                ),
            )
        yield from self._order(place, callers)
        yield from self._steps(place, callers)
        if isinstance(callers.arrival, Profile):
            yield from self._profile((*place, "arrival", "points"), callers.arrival)

    def _order(self, place: Place, callers: Callers) -> Iterator[Problem]:
        """Find steps that no caller could come to, or that mean nothing where they stand."""
        ended = ""
        for at, step in enumerate(callers.steps):
            where = (*place, "steps", at)
            if (at == 0) != isinstance(step, Dial):
                yield self._at(
                    where,
                    Words("拨号只能是第一步", "a caller dials at first, and once")
                    if at
                    else Words("第一步不是拨号", "the first step is not dial"),
                    Words("删去它,或另写一组 callers", "remove it, or give further callers")
                    if at
                    else Words("先写 do: dial", "begin with do: dial"),
                )
            if ended:
                yield self._at(
                    where,
                    Words(f"{ended} 之后不会再走到这里", f"nothing comes after {ended}"),
                    Words("删去这一步,或放到前面", "remove this step, or put it before that one"),
                )
                return
            if isinstance(step, HangUp | ExpectHangUp):
                ended = step.do
            if isinstance(step, Dial) and step.expect_status != 200:
                ended = f"expect_status: {step.expect_status}"

    def _steps(self, place: Place, callers: Callers) -> Iterator[Problem]:
        for at, step in enumerate(callers.steps):
            where = (*place, "steps", at)
            if isinstance(step, Stay) and step.up_to_s is not None and step.up_to_s < step.s:
                yield self._at(
                    (*where, "up_to_s"),
                    Words("上限小于下限", "the upper limit is below the lower"),
                    Words(f"写不小于 {step.s:g} 的秒数", f"write at least {step.s:g}"),
                )
            if isinstance(step, Dial | Speak) and not (
                step.number if isinstance(step, Dial) else step.file
            ):
                field = "number" if isinstance(step, Dial) else "file"
                yield self._at(
                    (*where, field),
                    Words("内容是空的", "it is empty"),
                    Words("写上内容", "write what is meant"),
                )

    def _profile(self, place: Place, profile: Profile) -> Iterator[Problem]:
        for at, ((before_s, _), (at_s, _)) in enumerate(pairwise(profile.points), start=1):
            if at_s < before_s:
                yield self._at(
                    (*place, at),
                    Words("时间点没有按先后排列", "the points are not in order"),
                    Words(f"写不早于 {before_s:g} 的秒数", f"write no second before {before_s:g}"),
                )
        last_s = profile.points[-1][0]
        if last_s > self._scenario.duration_s:
            yield self._at(
                (*place, len(profile.points) - 1),
                Words(
                    f"第 {last_s:g} 秒在时长 {self._scenario.duration_s:g} 秒之外",
                    f"second {last_s:g} is after the end at {self._scenario.duration_s:g}",
                ),
                Words("加长 duration_s 或移走此点", "lengthen duration_s or move the point"),
            )
        if not any(rate for _, rate in profile.points):
            yield self._at(
                place,
                Words("各点的速率都是零", "all rates are zero"),
                Words("至少一点大于 0", "let one be above 0"),
            )

    def _load(self) -> Iterator[Problem]:
        """Bound what all callers together do: a slip of the pen must not flood a network."""
        callers = self._scenario.callers
        peak = sum(peak_per_s(one.arrival) for one in callers)
        if peak > _MOST_PER_S:
            yield self._at(
                ("callers",),
                Words(
                    f"合计每秒 {peak:g} 个呼叫,上限 {_MOST_PER_S}",
                    f"that is {peak:g} calls a second in all; {_MOST_PER_S} are allowed",
                ),
                Words("降低速率", "lower the rates"),
            )
        calls = sum(expected_calls(one.arrival, self._scenario.duration_s) for one in callers)
        if calls > _MOST_CALLS:
            yield self._at(
                ("duration_s",),
                Words(
                    f"合计约 {calls:.0f} 个呼叫,上限 {_MOST_CALLS}",
                    f"that is about {calls:.0f} calls; {_MOST_CALLS} are allowed",
                ),
                Words("缩短时长或降低速率", "shorten the run or lower the rates"),
            )

    # ── Thresholds and files ──────────────────────────────────────────────────────────────────────
    def _thresholds(self, place: Place, thresholds: tuple[Threshold, ...]) -> Iterator[Problem]:
        for at, threshold in enumerate(thresholds):
            where = (*place, at)
            low, high = threshold.at_least, threshold.at_most
            if self._figures is not None and threshold.figure not in self._figures:
                yield self._at((*where, "figure"), *_unknown(threshold.figure, self._figures))
            timer = timer_of(threshold.figure)
            known = self._timers() if timer is not None else None
            if timer is not None and known is not None and timer not in known:
                yield self._at((*where, "figure"), *_unknown_timer(timer, known))
            if low is None and high is None:
                yield self._at(
                    where,
                    Words("没有界限", "it bounds nothing"),
                    Words("写 at_least 或 at_most", "give at_least or at_most"),
                )
            for name, bound in (("at_least", low), ("at_most", high)):
                if bound is not None and not math.isfinite(bound):
                    yield self._at(
                        (*where, name),
                        Words("不是有限的数", "that is no finite number"),
                        Words("写一个数", "write a number"),
                    )
            if low is not None and high is not None and low > high:
                yield self._at(
                    where,
                    Words("没有数能同时满足两个界限", "no number keeps both bounds"),
                    Words("让 at_least 不大于 at_most", "let at_least be at most at_most"),
                )

    def _timers(self) -> set[str] | None:
        """Return the timers of all sipp scenarios, None where one of these has faults itself."""
        timers: set[str] = set()
        for callers in self._scenario.callers:
            if callers.sipp is None:
                continue
            try:
                sipp = load_sipp(self._path.parent / callers.sipp.file, keys=callers.sipp.keys)
            except (SippError, OSError):
                return None
            timers |= {step.onward.stops_timer for step in sipp.steps}
        return timers - {""}

    def _file(
        self, place: Place, kind: Kind, name: str, keys: Collection[str]
    ) -> Iterator[Problem]:
        path = self._path.parent / name
        try:
            if not path.is_file():
                raise FileNotFoundError
            yield from self._content(place, kind, path, keys)
        except OSError:
            near = instead(path.name, [one.name for one in _siblings(path)])
            yield self._at(
                place,
                Words(f"读不了文件 {path}", f"the file {path} cannot be read"),
                near if _siblings(path) else Words("改正路径", "correct the path"),
            )

    def _content(
        self, place: Place, kind: Kind, path: Path, keys: Collection[str]
    ) -> Iterator[Problem]:
        match kind:
            case Kind.SOUND:
                reason = _deaf(path)
                if reason is not None:
                    remedy = Words("另存为 16 位 PCM 的 WAV", "save it as WAV of 16 bit PCM")
                    yield self._at(place, reason, remedy)
            case Kind.FLOW:
                for one in load_file(path).problems:
                    if one.is_error:
                        yield Problem(str(one.file), one.line, one.node, one.reason, one.remedy)
            case Kind.SIPP:
                yield from self._sipp(place, path, keys)
            case Kind.FIELDS:
                try:
                    load_fields(path, keys=keys)
                except SippError as error:
                    yield from error.problems

    def _sipp(self, place: Place, path: Path, keys: Collection[str]) -> Iterator[Problem]:
        try:
            sipp = load_sipp(path, keys=keys)
        except SippError as error:
            yield from error.problems
            return
        if not sipp.dials:
            yield self._at(
                place,
                Words("该场景等待来电,不会拨出", "that scenario waits for calls and begins none"),
                Words("用以 send 开头的场景", "name one that begins with a send"),
            )
        whose = self._scenario.callers[int(place[1])].sipp
        if sipp.needs_fields and whose is not None and not whose.fields:
            yield self._at(
                place,
                Words(
                    "场景用到 [field0] 却无数据文件", "it uses [field0], and no fields are given"
                ),
                Words("写 fields: 数据文件", "give fields: a file of them"),
            )


def _deaf(path: Path) -> Words | None:
    """Say why there is nothing to hear in a file, None when there is."""
    try:
        sounds = audio.read_wav(path)
    except audio.AudioError as error:
        why = str(error).removeprefix(f"{path}: ")
        return Words(f"不能播放 {path}:{why}", f"{path} cannot be played: {why}")
    if sounds and sounds[0].duration_ms:
        return None
    return Words(f"{path} 里没有声音", f"there is no sound in {path}")


def _unknown(figure: str, figures: Collection[str]) -> tuple[Words, Words]:
    """Say that no report has this figure, and what to write."""
    if not figure.startswith(FAILED_BY_CAUSE):
        reason = Words(f"报告里没有“{figure}”", f"the report has no {figure!r}")
        return reason, instead(figure, figures)
    cause = figure.removeprefix(FAILED_BY_CAUSE)
    known = [
        one.removeprefix(FAILED_BY_CAUSE) for one in figures if one.startswith(FAILED_BY_CAUSE)
    ]
    hint = instead(cause, known)
    return (
        Words(f"呼叫不会因“{cause}”失败", f"no call fails by {cause!r}"),
        Words(f"{hint.zh},或 503 这样的状态码", f"{hint.en}, or a status such as 503"),
    )


def _unknown_timer(timer: str, known: Collection[str]) -> tuple[Words, Words]:
    reason = Words(f"没有 sipp 场景用 rtd 记录计时“{timer}”", f"no sipp scenario has rtd={timer!r}")
    if known:
        return reason, instead(timer, sorted(known))
    return reason, Words("在 sipp 场景的某一步写 rtd", "write rtd at a step of the sipp scenario")


def _siblings(path: Path) -> list[Path]:
    """Return the files that may have been meant: of the same folder, with the same ending."""
    folder = path.parent
    return sorted(folder.glob(f"*{path.suffix}")) if path.suffix and folder.is_dir() else []
