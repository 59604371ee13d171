"""What a node does about its media process: alarms, words for people, records of recordings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cti.media import Codec, Connection, RecordingEnded
from cti.media_remote.server import MediaServer
from cti.settings import MediaSettings
from cti95598.events.v1.events_pb2 import Event
from domain.events import EventStamp
from domain.ids import NodeId, TenantId, time_ordered_id
from node.media import NodeMedia
from tests.media.peer import PCMA_SILENCE, WAIT_S, Events, Peer, rtp
from tests.media.test_restart import SETTINGS, killed
from tests.peers.waiting import wait_until

CALL_ID, RECORDING_ID = time_ordered_id(), time_ordered_id()


@dataclass
class Told:
    """The events that the node publishes."""

    events: list[Event] = field(default_factory=list)

    def publish(self, event: Event) -> None:
        self.events.append(event)

    @property
    def alarms(self) -> list[tuple[str, str]]:
        return [(e.alarm.component, e.cause) for e in self.events if e.HasField("alarm")]


@dataclass
class Site:
    """A media process that comes and goes, and the node's side of it."""

    directory: Path
    server: MediaServer
    told: Told = field(default_factory=Told)

    async def node(self, events: Events) -> NodeMedia:
        media = NodeMedia(
            MediaSettings(
                engine="{}:{}".format(*self.server.address),
                engine_lost_after_s=0.5,
                engine_ports_ahead=4,
            ),
            node="node1",
            directory=self.directory,
            recordings=self.directory / "recordings",
            token=lambda: "",
            events=EventStamp(NodeId("node1"), self.told),
            tenant=TenantId("demo"),
        )
        await media.start()
        media.engine.on_event = events.on_event
        return media

    async def server_again(self) -> None:
        settings = replace(SETTINGS, port=self.server.address[1])
        self.server = MediaServer(settings, self.directory / "media")
        await self.server.start()

    @property
    def wav(self) -> Path:
        day = self.directory / "recordings" / "demo" / "2026" / "11" / "21"
        return day / f"{CALL_ID}-{RECORDING_ID}.wav"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    server = MediaServer(SETTINGS, tmp_path / "media")
    await server.start()
    site = Site(tmp_path, server)
    yield site
    await site.server.stop()


async def recorded(media: NodeMedia, wav: Path) -> None:
    """Record a caller, who says something."""
    peer = await Peer.open()
    port, number = media.engine.open_port("127.0.0.1")
    media.engine.connect(port, Connection("127.0.0.1", peer.port, Codec.PCMA, 8))
    media.engine.start_recording(str(wav), [port], None)
    await peer.stream(number, [rtp(8, index, index * 160, PCMA_SILENCE) for index in range(10)])
    await peer.wait(10)
    peer.transport.close()


async def test_people_are_told_when_it_goes_and_comes(site: Site, events: Events) -> None:
    media = await site.node(events)
    assert (media.reasons(), media.impaired(), site.told.alarms) == ([], [], [])
    await killed(site.server)
    await wait_until(lambda: bool(media.reasons()), WAIT_S, "it is seen to be away")
    assert "is away: " in media.reasons()[0]
    assert not media.status()["is_up"]
    await site.server_again()
    await wait_until(lambda: not media.reasons(), WAIT_S, "it is seen to be back")
    assert site.told.alarms == [("media", "media_unavailable"), ("media", "")]
    await media.aclose()


async def test_a_node_starts_without_it(
    site: Site, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.media._START_WAIT_S", 0.1)
    await site.server.stop()
    media = await site.node(events)
    assert len(media.reasons()) == 1
    assert site.told.alarms == [("media", "media_unavailable")]
    await site.server_again()
    await wait_until(lambda: not media.reasons(), WAIT_S, "it is found")
    await media.aclose()


async def test_one_that_is_stopped_in_order_keeps_recordings_whole(
    site: Site, events: Events
) -> None:
    """They come to their node, which has waited for them, when it is started again."""
    media = await site.node(events)
    await recorded(media, site.wav)
    await site.server.stop()
    await site.server_again()
    ended = await events.wait(RecordingEnded)
    assert (ended.error, Path(ended.path)) == ("", site.wav)
    assert site.wav.stat().st_size == ended.size_bytes > 0
    assert site.told.events[-1].HasField("alarm"), "no recording of an earlier process"
    await media.aclose()


async def test_the_next_process_records_what_an_earlier_one_began(
    site: Site, events: Events
) -> None:
    """That is known by the call and the recording that the path names."""
    media = await site.node(Events())
    await recorded(media, site.wav)
    # The node is killed: no word of it any more.
    assert media._remote is not None
    await media._remote._delivery.aclose()
    await media._remote._link.aclose()
    again = await site.node(events)
    assert again.status()["orphans"]
    assert "of an earlier process go on" in again.impaired()[0]

    def is_finished() -> bool:
        return any(event.HasField("recording_finished") for event in site.told.events)

    await wait_until(is_finished, WAIT_S, "the orphan has ended and its recording is here")
    (event,) = [each for each in site.told.events if each.HasField("recording_finished")]
    body = event.recording_finished
    assert (event.tenant, event.call_id, event.cause) == ("demo", CALL_ID, "")
    assert (body.recording, body.path) == (RECORDING_ID, str(site.wav))
    assert site.wav.stat().st_size == body.size_bytes
    await wait_until(lambda: not again.impaired(), WAIT_S, "nothing is left")
    await again.aclose()
