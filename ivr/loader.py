"""From a file to a flow: read, build the nodes, check, and report every fault with its line."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from domain.validation_words import validation_words
from domain.words import Words
from domain.yaml_source import Place, YamlSource, YamlSyntaxError
from ivr.checker import Draft, check
from ivr.flow import Flow, Header, Step
from ivr.model import Node
from ivr.nodes import KINDS
from ivr.problems import Problem, Severity

_LARGEST_FILE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file's flow, None where it has errors, and all that is to say about it."""

    file: Path
    name: str
    """The flow's name, empty where it could not be read."""
    flow: Flow | None
    problems: list[Problem]


def flow_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files given, and those in the directories given."""
    found: list[Path] = []
    for path in paths:
        inside = sorted([*path.rglob("*.yaml"), *path.rglob("*.yml")]) if path.is_dir() else [path]
        found += inside
    return list(dict.fromkeys(found))


def load_file(file: Path, *, queues: Collection[str] | None = None) -> Loaded:
    """Read and check one flow; `queues` are the names that exist, None when not known."""
    try:
        if file.stat().st_size > _LARGEST_FILE_BYTES:
            reason = Words("文件超过 1 MB", "the file is over 1 MB")
            return _unread(file, 0, reason, Words("缩短它", "shorten it"))
        text = file.read_text(encoding="utf-8")
        source = YamlSource(text, numbers=True)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        reason = Words("文件不是 UTF-8 编码", "the file is not UTF-8")
        return _unread(file, line, reason, Words("另存为 UTF-8 编码", "save it as UTF-8"))
    except OSError as error:
        reason = Words(f"读不了文件({error.strerror})", f"cannot read the file ({error.strerror})")
        return _unread(file, 0, reason, Words("检查文件名和权限", "check its name and permissions"))
    except YamlSyntaxError as error:
        return _unread(file, error.line, error.reason, error.remedy)
    if not isinstance(source.data, dict):
        reason = Words("文件不是“名字: 内容”的结构", "the file does not hold `name: value` lines")
        return _unread(file, 1, reason, Words("见 docs/flows.md 的例子", "see docs/flows.md"))
    return _load(file, text, source, source.data, queues)


def _load(
    file: Path, text: str, source: YamlSource, data: dict[str, Any], queues: Collection[str] | None
) -> Loaded:
    name = str(data.get("flow", ""))
    faults = _Faults(file, source)
    header = _build_header(data, faults)
    nodes: dict[str, Node] = {}
    broken: dict[str, Any] = {}
    written = data.get("nodes")
    for node_name, raw in written.items() if isinstance(written, dict) else ():
        node = _build_node(node_name, raw, faults)
        if node is None:
            broken[node_name] = raw
        else:
            nodes[node_name] = node
    if header is None:
        return Loaded(file, name, None, faults.problems)
    if header.flow != file.stem:  # access codes name a flow, and people look for its file
        faults.say(
            "file_name", "", ("flow",),
            Words("流程名与文件名不同", "the flow is not named as its file"),
            Words(f"写 flow: {file.stem},或改文件名", f"write flow: {file.stem}, or rename it"),
        )  # fmt: skip
    draft = Draft(file, header, nodes, broken, source)
    problems = [*faults.problems, *check(draft, queues)]
    problems.sort(key=lambda problem: problem.line)
    if any(problem.is_error for problem in problems):
        return Loaded(file, header.flow, None, problems)
    flow = Flow(
        name=header.flow,
        title=header.title,
        version=hashlib.sha256(text.encode()).hexdigest()[:12],
        file=file,
        languages=tuple(dict.fromkeys(header.languages)),
        start=header.start,
        steps={
            node_name: Step(node, {exit_name: target for exit_name, _, target in node.edges()})
            for node_name, node in nodes.items()
        },
        source=source,
    )
    return Loaded(file, header.flow, flow, problems)


def _build_header(data: dict[str, Any], faults: _Faults) -> Header | None:
    try:
        return Header.model_validate(data)
    except ValidationError as error:
        faults.add(error, Header, "", ())
    return None


def _build_node(name: str, raw: object, faults: _Faults) -> Node | None:
    place: Place = ("nodes", name)
    if not isinstance(raw, dict):
        faults.say(
            "node", name, place,
            Words("节点没有内容", "the node has no content"),
            Words("至少写 kind", "give at least its kind"),
        )  # fmt: skip
        return None
    kind = raw.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        faults.say(
            "kind", name, (*place, "kind"),
            Words(f"没有“{kind}”这种节点", f"there is no node kind {kind!r}"),
            Words(_instead(str(kind), KINDS, "zh"), _instead(str(kind), KINDS, "en")),
        )  # fmt: skip
        return None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        faults.add(error, model, name, place)
    return None


class _Faults:
    """Turns what pydantic found into problems."""

    def __init__(self, file: Path, source: YamlSource) -> None:
        self.file = file
        self.source = source
        self.problems: list[Problem] = []

    def say(self, rule: str, node: str, place: Place, reason: Words, remedy: Words) -> None:
        line = self.source.line(place)
        self.problems.append(Problem(Severity.ERROR, rule, self.file, line, node, reason, remedy))

    def add(self, error: ValidationError, model: type[BaseModel], node: str, place: Place) -> None:
        seen: set[Place] = set()
        for detail in error.errors(include_url=False):
            where = self._written(place, detail)
            if where in seen:
                continue  # one problem a place, though each member of a union complains
            seen.add(where)
            field = ".".join(map(str, where[len(place) :]))
            rule, reason, remedy = _explain(detail, field, model)
            self.say(rule, node, where, reason, remedy)

    def _written(self, place: Place, detail: ErrorDetails) -> Place:
        """Leave out what pydantic puts into a place that was not written, as tags of unions."""
        *inside, last = detail["loc"] or ("",)
        for part in inside:
            if self.source.has((*place, part)):
                place = (*place, part)
        is_written = self.source.has((*place, last)) or detail["type"] == "missing"
        return (*place, last) if is_written else place


def _explain(detail: ErrorDetails, field: str, model: type[BaseModel]) -> tuple[str, Words, Words]:
    last = str(detail["loc"][-1]) if detail["loc"] else ""
    context = detail.get("ctx", {})
    if detail["type"] == "flow_fault":
        reason = Words(f"{field}:{context['zh']}", f"{field}: {context['en']}")
        return context["rule"], reason, Words(context["remedy_zh"], context["remedy_en"])
    if detail["type"] == "missing":
        reason = Words(f"缺少“{field}”", f"{field!r} is missing")
        return "missing", reason, Words(f"补上 {field}", f"add {field}")
    if detail["type"] == "extra_forbidden":
        known = [info.alias or name for name, info in model.model_fields.items()]
        reason = Words(f"不认识“{field}”", f"{field!r} is not known here")
        if len(detail["loc"]) > 1:
            return "unknown_field", reason, Words(f"删去 {field}", f"remove {field}")
        return (
            "unknown_field",
            reason,
            Words(_instead(last, known, "zh"), _instead(last, known, "en")),
        )
    wrong, remedy = validation_words(detail)
    return "value", Words(f"“{field}”{wrong.zh}", f"{field!r}: {wrong.en}"), remedy


def _instead(word: str, known: Iterable[str], language: str) -> str:
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    if language == "zh":
        return f"是否想写 {close[0]}" if close else f"用其中之一:{'、'.join(names)}"
    return f"did you mean {close[0]}" if close else f"use one of {', '.join(names)}"


def _unread(file: Path, line: int, reason: Words, remedy: Words) -> Loaded:
    problem = Problem(Severity.ERROR, "yaml", file, line, "", reason, remedy)
    return Loaded(file, "", None, [problem])
