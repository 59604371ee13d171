"""The platform as a child: it says why it cannot start, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from demo.platform import RunningPlatform, StartError, configuration
from demo.ports import free_ports

FLOWS = Path(__file__).parents[1] / "peers" / "flows"


async def test_a_platform_that_cannot_start_says_why(tmp_path: Path) -> None:
    platform = RunningPlatform(tmp_path, free_ports(), {"tenants": []})
    try:
        with pytest.raises(StartError, match="tenants"):
            await platform.start()
    finally:
        await platform.stop()


@pytest.mark.stores
async def test_a_stopped_platform_is_gone_with_its_stores(tmp_path: Path) -> None:
    ports = free_ports()
    config = configuration(ports)
    config["flows"] = str(FLOWS)
    config["tenants"][0]["access_codes"] = [{"code": "96000", "flow": "straight"}]
    platform = RunningPlatform(tmp_path, ports, config)
    try:
        await platform.start()
        pid = platform.pid
        assert processes_about(tmp_path) > {pid}
    finally:
        await platform.stop()
    assert not processes_about(tmp_path)
    assert "Traceback" not in platform.log.read_text()


def processes_about(directory: Path) -> set[int]:
    """Processes, other than this one, that name the directory in their command line."""
    found = set()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(directory).encode() in command.read_bytes():
                found.add(int(command.parent.name))
        except OSError:
            continue  # it has just ended
    return found - {os.getpid()}
