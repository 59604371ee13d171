"""Where recordings lie: by tenant and by the day the call arrived, as callers count days."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from zoneinfo import ZoneInfo

CALENDAR = ZoneInfo("Asia/Shanghai")

_UNSAFE = re.compile(r"[^\w.-]")


def recording_path(
    root: Path, *, tenant: str, call_id: str, recording_id: str, arrived_unix_us: int
) -> Path:
    """Return `<root>/<tenant>/YYYY/MM/DD/<call>-<recording>.wav`."""
    day = dt.datetime.fromtimestamp(arrived_unix_us // 1_000_000, CALENDAR)
    name = f"{_name(call_id)}-{_name(recording_id)}.wav"
    return root.joinpath(_name(tenant), f"{day:%Y/%m/%d}", name)


def recording_of_path(root: Path, path: Path) -> tuple[str, str, str] | None:
    """Return tenant, call and recording of a path that `recording_path` has made."""
    try:
        tenant, *_, name = path.resolve().relative_to(root.resolve()).parts
    except ValueError:
        return None
    call_id, _, recording_id = name.removesuffix(".wav").rpartition("-")
    return (tenant, call_id, recording_id) if call_id else None


def _name(part: str) -> str:
    """One component of a path, whatever a name holds."""
    return _UNSAFE.sub("_", part).lstrip(".") or "_"
