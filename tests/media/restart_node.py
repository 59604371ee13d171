"""A node of the restart test in a process of its own: bridges two callers, and waits to be killed.

Its arguments: the media process, two RTP ports of callers, a directory.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from cti.media import Codec, Connection
from cti.media_remote.client import RemoteEngine
from cti.media_remote.link import MediaAddress


async def main(target: str, one: str, other: str, directory: str) -> None:
    """Tell the numbers of both ports when they are bridged."""
    engine = RemoteEngine(
        MediaAddress(target), node="node1", local_ips=["127.0.0.1"], recordings=Path(directory)
    )
    assert await engine.start()
    ports = [engine.open_port("127.0.0.1") for _ in range(2)]
    for (port, _), caller in zip(ports, (one, other), strict=True):
        engine.connect(port, Connection("127.0.0.1", int(caller), Codec.PCMA, 8))
    (a, _), (b, _) = ports
    engine.set_routes({a: [b], b: [a]})
    engine.start_recording(str(Path(directory) / "talk.wav"), [a], [b])
    sys.stdout.write(" ".join(str(number) for _, number in ports) + "\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
