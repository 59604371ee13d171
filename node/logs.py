"""Logging: lines for people on a terminal, JSON elsewhere, and always JSON in a file."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

_MAX_FILE_BYTES = 20 * 1024 * 1024
_KEPT_FILES = 5
_QUIET = ("asyncio", "grpc", "uvicorn", "uvicorn.access")
# Whatever a log call names so is not written, whoever calls.
_SECRET_WORDS = ("password", "secret", "token", "ha1", "authorization", "credential")
_HIDDEN = "***"


def configure_logs(directory: Path | None, *, level: int = logging.INFO) -> None:
    """Set up structlog and the standard library's loggers of the whole process."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
    ]
    console = logging.StreamHandler(sys.stderr)
    is_terminal = sys.stderr.isatty()
    console.setFormatter(_formatter(shared, pretty=is_terminal))
    handlers: list[logging.Handler] = [console]
    if directory is not None:
        file = logging.handlers.RotatingFileHandler(
            directory / "platform.log",
            maxBytes=_MAX_FILE_BYTES,
            backupCount=_KEPT_FILES,
            encoding="utf-8",
        )
        file.setFormatter(_formatter(shared, pretty=False))
        handlers.append(file)
        console.setLevel(logging.WARNING)
    logging.basicConfig(handlers=handlers, level=level, force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _formatter(shared: list[Processor], *, pretty: bool) -> logging.Formatter:
    renderer: list[Processor] = (
        # Not its own default, which prints the local variables of each frame: keys are among them.
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if pretty
        else [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    )


def _hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name in event:
        if any(word in name.lower() for word in _SECRET_WORDS):
            event[name] = _HIDDEN
    return event
