"""The order of NOTIFYs: any course of events, and a network that loses messages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.sip.endpoint import SipEndpoint
from cti.sip.events.dialog_info import DialogStage, PhoneDialog
from cti.sip.events.notifier import Notifier
from cti.sip.messages.message import Request, Response, response_to
from cti.sip.sessions.dialog import Dialog
from cti.sip.transports.transport import Hop
from domain.failures import Code
from tests.sip_session.phones import TENANT
from tests.sip_session.test_subscription import EventNode, Watcher

_STEPS = st.lists(
    st.sampled_from(["activate", "changed", "gone", "end", "answer", "refuse", "fail", "later"]),
    max_size=30,
)


class Wire:
    """The endpoint's side of requests; the test decides what becomes of them."""

    def __init__(self) -> None:
        self.sent: list[Request] = []
        self.open: list[tuple[Request, Callable[[Response], None], Callable[[Code], None]]] = []

    def send_request(
        self,
        request: Request,
        _hop: Hop,
        *,
        on_response: Callable[[Response], None],
        on_failure: Callable[[Code], None],
    ) -> None:
        self.sent.append(request)
        self.open.append((request, on_response, on_failure))

    def states(self) -> list[str]:
        return [
            (each.headers.get("Subscription-State") or "").partition(";")[0] for each in self.sent
        ]


def dialog() -> Dialog:
    request = Request(
        "SUBSCRIBE",
        "sip:1002@127.0.0.1",
        [
            ("Via", "SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK1"), ("From", "<sip:a@b>;tag=1"),
            ("To", "<sip:a@b>"), ("Call-ID", "1"), ("CSeq", "1 SUBSCRIBE"),
            ("Contact", "<sip:a@127.0.0.1:5070>"),
        ],
    )  # fmt: skip
    hop = Hop("udp", "127.0.0.1", 5070)
    return Dialog.of_server(request, hop, local_tag="2", contact="<sip:127.0.0.1>")


async def run(steps: list[str]) -> None:
    wire, over, numbers, gone = Wire(), [], [0], [False]
    notifier = Notifier(
        cast("SipEndpoint", wire),
        dialog(),
        event="dialog",
        content_type="text/plain",
        state=lambda sent: None if gone[0] else b"%d %d" % (sent, numbers[0]),
        on_over=lambda: over.append(True),
        interval_s=0.001,
    )
    notifier.activate(600)
    loop = asyncio.get_running_loop()
    for step in steps:
        if step == "activate":
            notifier.activate(600)
        elif step == "changed":
            numbers[0] += 1
            notifier.changed()
        elif step == "gone":
            gone[0] = True
            notifier.changed()
        elif step == "end":
            notifier.end("noresource")
        elif step == "later":
            turn = loop.create_future()
            loop.call_later(0.002, turn.set_result, None)
            await turn
        elif wire.open:
            request, on_response, on_failure = wire.open.pop()
            if step == "fail":
                on_failure(Code.SIP_TIMEOUT)
            else:
                on_response(response_to(request, 100))
                on_response(response_to(request, 200 if step == "answer" else 481))
        states = wire.states()
        assert len(over) <= 1
        assert states.count("terminated") <= 1
        assert "terminated" not in states[:-1]  # nothing follows it
        assert len(wire.open) <= 1 or over  # one at a time
        if "terminated" in states:
            assert over
    if not over and not wire.open:  # told, or about to be told
        turn = loop.create_future()
        loop.call_later(0.002, turn.set_result, None)
        await turn
        assert gone[0] == bool(over)
        assert over or wire.sent[-1].body == b"%d %d" % (len(wire.sent) - 1, numbers[0])
    assert notifier._expiry is None or not over
    assert notifier._pause is None or not over
    notifier._stop_timers()


@given(_STEPS)
def test_any_course(steps: list[str]) -> None:
    asyncio.run(run(steps))


@pytest.mark.parametrize("seed", range(2))
async def test_on_a_bad_network(seed: int) -> None:
    chance = random.Random(seed)
    node = EventNode()
    transports = node.endpoint._transports
    send = transports.send

    def maybe_send(data: bytes, hop: Hop, on_error: Callable[[], None]) -> int:
        lost = data.startswith(b"NOTIFY") and chance.random() < 0.4
        return 1 if lost else send(data, hop, on_error)

    transports.send = maybe_send  # type: ignore[method-assign]
    await node.listen()
    watcher = await Watcher.create(node.address)
    assert isinstance(watcher, Watcher)
    notify = await watcher.subscribed()
    for stage in (DialogStage.TRYING, DialogStage.EARLY, DialogStage.CONFIRMED):
        node.phones.tell(TENANT, "1002", PhoneDialog("call", stage, "initiator"))
        if chance.random() < 0.5:
            notify = await watcher.notified()
    while b"confirmed" not in notify.body:
        notify = await watcher.notified()
    await watcher.subscribe(expires="0")
    while not (notify.headers.get("Subscription-State") or "").startswith("terminated"):
        notify = await watcher.notified()
    await node.idle()
    watcher.close()
    await node.agent.aclose()
    await node.endpoint.aclose()
