"""Where recordings lie: by tenant and by the day the call arrived, as callers count days."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from zoneinfo import ZoneInfo

CALENDAR = ZoneInfo("Asia/Shanghai")

_UNSAFE = re.compile(r"[^\w.-]")


def recording_path(
    root: Path, *, tenant: str, call_id: str, party: str, arrived_unix_us: int
) -> Path:
    """Return `<root>/<tenant>/YYYY/MM/DD/<call>-<party>.wav`, or with a number where that exists.

    A call that speaks twice to the same agent has two recordings.
    """
    day = dt.datetime.fromtimestamp(arrived_unix_us // 1_000_000, CALENDAR)
    directory = root / _name(tenant) / f"{day:%Y}" / f"{day:%m}" / f"{day:%d}"
    stem = f"{_name(call_id)}-{_name(party)}"
    path = directory / f"{stem}.wav"
    number = 2
    while path.exists():
        path = directory / f"{stem}-{number}.wav"
        number += 1
    return path


def _name(part: str) -> str:
    """One component of a path, whatever a name holds."""
    return _UNSAFE.sub("_", part).lstrip(".") or "_"
