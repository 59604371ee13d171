"""Checks a flow as a graph: targets, ways, loops, levels, variables, texts and queues."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain.words import Words
from domain.yaml_source import Place, YamlSource
from ivr.context import RESERVED
from ivr.flow import Header
from ivr.model import Node, Prompt, prompts_of, variables_read
from ivr.nodes.menu import MenuNode
from ivr.nodes.queue import QueueNode
from ivr.problems import Problem, Severity
from ivr.service_rules import service_warnings

_MOST_LEVELS = 5  # DL/T service standard: no caller is led deeper


@dataclass(frozen=True, slots=True)
class Draft:
    """A flow whose nodes were read, before it is known to be right.

    `broken` holds what was written for nodes that could not be built; what looks like a target
    in them counts as one, so that one mistake is not reported as many.
    """

    file: Path
    header: Header
    nodes: dict[str, Node]
    broken: dict[str, Any]
    source: YamlSource
    edges: dict[str, list[tuple[str, Place, str]]] = field(default_factory=dict)

    def problem(
        self, severity: Severity, rule: str, node: str, place: Place, reason: Words, remedy: Words
    ) -> Problem:
        """Return a problem at a place inside a node, or of the header when node is empty."""
        line = self.source.line(("nodes", node, *place) if node else place)
        return Problem(severity, rule, self.file, line, node, reason, remedy)

    def error(self, rule: str, node: str, place: Place, reason: Words, remedy: Words) -> Problem:
        """Return an error."""
        return self.problem(Severity.ERROR, rule, node, place, reason, remedy)

    def warning(self, rule: str, node: str, place: Place, reason: Words, remedy: Words) -> Problem:
        """Return a warning."""
        return self.problem(Severity.WARNING, rule, node, place, reason, remedy)

    def exists(self, name: str) -> bool:
        """Tell whether a node of that name was written."""
        return name in self.nodes or name in self.broken

    def following(self, name: str) -> list[str]:
        """Return the existing nodes that may follow."""
        return [target for _, _, target in self.edges[name] if self.exists(target)]


def check(draft: Draft, queues: Collection[str] | None) -> list[Problem]:
    """Return all problems of the graph; `queues` are the names that exist, None when unknown."""
    for name, node in draft.nodes.items():
        draft.edges[name] = list(node.edges())
    for name, raw in draft.broken.items():
        draft.edges[name] = [("?", (), word) for word in _words(raw) if draft.exists(word)]
    problems = [*_unknown_targets(draft), *_missing_texts(draft), *_unknown_queues(draft, queues)]
    if draft.exists(draft.header.start):
        reached = _levels(draft)
        problems += _unreachable(draft, reached)
        problems += _too_deep(draft, reached)
        problems += service_warnings(draft, reached)
    problems += _deaf_loops(draft)
    if not draft.broken:  # a broken node may define anything
        problems += _variables(draft)
    return problems


def _words(raw: object) -> Iterator[str]:
    if isinstance(raw, dict):
        for value in raw.values():
            yield from _words(value)
    elif isinstance(raw, list):
        for value in raw:
            yield from _words(value)
    elif isinstance(raw, str):
        yield raw


def _unknown_targets(draft: Draft) -> Iterator[Problem]:
    names = [*draft.nodes, *draft.broken]
    places: list[tuple[str, Place, str]] = [("", ("start",), draft.header.start)]
    places += [
        (name, place, target) for name in draft.nodes for _, place, target in draft.edges[name]
    ]
    for name, place, target in places:
        if draft.exists(target):
            continue
        close = difflib.get_close_matches(target, names, n=1)
        remedy = (
            Words(f"是否想写 {close[0]}", f"did you mean {close[0]}")
            if close
            else Words("增加这个节点,或改为已有的节点", "add that node, or name one that exists")
        )
        where = ".".join(map(str, place))
        yield draft.error(
            "unknown_target", name, place,
            Words(f"{where} 指向不存在的节点“{target}”", f"{where}: there is no node {target!r}"),
            remedy,
        )  # fmt: skip


def _levels(draft: Draft) -> dict[str, int]:
    """Return the fewest menus passed on the way to and including each reachable node."""

    def weight(name: str) -> int:
        return int(isinstance(draft.nodes.get(name), MenuNode))

    start = draft.header.start
    levels = {start: weight(start)}
    waiting = deque([start])
    while waiting:
        name = waiting.popleft()
        for target in draft.following(name):
            level = levels[name] + weight(target)
            if level < levels.get(target, level + 1):
                levels[target] = level
                waiting.append(target)
    return levels


def _unreachable(draft: Draft, reached: dict[str, int]) -> Iterator[Problem]:
    for name in [*draft.nodes, *draft.broken]:
        if name not in reached:
            yield draft.warning(
                "unreachable", name, (),
                Words("没有任何路径到达此节点", "no way leads to this node"),
                Words("删去它,或让别的节点指向它", "remove it, or lead to it"),
            )  # fmt: skip


def _too_deep(draft: Draft, reached: dict[str, int]) -> Iterator[Problem]:
    for name, level in reached.items():
        if level > _MOST_LEVELS and isinstance(draft.nodes.get(name), MenuNode):
            yield draft.error(
                "too_deep", name, (),
                Words(f"菜单在第 {level} 层,最多 {_MOST_LEVELS} 层",
                      f"the menu is at level {level}, {_MOST_LEVELS} are allowed"),
                Words("合并上级菜单", "merge menus above it"),
            )  # fmt: skip


def _deaf_loops(draft: Draft) -> Iterator[Problem]:
    """Find loops through nodes that never listen: they would run without end.

    What remains after taking away, again and again, nodes from which every way ends is on a loop or
    leads to one; of that, nodes are reported that can return to themselves.
    """
    deaf = {
        name: [t for t in draft.following(name) if t in draft.nodes and not draft.nodes[t].listens]
        for name, node in draft.nodes.items()
        if not node.listens
    }
    reported: set[str] = set()
    for name in deaf:
        if name in reported:
            continue
        loop = _way_back(deaf, name)
        if loop:
            reported.update(loop)
            way = " → ".join([*loop, name])
            yield draft.error(
                "deaf_loop", name, (),
                Words(f"循环中不收听客户:{way}", f"a loop never listens to the caller: {way}"),
                Words("在循环里加入 menu 或 collect,或改变去向",
                      "put a menu or collect into it, or lead elsewhere"),
            )  # fmt: skip


def _way_back(graph: dict[str, list[str]], start: str) -> list[str]:
    """Return the shortest way from a node to itself, empty when there is none."""
    came_from: dict[str, str] = {}
    waiting = deque([start])
    while waiting:
        name = waiting.popleft()
        for target in graph[name]:
            if target == start:
                way = [name]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if target not in came_from:
                came_from[target] = name
                waiting.append(target)
    return []


def _variables(draft: Draft) -> Iterator[Problem]:
    """Find variables that no way to the node sets."""
    known = frozenset(draft.header.inputs) | RESERVED
    before: dict[str, frozenset[str]] = {draft.header.start: known}
    waiting = deque([draft.header.start])
    while waiting:
        name = waiting.popleft()
        if name not in draft.nodes:
            continue
        for exit_name, _, target in draft.edges[name]:
            after = before[name] | draft.nodes[name].defines(exit_name)
            if target not in before or not after <= before[target]:
                before[target] = before.get(target, frozenset()) | after
                waiting.append(target)
    for name, node in draft.nodes.items():
        if name not in before:
            continue
        own = frozenset().union(*(node.defines(exit_name) for exit_name, _, _ in node.edges()))
        for place, variable in dict.fromkeys(variables_read(node)):
            # a node may read what it sets itself, as a collection's condition does
            if variable not in before[name] | own:
                yield draft.error(
                    "undefined_variable", name, place,
                    Words(f"变量“{variable}”此前没有赋值", f"{variable!r} is not set before"),
                    Words("先用 query、collect 或 set 赋值,或写入 inputs",
                          "set it by query, collect or set, or name it in inputs"),
                )  # fmt: skip
        for variable in sorted(own & RESERVED):
            yield draft.error(
                "reserved_variable", name, (),
                Words(f"变量“{variable}”由平台使用", f"{variable!r} is set by the platform"),
                Words("换一个名字", "choose another name"),
            )  # fmt: skip


def _missing_texts(draft: Draft) -> Iterator[Problem]:
    for name, node in draft.nodes.items():
        for place, prompt in prompts_of(node):
            yield from _missing_languages(draft, name, place, prompt)


def _missing_languages(draft: Draft, name: str, place: Place, prompt: Prompt) -> Iterator[Problem]:
    if not prompt.texts:
        return  # a recording only; whether it is there is seen when prompts are made ready
    for language in dict.fromkeys(draft.header.languages):
        if language not in prompt.texts:
            yield draft.error(
                "missing_text", name, place,
                Words(f"缺少 {language} 的话", f"has no text in {language}"),
                Words(f"补上 {language}: …", f"add {language}: …"),
            )  # fmt: skip
    for language in prompt.texts.keys() - set(draft.header.languages):
        yield draft.warning(
            "undeclared_language", name, (*place, language),
            Words(f"languages 中没有 {language}", f"{language} is not among languages"),
            Words(f"在 languages 中加入 {language}", f"add {language} to languages"),
        )  # fmt: skip


def _unknown_queues(draft: Draft, queues: Collection[str] | None) -> Iterator[Problem]:
    if queues is None:
        return
    for name, node in draft.nodes.items():
        if not isinstance(node, QueueNode) or node.queue.names:
            continue
        if node.queue.source not in queues:
            known = sorted(queues)
            yield draft.error(
                "unknown_queue", name, ("queue",),
                Words(f"没有队列“{node.queue.source}”", f"there is no queue {node.queue.source!r}"),
                Words(f"已有队列:{'、'.join(known)}", f"there are {', '.join(known)}"),
            )  # fmt: skip
