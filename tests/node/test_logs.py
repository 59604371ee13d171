"""What the logs must never hold: the local variables of a traceback, which may be keys."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from node.logs import configure_logs

_KEY = "inline:never-to-be-logged"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def _loggers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def _fail_with(srtp_key: str) -> None:
    # An object holds it too, as a command of the media process does.
    command = {"local": srtp_key}
    raise RuntimeError(f"a command of {len(command)} fields was not obeyed")


@pytest.mark.usefixtures("_loggers_as_before")
@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("standard", [True, False])
def test_a_traceback_shows_no_local_variables(
    terminal: bool, standard: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = _Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)
    configure_logs(tmp_path)
    try:
        _fail_with(_KEY)
    except RuntimeError:
        if standard:
            logging.getLogger("cti.media_remote").exception("media_command_failed")
        else:
            structlog.get_logger("cti.media_remote").exception("media_command_failed")
    written = (tmp_path / "platform.log").read_text(encoding="utf-8")
    for text in (shown.getvalue(), written):
        assert _KEY not in text
        assert "media_command_failed" in text
        assert "a command of 1 fields was not obeyed" in text
