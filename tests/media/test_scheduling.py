"""The thread that paces packets runs before ordinary ones."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from cti.media import MediaEvent, PortClosed
from cti.media_engine import RtpEngine

_TRY = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"


def _is_allowed() -> bool:
    tried = subprocess.run([sys.executable, "-c", _TRY], check=False, capture_output=True)
    return tried.returncode == 0


def _reactor() -> int:
    threads = Path("/proc/self/task").iterdir()
    named = [int(one.name) for one in threads if (one / "comm").read_text() == "media-reactor\n"]
    return max(named)


async def test_the_reactor_has_a_real_time_priority_where_it_is_allowed() -> None:
    engine = RtpEngine(port_min=47_000, port_max=47_010)
    runs: asyncio.Future[MediaEvent] = asyncio.get_running_loop().create_future()
    engine.on_event = runs.set_result
    try:
        port, _ = engine.open_port("127.0.0.1")
        engine.close_port(port)
        assert isinstance(await asyncio.wait_for(runs, 10), PortClosed)
        reactor = _reactor()
        if _is_allowed():
            assert os.sched_getscheduler(reactor) == os.SCHED_RR
        else:
            assert os.sched_getscheduler(reactor) == os.SCHED_OTHER
        assert os.sched_getscheduler(0) == os.SCHED_OTHER, "Python stays as it is"
    finally:
        await engine.aclose()
