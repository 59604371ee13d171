"""Repeated complaints about the same thing: once a minute is enough."""

from __future__ import annotations

from collections import OrderedDict

_PERIOD_S = 60.0
_MAX_KEYS = 1024


class Seldom:
    """Tells whether something may be logged again; sans-IO."""

    def __init__(self) -> None:
        self._told_s: OrderedDict[str, float] = OrderedDict()

    def may_tell(self, key: str, now_s: float) -> bool:
        """Whether `key` was not told of in the last minute; it counts as told now."""
        if now_s - self._told_s.get(key, -_PERIOD_S) < _PERIOD_S:
            return False
        self._told_s[key] = now_s
        self._told_s.move_to_end(key)
        if len(self._told_s) > _MAX_KEYS:
            self._told_s.popitem(last=False)
        return True
