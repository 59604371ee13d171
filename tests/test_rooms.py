"""The rooms know of each other only what docs/architecture.md allows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_ALLOWED = {
    "domain": set(),
    "cti": {"domain"},
    "ivr": {"domain", "cti.call"},
    "routing": {"domain"},
    "agents": {"domain", "routing", "cti.call", "ivr.queueing"},
    "recording": {"domain"},
    "reports": {"domain"},
}
_ROOMS = {*_ALLOWED, "node", "demo", "loadtest", "tests"}


def _imports(room: str) -> Iterator[tuple[Path, str]]:
    for path in (_ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield path, node.module


@pytest.mark.parametrize("room", _ALLOWED)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    allowed = _ALLOWED[room] | {room}
    strangers = [
        f"{path.relative_to(_ROOT)} imports {module}"
        for path, module in _imports(room)
        if module.partition(".")[0] in _ROOMS
        and not any(module == one or module.startswith(f"{one}.") for one in allowed)
    ]
    assert not strangers
