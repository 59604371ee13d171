"""The whole platform once for all peers, with a flow that leads straight to the agents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from cti import audio
from cti.phone import phone_media
from demo.platform import RunningPlatform, configuration
from demo.ports import free_port, free_ports
from tests.peers.bench import Bench
from tests.sip_core.certificates import Authority

FLOWS = Path(__file__).parent / "flows"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    root = tmp_path_factory.mktemp("platform")
    ports = free_ports()
    config = configuration(ports)
    config["flows"] = str(FLOWS)
    (tenant,) = config["tenants"]
    tenant["access_codes"] = [
        {"code": "96000", "flow": "straight"},
        {"code": "96001", "flow": "keys"},
    ]
    # Carriers may encrypt here, or not.
    for trunk in tenant["trunks"]:
        trunk["srtp"] = "optional"
    authority = Authority(root)
    tls_port = free_port()
    config["sip"]["listen"].append({"transport": "tls", "host": "127.0.0.1", "port": tls_port})
    config["sip"]["tls"] = {"certificate": str(authority.issue("127.0.0.1", "localhost"))}
    for queue in tenant["queues"]:
        queue |= {"after_call_work_s": 0, "answer_within_s": 3}
    platform = RunningPlatform(root / "data", ports, config)
    async with AsyncExitStack() as leaving:
        leaving.push_async_callback(platform.stop)
        await platform.start()
        media = await leaving.enter_async_context(phone_media(40_000, 40_999))
        records = await leaving.enter_async_context(platform.records())
        yield Bench(platform, media, records, root, tls_port, authority.ca_file)


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Half a minute of each party's tone."""
    directory = tmp_path_factory.mktemp("tones")
    return {
        hertz: audio.write_tone(directory / f"{hertz}.wav", hertz, 30_000) for hertz in (440, 1000)
    }
