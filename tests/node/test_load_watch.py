"""The watch on a node's load: what it measures, and what operators hear of it."""

from __future__ import annotations

import asyncio

from cti.load_control import Ended, LoadLimits
from cti95598.events.v1 import events_pb2 as pb
from domain.events import EventStamp
from domain.failures import Code
from domain.ids import NodeId, TenantId
from node.load_watch import LoadWatch, _MissingSound
from tests.call_control.conftest import Sink
from tests.node.running import until


class Media:
    """An engine that leaves out every other round while it is said to be late."""

    def __init__(self) -> None:
        self.is_late = False
        self._skipped = 100

    def figures(self) -> dict[str, int]:
        self._skipped += self.is_late
        return {"skipped_rounds": self._skipped}


def watch(media: Media, sink: Sink) -> LoadWatch:
    return LoadWatch(
        LoadLimits(wait_s=60.0),
        is_trusted=lambda _: True,
        is_phone=lambda _: False,
        media=media.figures,
        events=EventStamp(NodeId("n"), sink),
        tenant=TenantId("t"),
    )


def test_one_pause_of_the_engine_has_nobody_refused() -> None:
    missing = _MissingSound(100)
    assert max(missing.take(0.05, skipped) for skipped in [100] * 20 + [150] * 100) == 0
    assert max(missing.take(seconds, 650) for seconds in [10.0] + [0.05] * 100) == 0
    # A tenth of each second is too much, and a process that begins anew is not.
    often = [missing.take(0.05, 650 + at // 20 * 5) for at in range(200)]
    assert often[-1] > LoadLimits().media_share
    assert [missing.take(0.05, 0) for _ in range(100)][-1] == 0


async def test_sound_that_is_left_out_has_new_calls_refused_and_operators_told() -> None:
    media, sink = Media(), Sink()
    watching = watch(media, sink)
    loop = asyncio.get_running_loop()
    watching.start()
    try:
        assert watching.impaired() == []
        media.is_late = True

        def is_shedding() -> bool:
            watching.admits(loop.time())
            return watching.is_shedding

        await until(is_shedding)
        while watching.admits(loop.time()):
            pass
        assert 3 <= watching.retry_after_s() <= 12
        assert watching.admits(loop.time(), has_priority=True)
    finally:
        watching.stop()
    (told,) = watching.impaired()
    assert "overloaded" in told
    assert "sound" in told
    watching._tell(Ended(12.3, 456))
    begun, ended = sink.events
    assert isinstance(begun.alarm, pb.Alarm)
    assert (begun.alarm.component, begun.cause) == ("load", Code.LOAD_SHED)
    assert "456" in ended.alarm.text
    assert not ended.cause
