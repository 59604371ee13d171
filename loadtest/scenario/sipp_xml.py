"""Scenarios in sipp's own XML, of the common subset: read, checked, and told fault by fault.

What is understood is listed in docs/loadtest.md; all else is a fault, never passed over.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Literal

from domain.document_problems import Problem, instead
from domain.words import Words
from loadtest.scenario.sipp_actions import expression, parse_actions
from loadtest.scenario.sipp_faults import Faults
from loadtest.scenario.sipp_steps import (
    Act,
    Fields,
    Onward,
    Receive,
    Send,
    SippScenario,
    Step,
    Wait,
)
from loadtest.scenario.sipp_template import TemplateError, parse_message
from loadtest.scenario.xml_source import Element, XmlError, parse_xml

_MAX_FILE_BYTES = 1024 * 1024
_STEPS = ("send", "recv", "pause", "nop", "label", "timewait")
_FIGURES_OF_SIPP = {"ResponseTimeRepartition", "CallLengthRepartition", "Reference"}
"""Tables of sipp's own report, and a mark against its own warnings: nothing is done for them."""
_ONWARD = frozenset({"next", "test", "chance", "start_rtd", "rtd"})
_SHOWN = frozenset({"crlf", "display", "hide", "counter"})
"""They change what sipp's screen shows, and no message."""
_SEND = _ONWARD | _SHOWN | {"retrans", "lost"}
_RECEIVE = _ONWARD | _SHOWN | {
    "request", "response", "optional", "timeout", "ontimeout", "rrs", "auth", "regexp_match",
    "lost",
}  # fmt: skip
_PAUSE = _ONWARD | _SHOWN | {
    "milliseconds", "distribution", "value", "min", "max", "mean", "stdev", "sanity_check",
}  # fmt: skip
_Kind = Literal["default", "fixed", "uniform", "exponential", "normal"]
_DISTRIBUTIONS: dict[str, tuple[_Kind, tuple[str, ...]]] = {
    "": ("default", ()),
    "milliseconds": ("fixed", ("milliseconds",)),
    "fixed": ("fixed", ("value",)),
    "uniform": ("uniform", ("min", "max")),
    "exponential": ("exponential", ("mean",)),
    "normal": ("normal", ("mean", "stdev")),
}
_FIRST_RETRANSMISSION_MS = 60_000


class SippError(Exception):
    """A sipp scenario that cannot be played, with every fault found in it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def load_sipp(
    path: Path, *, keys: Collection[str] = (), folders: Collection[Path] = ()
) -> SippScenario:
    """Read a scenario; `keys` are keywords of the author's own (sipp's -key).

    Files that it plays are looked for in `folders` and beside it. Raises SippError.
    """
    faults = Faults(path, keys, folders)
    root = _root(path, faults)
    if root is None:
        raise SippError(faults.problems)
    if root.name != "scenario":
        faults.unknown_element(root, ("scenario",))
        raise SippError(faults.problems)
    reader = _Reader(faults)
    steps = reader.read(root)
    if not faults.problems:
        reader.check(steps)
    if faults.problems:
        raise SippError(sorted(faults.problems, key=lambda one: one.line))
    name = root.attributes.get("name", path.stem)
    return SippScenario(name, path, steps)


def _root(path: Path, faults: Faults) -> Element | None:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            reason = Words("文件太大", "the file is too large")
            faults.say(1, reason, Words("缩短它", "shorten it"))
            return None
        return parse_xml(path.read_bytes())
    except OSError as error:
        reason = Words(f"读不了文件:{error.strerror}", f"the file cannot be read: {error.strerror}")
        faults.say(1, reason, Words("改正路径", "correct the path"))
    except XmlError as error:
        faults.say(error.line, error.reason, error.remedy)
    return None


class _Reader:
    """Builds steps from elements; labels become step numbers at the end."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._labels: dict[str, int] = {}
        self._jumps: dict[int, tuple[str, str]] = {}
        """Of a step: the labels of `next` and of `ontimeout`."""

    def read(self, root: Element) -> tuple[Step, ...]:
        steps: list[Step] = []
        is_over = False
        for element in root.children:
            if is_over and element.name in _STEPS and element.name != "label":
                reason = Words("<timewait> 之后不会再走到这里", "nothing comes after <timewait>")
                self._faults.say(element.line, reason, Words("删去它", "remove it"))
                break
            match element.name:
                case "label":
                    self._label(element, len(steps))
                    continue
                case "timewait":
                    # What comes again after a call's end is answered anyway.
                    self._faults.check_attributes(element, ("milliseconds",))
                    is_over = True
                    continue
                case name if name in _FIGURES_OF_SIPP:
                    continue
                case "send":
                    step: Step | None = self._send(element)
                case "recv":
                    step = self._receive(element)
                case "pause":
                    step = self._pause(element)
                case "nop":
                    self._faults.check_attributes(element, _ONWARD | _SHOWN)
                    step = Act(self._onward(element), parse_actions(element, self._faults))
                case _:
                    self._faults.unknown_element(element, _STEPS)
                    continue
            if step is not None:
                written = element.attributes
                self._jumps[len(steps)] = written.get("next", ""), written.get("ontimeout", "")
                steps.append(step)
        if not steps and not self._faults.problems:
            reason = Words("场景里没有步骤", "the scenario has no steps")
            self._faults.say(root.line, reason, Words("写 send、recv 等", "write send, recv, ..."))
        return tuple(self._resolved(at, step) for at, step in enumerate(steps))

    def check(self, steps: tuple[Step, ...]) -> None:
        """Find what fields alone do not tell."""
        begun = {one.onward.starts_timer for one in steps} - {""}
        for at, step in enumerate(steps):
            timer = step.onward.stops_timer
            if timer and timer not in begun:
                # sipp's own rtd="true" is the time since the call's beginning.
                if timer == "1":
                    continue
                self._faults.say(
                    step.onward.line,
                    Words(f"计时“{timer}”从未开始", f"the timer {timer!r} is never begun"),
                    instead(timer, sorted(begun))
                    if begun
                    else Words("在 send 上写 start_rtd", "write start_rtd at a send"),
                )
            following = steps[at + 1] if at + 1 < len(steps) else None
            if (
                isinstance(step, Receive)
                and step.optional == "here"
                and not isinstance(following, Receive)
            ):
                self._faults.say(
                    step.onward.line,
                    Words("可选的 recv 之后没有必须的 recv",
                          "no recv that must come follows this optional one"),
                    Words("补上必须的 recv,或去掉 optional",
                          "add one that must come, or drop optional"),
                )  # fmt: skip

    # ── Steps ─────────────────────────────────────────────────────────────────────────────────────
    def _send(self, element: Element) -> Send | None:
        faults = self._faults
        faults.check_attributes(element, _SEND)
        for child in element.children:
            faults.unknown_element(child, ("![CDATA[",))
        retransmit_ms = self._number(element, "retrans", most=_FIRST_RETRANSMISSION_MS)
        text, line = element.cdata, element.cdata_line
        if not text.strip():
            reason = Words("send 里没有消息", "there is no message in this send")
            remedy = Words("写 <![CDATA[ … ]]>", "write <![CDATA[ ... ]]>")
            faults.say(element.line, reason, remedy)
            return None
        try:
            message = parse_message(text, faults.keys)
        except TemplateError as error:
            faults.say(line + error.line, error.reason, error.remedy)
            return None
        return Send(self._onward(element), message, retransmit_ms / 1000)

    def _receive(self, element: Element) -> Receive:
        faults, written = self._faults, element.attributes
        faults.check_attributes(element, _RECEIVE)
        request, status = written.get("request", ""), written.get("response", "")
        if bool(request) == bool(status):
            faults.say(
                element.line,
                Words("须写 request 或 response 之一", "a recv has either request or response"),
                Words("写其中一个", "give one of them"),
            )
        pattern = None
        if faults.flag(element, "regexp_match"):
            pattern = expression(request or status, element.line, faults)
        elif status and not (status.isdigit() and 100 <= int(status) <= 699):
            faults.say(
                element.line,
                Words(f"“{status}”不是状态码", f"{status!r} is no status"),
                Words("写 100 到 699", "write 100 to 699"),
            )
        return Receive(
            self._onward(element),
            request=request,
            status=status,
            expression=pattern,
            optional=self._optional(element),
            timeout_s=self._number(element, "timeout") / 1000,
            keeps_routes=faults.flag(element, "rrs"),
            keeps_challenge=faults.flag(element, "auth"),
            actions=parse_actions(element, faults),
        )

    def _optional(self, element: Element) -> Literal["", "here", "global"]:
        if element.attributes.get("optional", "").strip().lower() == "global":
            return "global"
        return "here" if self._faults.flag(element, "optional") else ""

    def _pause(self, element: Element) -> Wait | None:
        faults, written = self._faults, element.attributes
        faults.check_attributes(element, _PAUSE)
        named = "milliseconds" if "milliseconds" in written else written.get("distribution", "")
        if named not in _DISTRIBUTIONS:
            faults.say(
                element.line,
                Words(f"不支持分布“{named}”", f"the distribution {named!r} is not supported"),
                instead(named, [one for one in _DISTRIBUTIONS if one]),
            )
            return None
        kind, attributes = _DISTRIBUTIONS[named]
        for attribute in attributes:
            if attribute not in written:
                faults.missing(element, attribute)
        times_s = [self._number(element, attribute) / 1000 for attribute in attributes]
        if kind == "uniform" and times_s[1] < times_s[0]:
            reason = Words("max 小于 min", "max is below min")
            faults.say(element.line, reason, Words("对调两者", "exchange them"))
        return Wait(self._onward(element), kind, *times_s)

    # ── What steps share ──────────────────────────────────────────────────────────────────────────
    def _onward(self, element: Element) -> Onward:
        written = element.attributes
        if "test" in written and "next" not in written:
            self._faults.missing(element, "next")
        chance = self._faults.number(element, written.get("chance", "1"), "chance", most=1)
        return Onward(
            line=element.line,
            test=written.get("test", ""),
            chance=chance,
            starts_timer=_timer(written.get("start_rtd", "")),
            stops_timer=_timer(written.get("rtd", "")),
            lost=self._number(element, "lost", most=100) / 100,
        )

    def _number(self, element: Element, attribute: str, most: float = 86_400_000) -> float:
        if attribute not in element.attributes:
            return 0.0
        return self._faults.number(element, element.attributes[attribute], attribute, most=most)

    def _label(self, element: Element, at: int) -> None:
        self._faults.check_attributes(element, ("id",))
        name = element.attributes.get("id", "")
        if not name:
            self._faults.missing(element, "id")
            return
        if name in self._labels:
            reason = Words(f"标签“{name}”重复", f"the label {name!r} is there twice")
            self._faults.say(element.line, reason, Words("改名其中一个", "rename one"))
        elif name.startswith("_"):
            reason = Words(f"不支持标签“{name}”", f"the label {name!r} is not supported")
            remedy = Words("换一个名字,并用 next 指向它", "name it otherwise and go there by next")
            self._faults.say(element.line, reason, remedy)
        self._labels.setdefault(name, at)

    def _resolved(self, at: int, step: Step) -> Step:
        next_label, timeout_label = self._jumps[at]
        onward = step.onward
        if next_label:
            onward = replace(onward, next_step=self._place(next_label, onward.line))
        if isinstance(step, Receive) and timeout_label:
            place = self._place(timeout_label, onward.line)
            if not step.timeout_s:
                reason = Words("ontimeout 没有 timeout", "ontimeout without timeout")
                self._faults.say(onward.line, reason, Words("补上 timeout", "add timeout"))
            return replace(step, onward=onward, timeout_step=place)
        return replace(step, onward=onward)

    def _place(self, label: str, line: int) -> int:
        if label in self._labels:
            return self._labels[label]
        reason = Words(f"没有标签“{label}”", f"there is no label {label!r}")
        remedy = (
            instead(label, self._labels)
            if self._labels
            else Words(f"写 <label id=“{label}”/>", f'write <label id="{label}"/>')
        )
        self._faults.say(line, reason, remedy)
        return 0


def _timer(written: str) -> str:
    """Return a timer's name; sipp's `true` is its first one."""
    return "1" if written in {"true", "1"} else "" if written == "false" else written


def load_fields(path: Path, *, keys: Collection[str] = ()) -> Fields:
    """Read a file of `[field0]`, ... (sipp's -inf): its order, then one line a call.

    Raises SippError.
    """
    faults = Faults(path, keys, ())
    lines: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = Words(f"读不了文件:{error}", f"the file cannot be read: {error}")
        faults.say(
            1, reason, Words("改正路径,或另存为 UTF-8", "correct the path, or save as UTF-8")
        )
    rows = [
        tuple(faults.parts(field, at) for field in line.split(";"))
        for at, line in enumerate(lines[1:], start=2)
        if line.strip() and not line.startswith("#")
    ]
    if lines and lines[0].strip().upper() != "SEQUENTIAL":
        reason = Words("首行不是 SEQUENTIAL", "the first line is not SEQUENTIAL")
        faults.say(1, reason, Words("写 SEQUENTIAL", "write SEQUENTIAL"))
    elif not rows and not faults.problems:
        reason = Words("没有一行数据", "there is no line of fields")
        faults.say(1, reason, Words("每个呼叫写一行", "write a line a call"))
    if faults.problems:
        raise SippError(faults.problems)
    return rows
