"""What becomes of audio, ports and recordings when a node or its media process dies."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from cti.media import Codec, Connection, PortClosed, RecordingEnded
from cti.media_remote.client import RemoteEngine
from cti.media_remote.host import OrphanLimits
from cti.media_remote.link import MediaAddress
from cti.media_remote.server import MediaServer, MediaServerSettings
from domain.failures import Code, PlatformError
from tests.media.peer import FRAME, PCMA_SILENCE, WAIT_S, Events, Peer, rtp
from tests.peers.waiting import wait_until

# A square wave of 1000 Hz in A-law octets: what one caller says and the other one hears.
TONE = (b"\x2a" * 4 + b"\xaa" * 4) * (FRAME // 8)
SETTINGS = MediaServerSettings(
    port=0,
    port_min=48_000,
    port_max=48_499,
    quarantine_ms=0,
    orphans=OrphanLimits(silent_s=0.5),
    look_every_s=0.1,
)


def engine_of(server: MediaServer, directory: Path, events: Events, **options: str) -> RemoteEngine:
    return RemoteEngine(
        MediaAddress("{}:{}".format(*server.address)),
        node=options.get("node", "node1"),
        local_ips=["127.0.0.1"],
        recordings=directory,
        lost_after_s=1.0,
        on_event=events.on_event,
    )


async def killed(server: MediaServer) -> None:
    """Stop a media process without a word to anybody, as SIGKILL does."""
    assert server._looking is not None
    server._looking.cancel()
    await server._server.stop(None)
    server._engine.on_event = None
    await server._engine.aclose()


class Network:
    """Stands between a node and its media process, and may break."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._streams: list[asyncio.StreamWriter] = []
        self.connections = 0
        self.is_cut = False
        """Whether connections come no further than here."""

    async def open(self) -> str:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def break_off(self) -> None:
        for stream in self._streams:
            stream.transport.abort()
        self._streams.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.is_cut:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._streams += [writer, far_writer]
        with suppress(ConnectionError):
            await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
    writer.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[MediaServer]:
    server = MediaServer(SETTINGS, tmp_path / "media")
    await server.start()
    yield server
    await server.stop()


async def test_audio_goes_on_when_the_node_is_killed(
    server: MediaServer, tmp_path: Path, events: Events
) -> None:
    """The tone is heard without a gap while its node is killed; another one finds what is left."""
    one, other = await Peer.open(), await Peer.open()
    target = "{}:{}".format(*server.address)
    node = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.media.restart_node"),
        *(target, str(one.port), str(other.port), str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert node.stdout is not None
    number, _ = map(int, (await asyncio.wait_for(node.stdout.readline(), 3 * WAIT_S)).split())
    packets = [rtp(8, index, index * FRAME, TONE) for index in range(150)]
    talking = asyncio.create_task(one.stream(number, packets))
    await other.wait(len(other.received) + 40)
    node.kill()
    await node.wait()
    again = engine_of(server, tmp_path, events)
    recovered: asyncio.Future[RecordingEnded] = asyncio.get_running_loop().create_future()
    again.on_recovered = recovered.set_result
    assert await again.start()
    await wait_until(lambda: len(again.status.orphans) == 2, WAIT_S, "the orphans are seen")
    await talking
    heard = [packet for packet in other.received if packet.payload == TONE]
    assert len(heard) >= 140
    assert {after.sequence - before.sequence for before, after in pairwise(heard)} == {1}
    # Nobody speaks any more: what is left ends by itself, and the recording comes to the node.
    ended = await asyncio.wait_for(recovered, WAIT_S)
    assert (ended.error, Path(ended.path)) == ("", tmp_path / "talk.wav")
    assert len(await asyncio.to_thread(Path(ended.path).read_bytes)) == ended.size_bytes
    await wait_until(lambda: not again.status.orphans, WAIT_S, "the orphans are gone")
    await again.aclose()


async def test_a_broken_stream_costs_nothing(
    server: MediaServer, tmp_path: Path, events: Events
) -> None:
    network = Network(server.address)
    engine = RemoteEngine(
        MediaAddress(await network.open()),
        node="node1",
        local_ips=["127.0.0.1"],
        recordings=tmp_path,
        on_event=events.on_event,
    )
    assert await engine.start()
    kept, _ = engine.open_port("127.0.0.1")
    for count in range(1, 6):
        port, _ = engine.open_port("127.0.0.1")
        engine.connect(port, Connection("127.0.0.1", 5004, Codec.PCMA, 8))
        network.break_off()
        engine.close_port(port)
        await events.wait(PortClosed, port=port)
        assert len(events.of(PortClosed)) == count
        await wait_until(lambda: engine.status.is_up, WAIT_S, "the stream is there again")
    assert network.connections > 5
    assert events.of(PortClosed, port=kept) == []
    await engine.aclose()
    assert len(events.of(PortClosed)) == 6


async def test_a_network_that_is_cut_for_long_ends_calls_on_both_sides(
    server: MediaServer, tmp_path: Path, events: Events
) -> None:
    """What the node has given up is closed as soon as the media process hears of it."""
    network = Network(server.address)
    engine = RemoteEngine(
        MediaAddress(await network.open()),
        node="node1",
        local_ips=["127.0.0.1"],
        recordings=tmp_path,
        lost_after_s=0.5,
        on_event=events.on_event,
    )
    recovered: list[RecordingEnded] = []
    engine.on_recovered = recovered.append
    assert await engine.start()
    port, number = engine.open_port("127.0.0.1")
    peer = await Peer.open()
    engine.connect(port, Connection("127.0.0.1", peer.port, Codec.PCMA, 8))
    recording = engine.start_recording(str(tmp_path / "cut.wav"), [port], None)
    packets = [rtp(8, index, index * FRAME, TONE) for index in range(10)]
    await peer.stream(number, packets)
    await peer.wait(10)
    session = server.host.current("node1")
    assert session is not None
    network.is_cut = True
    network.break_off()
    await events.wait(PortClosed, port=port)
    assert len(session.ports) == 1, "the media process does not know yet"
    engine.close_port(port)  # of a call that ends by now; it is nothing to the next session
    network.is_cut = False
    await wait_until(lambda: engine.status.is_up, WAIT_S, "the stream is there again")
    ended = await events.wait(RecordingEnded, recording=recording)
    assert (ended.error, Path(ended.path)) == ("", tmp_path / "cut.wav")
    assert len(await asyncio.to_thread(Path(ended.path).read_bytes)) == ended.size_bytes > 44
    assert (session.is_empty, recovered) == (True, [])
    assert server.host.current("node1") is not session
    again, _ = engine.open_port("127.0.0.1")
    assert again != port
    await engine.aclose()
    assert [event.port for event in events.of(PortClosed)] == [port, again]


async def test_a_media_process_that_dies_ends_all_ports_and_comes_back(
    tmp_path: Path, events: Events
) -> None:
    server = MediaServer(SETTINGS, tmp_path / "media")
    await server.start()
    engine = engine_of(server, tmp_path, events)
    told: list[bool] = []
    engine.on_up = told.append
    assert await engine.start()
    port, _ = engine.open_port("127.0.0.1")
    await killed(server)
    await events.wait(PortClosed, port=port)
    with pytest.raises(PlatformError) as failure:
        engine.open_port("127.0.0.1")
    assert failure.value.code is Code.MEDIA_UNAVAILABLE
    back = MediaServer(replace(SETTINGS, port=server.address[1]), tmp_path / "media")
    await back.start()
    await wait_until(lambda: told == [True, False, True], WAIT_S, "it is found again")
    await wait_until(lambda: bool(engine._free["127.0.0.1"]), WAIT_S, "there are ports again")
    assert engine.open_port("127.0.0.1")[0] != port
    await engine.aclose()
    await back.stop()


async def test_nodes_do_not_touch_each_others_ports(
    server: MediaServer, tmp_path: Path, events: Events
) -> None:
    theirs = Events()
    engine, stranger = (
        engine_of(server, tmp_path, events),
        engine_of(server, tmp_path, theirs, node="node2"),
    )
    assert await engine.start()
    assert await stranger.start()
    port, number = engine.open_port("127.0.0.1")
    peer = await Peer.open()
    engine.connect(port, Connection("127.0.0.1", peer.port, Codec.PCMA, 8))
    stranger.close_port(port)
    stranger.set_routes({port: []})
    await stranger.aclose()
    await peer.stream(number, [rtp(8, index, index * FRAME, PCMA_SILENCE) for index in range(5)])
    await peer.wait(len(peer.received) + 5)
    assert events.of(PortClosed) == theirs.of(PortClosed) == []
    await engine.aclose()
    assert [event.port for event in events.of(PortClosed)] == [port]


async def test_a_wrong_token_is_refused(tmp_path: Path, events: Events) -> None:
    settings = replace(SETTINGS, tokens={"node1": "right"})
    server = MediaServer(settings, tmp_path / "media")
    await server.start()
    for token, is_let_in in (("wrong", False), ("right", True)):
        engine = RemoteEngine(
            MediaAddress("{}:{}".format(*server.address), token=token),
            node="node1",
            local_ips=["127.0.0.1"],
            recordings=tmp_path,
            on_event=events.on_event,
        )
        assert await engine.start(wait_s=2.0) is is_let_in
        await engine.aclose()
    await server.stop()
