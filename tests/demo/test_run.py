"""`make demo` itself, as the only proof that it ends well."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.peers.process import PeerProcess


@pytest.mark.peer
async def test_the_demo_passes(tmp_path: Path) -> None:
    demo = PeerProcess(tmp_path)
    try:
        await demo.start([sys.executable, "-m", "demo.run", "--data", str(tmp_path / "data")])
        status = await demo.exited(480)
    finally:
        await demo.stop()
    assert status == 0, "\n".join(demo.lines)
