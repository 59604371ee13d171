"""A call that is over is freed at once: nothing of it waits for the garbage collector.

Full collections hold up every other call, so calls must not need them; `serve` makes them rare.
Over UDP transactions stay for 64*T1 (RFC 3261 17, RFC 6026 7): they may not keep the call.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from cti.admission import Admission
from cti.call import Call, DialTarget, Talk, TalkState
from domain.failures import Code
from tests.call_control.conftest import answered
from tests.call_control.party import Party
from tests.call_control.platform import Platform, until
from tests.fakes.media import FakeMedia

CLIP = Path("clip.wav")
Handler = Callable[[Call], Awaitable[None]]


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
async def platform(admission: Admission, tmp_path: Path) -> AsyncIterator[Platform]:
    platform = await Platform(admission, tmp_path, FakeMedia()).listen()
    yield platform
    await platform.control.aclose()
    await platform.endpoint.aclose()


@pytest.fixture
async def carrier() -> AsyncIterator[Party]:
    party = await Party().listen()
    yield party
    await party.endpoint.aclose()


@pytest.fixture
async def phone() -> AsyncIterator[Party]:
    party = await Party().listen()
    party.answers_at_once = True
    yield party
    await party.endpoint.aclose()


class Kept:
    """What of a call is still in memory."""

    def __init__(self) -> None:
        self._watched: dict[str, weakref.ref[object]] = {}

    def watch(self, **things: object) -> None:
        self._watched |= {name: weakref.ref(thing) for name, thing in things.items()}

    @property
    def names(self) -> list[str]:
        assert self._watched
        return [name for name, ref in self._watched.items() if ref() is not None]


class Toolbar:
    """Knows the conversation that tells it of its changes, as an agent's line does."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.states: list[TalkState] = []
        talk.watch(partial(Toolbar.changed, self))

    def changed(self, state: TalkState) -> None:
        self.states.append(state)


def ivr(kept: Kept) -> Handler:
    async def body(call: Call) -> None:
        kept.watch(call=call)
        await call.collect([CLIP], first_digit_timeout_ms=1)

    return answered(body)


def never_answered(kept: Kept) -> Handler:
    async def handler(call: Call) -> None:
        kept.watch(call=call)
        await call.hang_up(Code.QUEUE_TIMEOUT)

    return handler


def with_an_agent(kept: Kept) -> Handler:
    async def body(call: Call) -> None:
        leg = await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)

        def begun(talk: Talk) -> None:
            kept.watch(talk=talk, toolbar=Toolbar(talk))
            leg.hang_up()

        kept.watch(call=call, leg=leg)
        await call.bridge(leg, record_party="1001", on_begun=begun)

    return answered(body)


@pytest.mark.parametrize("flow", [ivr, never_answered, with_an_agent])
async def test_nothing_of_a_call_is_left_when_it_is_over(
    platform: Platform, carrier: Party, phone: Party, flow: Callable[[Kept], Handler]
) -> None:
    kept = Kept()
    platform.register(phone)
    platform.handler = flow(kept)
    await carrier.call("95598", platform.hop).until_ended()
    await until(lambda: "call_ended" in platform.sink.names)
    await until(lambda: platform.user_agent.session_count == 0)
    await until(lambda: not kept.names)


async def test_nothing_is_left_of_a_caller_who_hangs_up(
    platform: Platform, carrier: Party, phone: Party
) -> None:
    kept = Kept()

    async def body(call: Call) -> None:
        kept.watch(call=call)
        call.start_music([CLIP])
        leg = await call.dial(DialTarget("1001", call.info.caller), timeout_ms=5000)
        kept.watch(leg=leg)
        await call.bridge(leg, record_party="1001")

    platform.register(phone)
    platform.handler = answered(body)
    caller = carrier.call("95598", platform.hop)
    await until(lambda: "bridged" in platform.sink.names)
    caller.hang_up()
    await until(lambda: "call_ended" in platform.sink.names)
    await until(lambda: not kept.names)
