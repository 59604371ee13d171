"""A media engine whose thread has died: no call goes on in silence, and none is taken."""

from __future__ import annotations

from typing import Any

import pytest

from cti.media import PortClosed, TapEnded
from cti.media_engine import RtpEngine
from domain.failures import Code, PlatformError
from tests.media.peer import Events


class _Failing:
    """The engine in Rust, which says that its thread has ended."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def drain_events(self) -> list[tuple[str, ...]]:
        self._engine.drain_events()
        return [("failed",)]


async def test_all_ports_are_told_to_be_closed_and_no_other_is_had(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = RtpEngine(port_min=45_000, port_max=45_999, on_event=events.on_event)
    failed: list[bool] = []
    engine.on_failed = lambda: failed.append(engine.has_failed)
    port, _ = engine.open_port("127.0.0.1")
    tap = engine.start_tap([port], [])
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_engine", _Failing(engine._engine))
        engine._deliver()
        assert [event.port for event in events.of(PortClosed)] == [port]
        assert [event.tap for event in events.of(TapEnded)] == [tap]
        assert failed == [True]
        with pytest.raises(PlatformError) as refused:
            engine.open_port("127.0.0.1")
        assert refused.value.code is Code.MEDIA_UNAVAILABLE
        assert await engine.survey() == {}
    await engine.aclose()
