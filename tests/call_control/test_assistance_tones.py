"""Who hears whom while an agent holds, consults and confers, and a supervisor helps or takes over.

Each party says a tone of its own all the time, and what each hears is listened to in every phase.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cti.audio import Sound, read_wav, tone_dbfs, write_tone
from cti.call import Call, DialTarget, Leg, Supervision, Talk, TalkState
from cti.media import RecordingId
from cti.media_engine import RtpEngine
from cti.rtp_port import MediaRouter
from tests.call_control.conftest import answered
from tests.call_control.exchange import Exchange
from tests.call_control.party import Party, PartyCall
from tests.call_control.platform import until
from tests.call_control.tone_media import SoundClock, ToneMedia

# Whole periods in 200 ms, so that none is taken for another.
TONES_HZ = {
    "caller": 440,
    "agent": 1000,
    "expert": 1400,
    "supervisor": 1900,
    "whisper": 2300,
    "music": 800,
}
SETTLING_MS, HEARD_MS = 160, 200
_MORE_LOOKS = 20
EXPERT = DialTarget("1002", "1001", purpose="consult")
SUPERVISOR = DialTarget("1009", "1001", purpose="supervisor")


class Floor:
    """A caller with agent 1001 on a real engine, and whoever joins them."""

    def __init__(self, exchange: Exchange, far_ends: MediaRouter, place: Path) -> None:
        self.exchange = exchange
        self.far_ends = far_ends
        self.clock = SoundClock(far_ends, place)
        self.place = place
        self.talk: Talk | None = None
        self.states: list[TalkState] = []
        self.parties: dict[str, tuple[PartyCall, ToneMedia]] = {}
        self.medias: list[ToneMedia] = []
        self.phase = 0
        self.leg: Leg
        exchange.handler = answered(self._serve)
        exchange.hold_music = [self.tone("music")]

    async def _serve(self, call: Call) -> None:
        leg = await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)
        await call.bridge(leg, record_party="1001", on_begun=self._begun)

    def _begun(self, talk: Talk) -> None:
        self.talk = talk
        talk.watch(self.states.append)

    def tone(self, name: str) -> Path:
        path = self.place / f"{name}.wav"
        return path if path.exists() else write_tone(path, TONES_HZ[name], 1000)

    def says(self, name: str, tone: str) -> None:
        port = self.parties[name][1].port.port_id
        self.far_ends.engine.play(port, [str(self.tone(tone))], loop=True)

    async def begin(self, carrier: Party) -> Talk:
        media = self._media("caller")
        carrier.sdp = media.sdp
        caller = carrier.call("95598", self.exchange.hop)
        await self.comes("agent", "1001")
        await self._join("caller", caller, media)
        await until(lambda: self.talk)
        assert self.talk is not None
        return self.talk

    async def comes(self, name: str, user: str) -> None:
        """Let a phone that rings, or soon will, answer."""
        phone = self.exchange.phones.get(user) or await self.exchange.phone(user)
        media = self._media(name)
        phone.next_sdp = media.sdp
        call = await phone.next_call()
        call.answer()
        await self._join(name, call, media)

    async def _join(self, name: str, call: PartyCall, media: ToneMedia) -> None:
        await media.connect(call)
        self.parties[name] = (call, media)
        self.says(name, name)

    def _media(self, name: str) -> ToneMedia:
        media = ToneMedia(self.far_ends, self.place / f"{name}-{len(self.medias)}-heard.wav")
        self.medias.append(media)
        return media

    def leaves(self, name: str) -> None:
        call, _ = self.parties.pop(name)
        call.hang_up()

    async def all_hear(self, expected: dict[str, set[str]]) -> None:
        """Listen until each party hears these; buffers of a busy machine may lag behind."""
        heard = await self._heard()
        for _ in range(_MORE_LOOKS):
            if heard == expected:
                return
            heard = await self._heard()
        assert heard == expected

    async def _heard(self) -> dict[str, set[str]]:
        engine, router = self.far_ends.engine, self.far_ends
        self.phase += 1
        files: dict[str, Path] = {}
        done: list[str] = []
        recordings: list[RecordingId] = []
        for name, (_, media) in self.parties.items():
            files[name] = self.place / f"{name}-in-phase-{self.phase}.wav"
            recording = engine.start_recording(str(files[name]), [media.port.port_id], None)
            router.recordings[recording] = lambda event: done.append(event.path)
            recordings.append(recording)
        await self.clock.passes(SETTLING_MS + HEARD_MS + 60)
        for recording in recordings:
            engine.stop_recording(recording)
        await until(lambda: len(done) == len(files))
        return {name: tones_in(read_wav(path)[0]) for name, path in files.items()}

    async def end(self) -> list[Sound]:
        """Wait until nothing is left; return the sides of the recording."""
        await until(lambda: self.exchange.control.calls == 0)
        self.clock.close()
        for media in self.medias:
            await media.close()
        assert self.exchange.media.figures()["ports"] == 0  # type: ignore[union-attr]
        await until(lambda: self.exchange.user_agent.session_count == 0)
        for endpoint in (
            self.exchange.endpoint,
            *(p.endpoint for p in self.exchange.phones.values()),
        ):
            await endpoint.aclose()
        return read_wav(Path(self.exchange.sink.one("recording_finished").path))


def tones_in(sound: Sound) -> set[str]:
    window = sound.between(SETTLING_MS, SETTLING_MS + HEARD_MS)
    return {name for name, hz in TONES_HZ.items() if tone_dbfs(window, hz) > -30}


def ever_in(sound: Sound) -> set[str]:
    windows = range(0, int(sound.duration_ms) - HEARD_MS, HEARD_MS)
    return {
        name
        for at in windows
        for name, hz in TONES_HZ.items()
        if tone_dbfs(sound.between(at, at + HEARD_MS), hz) > -25
    }


@pytest.fixture
async def floor(
    tmp_path: Path, engine: RtpEngine, far_ends: MediaRouter
) -> AsyncIterator[tuple[Floor, Talk]]:
    exchange = Exchange(tmp_path, engine)
    await exchange.listen()
    carrier = await Party().listen()
    await exchange.phone("1001")
    floor = Floor(exchange, far_ends, tmp_path)
    yield floor, await floor.begin(carrier)
    await carrier.endpoint.aclose()


TALKING = {"caller": {"agent"}, "agent": {"caller"}}


async def test_hold_consult_three_party_and_an_agent_who_leaves(
    floor: tuple[Floor, Talk],
) -> None:
    scene, talk = floor
    await scene.all_hear(TALKING)
    talk.hold()
    await scene.all_hear({"caller": {"music"}, "agent": set()})
    talk.retrieve()
    await scene.all_hear(TALKING)

    for times in range(2):
        consulting = asyncio.create_task(talk.consult(EXPERT, timeout_ms=5000))
        await scene.comes("expert", "1002")
        await consulting
        assert talk.state is TalkState.CONSULTING
        await scene.all_hear(
            {
                "caller": {"music"},
                "agent": {"expert"},
                "expert": {"agent"},
            }
        )
        if times == 0:
            talk.three_party()
            await scene.all_hear(
                {
                    "caller": {"agent", "expert"},
                    "agent": {"caller", "expert"},
                    "expert": {"caller", "agent"},
                }
            )
            talk.cancel_consult()
            await scene.parties.pop("expert")[0].until_ended()
            await scene.all_hear(TALKING)

    scene.leaves("agent")
    await until(lambda: scene.exchange.sink.names.count("bridged") == 2)
    await scene.all_hear({"caller": {"expert"}, "expert": {"caller"}})
    scene.leaves("caller")
    await scene.parties["expert"][0].until_ended()
    left, right = await scene.end()
    assert ever_in(left) == {"caller"}
    assert ever_in(right) == {"agent", "expert"}
    assert scene.states == ["held", "talking", "consulting", "conference", "talking", "consulting"]


async def test_listen_whisper_barge_and_intercept(floor: tuple[Floor, Talk]) -> None:
    scene, talk = floor
    ended: list[str] = []

    async def joins(mode: Supervision) -> None:
        joining = asyncio.create_task(
            talk.supervise(SUPERVISOR, mode, timeout_ms=5000, on_ended=lambda: ended.append(mode))
        )
        await scene.comes("supervisor", "1009")
        scene.leg = await joining

    await joins(Supervision.LISTEN)
    await scene.all_hear({**TALKING, "supervisor": {"caller", "agent"}})
    scene.says("supervisor", "whisper")
    talk.change(scene.leg, Supervision.WHISPER)
    await scene.all_hear(
        {
            "caller": {"agent"},
            "agent": {"caller", "whisper"},
            "supervisor": {"caller", "agent"},
        }
    )
    talk.change(scene.leg, Supervision.LISTEN)
    await scene.all_hear({**TALKING, "supervisor": {"caller", "agent"}})
    scene.says("supervisor", "supervisor")
    await scene.clock.passes(200)  # what was whispered is still under way
    talk.change(scene.leg, Supervision.BARGE)
    await scene.all_hear(
        {
            "caller": {"agent", "supervisor"},
            "agent": {"caller", "supervisor"},
            "supervisor": {"caller", "agent"},
        }
    )
    scene.leaves("supervisor")
    await until(lambda: ended)
    await scene.all_hear(TALKING)

    talk.hold()
    await joins(Supervision.LISTEN)
    talk.intercept(scene.leg, agent="1009")
    assert talk.state is TalkState.TALKING
    await scene.parties.pop("agent")[0].until_ended()
    await scene.all_hear({"caller": {"supervisor"}, "supervisor": {"caller"}})
    assert ended == ["listen", "listen"]
    talk.watch(scene.states.append)
    talk.hold()
    await scene.all_hear({"caller": {"music"}, "supervisor": set()})
    scene.leaves("supervisor")
    await scene.parties["caller"][0].until_ended()
    left, right = await scene.end()
    assert ever_in(left) == {"caller"}
    assert ever_in(right) == {"agent", "supervisor"}
    assert scene.states == ["held", "held"]
    agents = [each.bridged.agent for each in scene.exchange.sink.events if each.HasField("bridged")]
    assert agents == ["1001", "1009"]
