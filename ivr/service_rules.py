"""Warnings where a flow departs from the service rules of 95598 (STD 5.2.6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from domain.words import Words
from ivr.expressions import Hole
from ivr.model import Prompt, prompts_of
from ivr.nodes.hangup import HangupNode
from ivr.nodes.menu import MenuNode
from ivr.nodes.play import PlayNode
from ivr.nodes.queue import QueueNode
from ivr.nodes.say import SayNode
from ivr.problems import Problem

if TYPE_CHECKING:
    from ivr.checker import Draft


def service_warnings(draft: Draft, levels: dict[str, int]) -> Iterator[Problem]:
    """Yield what callers of 95598 are promised and this flow does not give."""
    yield from _greeting(draft)
    speaks_last = _said_before_end(draft)
    for name in levels:
        node = draft.nodes.get(name)
        if isinstance(node, MenuNode):
            yield from _menu(draft, name, node, levels)
        elif isinstance(node, QueueNode) and not node.music:
            yield draft.warning(
                "no_music", name, ("music",),
                Words("排队时没有音乐", "no music is played while waiting"),
                Words("写 music: waiting", "write music: waiting"),
            )  # fmt: skip
        elif isinstance(node, HangupNode) and node.text is None and name not in speaks_last:
            yield draft.warning(
                "silent_end", name, (),
                Words("挂机前没有告知服务结束", "the end of service is not announced"),
                Words("加上 text,例如“感谢来电,再见”", "add a text, such as a goodbye"),
            )  # fmt: skip


def _menu(draft: Draft, name: str, menu: MenuNode, levels: dict[str, int]) -> Iterator[Problem]:
    if menu.repeats < 2:
        yield draft.warning(
            "no_repeat", name, ("repeats",),
            Words("无按键时菜单不重播", "the menu is not repeated when nothing is pressed"),
            Words("repeats 写 2 或更多", "let repeats be 2 or more"),
        )  # fmt: skip
    chosen = [_until_menu(draft, target) for target in menu.choices.values()]
    if not any(isinstance(draft.nodes.get(n), QueueNode) for reached in chosen for n in reached):
        yield draft.warning(
            "no_agent_choice", name, ("choices",),
            Words("菜单没有提供转人工", "the menu offers no way to an agent"),
            Words('在 choices 中加入 "0": 人工节点', 'add "0": an agent\'s queue to choices'),
        )  # fmt: skip
    level = levels[name]
    returns = any(
        isinstance(draft.nodes.get(n), MenuNode) and levels.get(n, level) < level
        for reached in chosen
        for n in reached
    )
    if level > 1 and not returns:
        yield draft.warning(
            "no_return_choice", name, ("choices",),
            Words("菜单没有提供返回上级", "the menu offers no way back"),
            Words('在 choices 中加入 "*": 上级菜单', 'add "*": the menu above to choices'),
        )  # fmt: skip


def _until_menu(draft: Draft, start: str) -> set[str]:
    """Return the nodes reached from a choice before the caller must choose again, that included."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in reached or not draft.exists(name):
            continue
        reached.add(name)
        if not isinstance(draft.nodes.get(name), MenuNode | QueueNode):
            waiting += draft.following(name)
    return reached


def _said_before_end(draft: Draft) -> set[str]:
    """Return the nodes that are only reached from nodes that speak."""
    spoken: dict[str, bool] = {}
    for name in draft.edges:
        speaks = isinstance(draft.nodes.get(name), PlayNode | SayNode)
        for target in draft.following(name):
            spoken[target] = spoken.get(target, True) and speaks
    return {name for name, always in spoken.items() if always}


def _greeting(draft: Draft) -> Iterator[Problem]:
    name: str = draft.header.start
    seen: set[str] = set()
    while name in draft.nodes and name not in seen:
        seen.add(name)
        for place, prompt in prompts_of(draft.nodes[name]):
            if not _greets(prompt):
                yield draft.warning(
                    "greeting", name, place,
                    Words("第一句话不是“您好,…”", "the first words are not 您好"),
                    Words("以“您好,欢迎致电…”开头", "begin with 您好,欢迎致电…"),
                )  # fmt: skip
            return
        following = draft.following(name)
        if not following:
            return
        name = following[0]


def _greets(prompt: Prompt) -> bool:
    text = prompt.texts.get("zh")
    if text is None or not text.parts or isinstance(text.parts[0], Hole):
        return True  # a recording, or words that only the call knows
    return text.parts[0].lstrip().startswith(("您好", "你好"))
