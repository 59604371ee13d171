"""The actions of a sipp scenario: what is searched, played, pressed and logged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, cast

from cti import audio
from domain.document_problems import instead
from domain.words import Words
from loadtest.scenario.captured import CaptureError, read_capture
from loadtest.scenario.sipp_faults import Faults
from loadtest.scenario.sipp_steps import (
    Action,
    Match,
    PlayCapture,
    PlaySound,
    PressKeys,
    Say,
    SearchIn,
    StopCall,
)
from loadtest.scenario.xml_source import Element

_SUPPORTED = ("ereg", "exec", "log", "warning")
_EXECUTED = ("play_pcap_audio", "rtp_stream", "play_dtmf", "int_cmd")
_EREG = frozenset({
    "regexp", "search_in", "header", "assign_to", "check_it", "check_it_inverse", "occurrence",
    "occurence", "case_indep", "variable",
})  # fmt: skip
_POSIX_CLASSES = {
    "[:digit:]": "0-9", "[:alpha:]": "A-Za-z", "[:alnum:]": "A-Za-z0-9", "[:upper:]": "A-Z",
    "[:lower:]": "a-z", "[:space:]": r"\s", "[:blank:]": r" \t", "[:xdigit:]": "0-9A-Fa-f",
    "[:punct:]": re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
}  # fmt: skip


def parse_actions(element: Element, faults: Faults) -> tuple[Action, ...]:
    """Return what stands in the `<action>` of a step; faults are said."""
    found: list[Action] = []
    for child in element.children:
        if child.name != "action":
            faults.unknown_element(child, ("action",))
            continue
        for one in child.children:
            found += _action(one, faults)
    return tuple(found)


def expression(
    text: str, line: int, faults: Faults, *, any_case: bool = False
) -> re.Pattern[str] | None:
    """Compile an expression of POSIX; None, and said, where it is none."""
    for name, members in _POSIX_CLASSES.items():
        text = text.replace(name, members)
    try:
        return re.compile(text, re.DOTALL | (re.IGNORECASE if any_case else 0))
    except re.error as error:
        faults.say(
            line,
            Words(f"正则表达式不对:{error}", f"the expression is wrong: {error}"),
            Words("改正它", "correct it"),
        )
        return None


def _action(element: Element, faults: Faults) -> Iterator[Action]:
    match element.name:
        case "ereg":
            yield from _ereg(element, faults)
        case "exec":
            yield from _exec(element, faults)
        case "log" | "warning":
            faults.check_attributes(element, ("message",))
            text = faults.parts(element.attributes.get("message", ""), element.line)
            yield Say("warning" if element.name == "warning" else "info", text)
        case _:
            faults.unknown_element(element, _SUPPORTED)


def _ereg(element: Element, faults: Faults) -> Iterator[Match]:
    faults.check_attributes(element, _EREG)
    written = element.attributes
    search_in = written.get("search_in", "msg")
    if search_in not in set(SearchIn):
        faults.say(
            element.line,
            Words(f"不支持 search_in=“{search_in}”", f"search_in={search_in!r} is not supported"),
            instead(search_in, list(SearchIn)),
        )
        return
    name = written.get("variable" if search_in == SearchIn.VARIABLE else "header", "")
    if search_in in {SearchIn.HEADER, SearchIn.VARIABLE} and not name.strip(": "):
        wanted = "variable" if search_in == SearchIn.VARIABLE else "header"
        faults.missing(element, wanted)
        return
    must: Literal["match", "not_match", ""] = ""
    if faults.flag(element, "check_it"):
        must = "match"
    elif faults.flag(element, "check_it_inverse"):
        must = "not_match"
    assigned = [one.strip() for one in written.get("assign_to", "").split(",") if one.strip()]
    if not assigned and not must:
        faults.missing(element, "assign_to")
    if "regexp" not in written:
        faults.missing(element, "regexp")
        return
    any_case = faults.flag(element, "case_indep")
    pattern = expression(written["regexp"], element.line, faults, any_case=any_case)
    if pattern is None:
        return
    if len(assigned) > pattern.groups + 1:
        faults.say(
            element.line,
            Words(
                f"变量有 {len(assigned)} 个,表达式只有 {pattern.groups} 组",
                f"{len(assigned)} variables for an expression of {pattern.groups} groups",
            ),
            Words(
                "第一个变量是整个匹配,其余各对应一组", "the first takes all, each other one a group"
            ),
        )
    occurrence = written.get("occurrence", written.get("occurence", "1"))
    header = name if search_in == SearchIn.VARIABLE else name.strip().rstrip(":").lower()
    yield Match(
        expression=pattern,
        search_in=SearchIn(search_in),
        header=header,
        occurrence=int(faults.number(element, occurrence, "occurrence", least=1)),
        assign_to=tuple(assigned),
        must=must,
    )


def _exec(element: Element, faults: Faults) -> Iterator[Action]:
    faults.check_attributes(element, _EXECUTED)
    for name, value in element.attributes.items():
        match name:
            case "play_pcap_audio":
                yield from _capture(value, element.line, faults)
            case "rtp_stream":
                yield from _stream(value, element.line, faults)
            case "play_dtmf":
                keys = faults.parts(value, element.line)
                if all(isinstance(one, str) for one in keys):
                    text = "".join(cast("tuple[str, ...]", keys))
                    if not text or text.strip("0123456789*#ABCD"):
                        faults.say(
                            element.line,
                            Words(f"“{value}”不是按键", f"{value!r} are no keys"),
                            Words("用 0-9 * # A-D", "use 0-9 * # A-D"),
                        )
                        continue
                yield PressKeys(keys)
            case "int_cmd" if value == "stop_call":
                yield StopCall()
            case "int_cmd":
                faults.say(
                    element.line,
                    Words(f"不支持 int_cmd=“{value}”", f"int_cmd={value!r} is not supported"),
                    Words("只能是 stop_call", "it can be stop_call"),
                )


def _capture(name: str, line: int, faults: Faults) -> Iterator[PlayCapture]:
    path = faults.found(name, line)
    if path is None:
        return
    try:
        yield PlayCapture(read_capture(path))
    except (CaptureError, OSError) as error:
        faults.say(
            line,
            Words(f"不能播放 {path}:{error}", f"{path} cannot be played: {error}"),
            Words("录一个 G.711 的 pcap 文件", "capture RTP of G.711 in libpcap's format"),
        )


def _stream(value: str, line: int, faults: Faults) -> Iterator[PlaySound]:
    name, *rest = (one.strip() for one in value.split(","))
    if name in {"pause", "resume"}:
        if name == "pause":
            yield PlaySound(None)
            return
        faults.say(
            line,
            Words("不支持 rtp_stream=“resume”", "rtp_stream='resume' is not supported"),
            Words("再写一次文件名", "name the file again"),
        )
        return
    path = faults.found(name, line)
    if path is None:
        return
    loops = rest[0] if rest else "1"
    if not loops.removeprefix("-").isdigit() or not -1 <= int(loops) <= 10_000:
        faults.say(
            line,
            Words(f"“{loops}”不是次数", f"{loops!r} is no number of times"),
            Words("写次数,-1 为一直播放", "write how often, -1 for ever"),
        )
        return
    try:
        audio.read_wav(path)
    except (audio.AudioError, OSError) as error:
        faults.say(
            line,
            Words(f"不能播放 {path}:{error}", f"{path} cannot be played: {error}"),
            Words("另存为 16 位 PCM 的 WAV", "save it as WAV of 16 bit PCM"),
        )
        return
    yield PlaySound(Path(path), times=max(0, int(loops)))
