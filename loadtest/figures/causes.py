"""Why calls fail: what `failed_by_cause.` may be followed by."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

FAILED_BY_CAUSE = "failed_by_cause."
"""How the names of failures by cause begin, such as `failed_by_cause.503`."""

_FILE = Path(__file__).with_name("causes.yaml")

CAUSES: dict[str, tuple[str, str]] = {
    name: (zh, en) for name, (zh, en) in yaml.safe_load(_FILE.read_text(encoding="utf-8")).items()
}
"""Those that have a name of their own, each in Chinese and English."""

_MANY = (
    ("300 … 699", "以此状态码拒绝", "refused with this status"),
    (
        "unexpected_STATUS, unexpected_METHOD",
        "收到 sipp 场景没有预期的消息",
        "a message came that the sipp scenario does not expect",
    ),
)

_REFUSAL = re.compile(r"[3-6]\d\d")
_UNEXPECTED = re.compile(
    r"unexpected_([12]\d\d|INVITE|INFO|MESSAGE|NOTIFY|PRACK|PUBLISH|REFER|REGISTER|SUBSCRIBE|UPDATE)"
)


def is_cause(cause: str) -> bool:
    """Tell whether a call can fail by it."""
    return bool(cause in CAUSES or _REFUSAL.fullmatch(cause) or _UNEXPECTED.fullmatch(cause))


def cause_words(cause: str) -> tuple[str, str]:
    """Say what a cause means, in Chinese and English."""
    return CAUSES.get(cause, (cause, cause))


def all_causes() -> list[tuple[str, str, str]]:
    """Return each name, or how several are called, with what it means in Chinese and English."""
    return [(name, zh, en) for name, (zh, en) in CAUSES.items()] + list(_MANY)


def markdown_table() -> str:
    """Return the causes as a table for a page of documentation."""
    rows = [f"| {_as_code(name)} | {en} | {zh} |" for name, zh, en in all_causes()]
    return "\n".join(["| cause | meaning | 含义 |", "|---|---|---|", *rows, ""])


def _as_code(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))
