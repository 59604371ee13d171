"""SUBSCRIBE from our phones, and the NOTIFYs they get."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.sip.events.dialog_info import DialogInfo, DialogStage, PhoneDialog
from cti.sip.events.event_package import Changed, Resource
from cti.sip.events.message_summary import MessageSummary, VoiceMail
from cti.sip.events.phone_dialogs import PhoneDialogs
from cti.sip.events.refer import ReferService
from cti.sip.events.subscription import SubscriptionLimits, SubscriptionService
from cti.sip.messages.message import Request, Response
from cti.sip.metrics import SUBSCRIPTIONS
from cti.sip.transactions.timers import Timers
from domain.ids import TenantId
from tests.sip_session.conftest import Node
from tests.sip_session.peer import PATIENCE_S, RawPeer
from tests.sip_session.phones import OTHER_TENANT, QUICK, TENANT, USERS, PhonePeer, authenticator

LIMITS = SubscriptionLimits(
    total=6, per_user=4, min_expires_s=1, max_expires_s=3600, interval_s=0.2
)
NAMESPACE = {"d": "urn:ietf:params:xml:ns:dialog-info"}
RINGING = PhoneDialog("call-1@10.0.0.9", DialogStage.EARLY, "recipient", "138****5678", "<Li & Co>")


class Mailboxes:
    """Mailboxes of the demo tenant."""

    def __init__(self) -> None:
        self.mails = {user: VoiceMail(2, 8, 0, 1) for user in ("1001", "1002")}
        self.changed: Changed

    def voice_mail(self, tenant: TenantId, user: str) -> VoiceMail | None:
        return self.mails.get(user) if tenant == TENANT else None

    def watch(self, changed: Changed) -> None:
        self.changed = changed


class EventNode(Node):
    """A node whose phones subscribe."""

    def __init__(self, timers: Timers = QUICK) -> None:
        super().__init__(timers)
        self.mailboxes = Mailboxes()
        self.phones = PhoneDialogs(lambda tenant, user: tenant == TENANT and user in USERS)
        self.service = SubscriptionService(
            self.agent,
            phones=authenticator(),
            packages=[MessageSummary(self.mailboxes), DialogInfo(self.phones)],
            limits=LIMITS,
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                turn = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_later(0.01, turn.set_result, None)
                await turn

    async def idle(self) -> None:
        await self.until(lambda: self.endpoint.transaction_count + self.service.count == 0)
        assert not self.service._watchers
        assert not self.service._of_owner


class Watcher(PhonePeer):
    """A phone that watches."""

    async def subscribe(
        self, event: str = "dialog", *, expires: str = "600", whom: str = "1002", **more: str
    ) -> Response:
        headers = [("Event", event), ("Expires", expires), *more.items()]
        return await self.asked("SUBSCRIBE", uri=f"sip:{whom}@127.0.0.1", headers=headers)

    async def subscribed(self, event: str = "dialog", **options: str) -> Request:
        """Subscribe, and return the NOTIFY that follows, answered."""
        response = await self.subscribe(event, **options)
        assert response.status == 200, (response.status, response.reason)
        self.remote_to = str(response.to)
        return await self.notified()

    async def notified(self, status: int = 200) -> Request:
        notify = await self.expect("NOTIFY")
        self.reply(notify, status)
        return notify

    def restart(self) -> None:
        """Lose the power: dialogs are forgotten."""
        self.call_id += "+"
        self.tag += "+"
        self.remote_to = ""


@pytest.fixture
async def events() -> AsyncIterator[EventNode]:
    node = EventNode()
    await node.listen()
    yield node
    await node.agent.aclose()
    await node.endpoint.aclose()


@pytest.fixture
async def watcher(events: EventNode) -> AsyncIterator[Watcher]:
    watcher = await Watcher.create(events.address)
    assert isinstance(watcher, Watcher)
    yield watcher
    watcher.close()


def state_of(notify: Request) -> str:
    return notify.headers.get("Subscription-State") or ""


def lamps(notify: Request) -> list[tuple[str | None, str | None]]:
    """Direction and state of each dialog told."""
    root = ET.fromstring(notify.body)
    return [
        (each.get("direction"), each.findtext("d:state", None, NAMESPACE))
        for each in root.findall("d:dialog", NAMESPACE)
    ]


def version_of(notify: Request) -> str | None:
    return ET.fromstring(notify.body).get("version")


async def test_mail_lamp(events: EventNode, watcher: Watcher) -> None:
    response = await watcher.subscribe("message-summary", whom="1001", Accept="text/*, */*")
    assert response.headers.get("Expires") == "600"
    assert response.headers.get("Contact")
    notify = await watcher.notified()
    assert notify.headers.get("Event") == "message-summary"
    assert notify.headers.get("Content-Type") == "application/simple-message-summary"
    assert state_of(notify) == "active;expires=600"
    assert notify.body == (
        b"Messages-Waiting: yes\r\nMessage-Account: sip:1001@127.0.0.1\r\n"
        b"Voice-Message: 2/8 (0/1)\r\n"
    )
    assert notify.to.tag == watcher.tag
    assert notify.uri == watcher.contact.strip("<>")
    events.mailboxes.mails["1001"] = VoiceMail(0, 9)
    events.mailboxes.changed(TENANT, "1002")
    events.mailboxes.changed(OTHER_TENANT, "1001")
    events.mailboxes.changed(TENANT, "1001")
    assert b"Messages-Waiting: no\r\n" in (await watcher.notified()).body
    del events.mailboxes.mails["1001"]
    events.mailboxes.changed(TENANT, "1001")
    gone = await watcher.notified()
    assert state_of(gone) == "terminated;reason=noresource"
    assert gone.body == b""
    await events.idle()


async def test_busy_lamp(events: EventNode, watcher: Watcher) -> None:
    notify = await watcher.subscribed("dialog;id=7")
    assert notify.headers.get("Event") == "dialog;id=7"
    assert notify.headers.get("Content-Type") == "application/dialog-info+xml"
    assert (version_of(notify), lamps(notify)) == ("0", [])
    events.phones.tell(TENANT, "1002", RINGING)
    notify = await watcher.notified()
    assert (version_of(notify), lamps(notify)) == ("1", [("recipient", "early")])
    root = ET.fromstring(notify.body)
    assert root.get("entity") == "sip:1002@127.0.0.1"
    assert root.get("state") == "full"
    identity = root.find("d:dialog/d:remote/d:identity", NAMESPACE)
    assert identity is not None
    assert (identity.get("display"), identity.text) == ("<Li & Co>", "sip:138****5678@127.0.0.1")
    assert b"call-1" not in notify.body
    assert b"10.0.0.9" not in notify.body


async def test_the_newest_state_wins(events: EventNode, watcher: Watcher) -> None:
    await watcher.subscribed()
    told_s = asyncio.get_running_loop().time()
    events.phones.tell(TENANT, "1002", RINGING)
    for stage in (DialogStage.TRYING, DialogStage.CONFIRMED):
        events.phones.tell(TENANT, "1002", PhoneDialog("call-1", stage, "recipient"))
    notify = await watcher.notified()
    assert asyncio.get_running_loop().time() - told_s > LIMITS.interval_s / 2
    assert (version_of(notify), lamps(notify)) == (
        "1", [("recipient", "early"), ("recipient", "confirmed")],
    )  # fmt: skip
    for key in (RINGING.key, "call-1"):
        events.phones.tell(TENANT, "1002", PhoneDialog(key, DialogStage.TERMINATED, "recipient"))
    notify = await watcher.notified()
    assert lamps(notify) == [("recipient", "terminated")]  # the last one, so that lamps go out
    assert b"remote" not in notify.body
    events.phones.tell(TENANT, "1002", PhoneDialog("call-2", DialogStage.TRYING, "initiator"))
    assert lamps(await watcher.notified()) == [("initiator", "trying")]


async def test_while_a_notify_is_not_answered(events: EventNode, watcher: Watcher) -> None:
    await watcher.subscribe()
    first = await watcher.expect("NOTIFY")
    events.phones.tell(TENANT, "1002", RINGING)
    await watcher.saw(b"NOTIFY", times=4)  # the first one, lost three times
    assert watcher.inbox.empty()
    watcher.reply(first, 200)
    assert lamps(await watcher.notified()) == [("recipient", "early")]


async def test_refresh(events: EventNode, watcher: Watcher) -> None:
    await watcher.subscribed()
    moved = await RawPeer.create(events.address)
    response = await watcher.subscribe(expires="9999", Contact=moved.contact)
    assert (response.status, response.headers.get("Expires")) == (200, "3600")
    notify = await moved.expect("NOTIFY")
    assert state_of(notify) == "active;expires=3600"
    assert version_of(notify) == "1"
    moved.reply(notify, 200)
    moved.close()
    assert events.service.count == 1


async def test_unsubscribe(events: EventNode, watcher: Watcher) -> None:
    gauge = SUBSCRIPTIONS.labels("dialog")._value
    before = gauge.get()
    await watcher.subscribed()
    assert gauge.get() == before + 1
    response = await watcher.subscribe(expires="0")
    assert (response.status, response.headers.get("Expires")) == (200, "0")
    notify = await watcher.notified()
    assert state_of(notify) == "terminated;reason=timeout"
    assert lamps(notify) == []
    assert (await watcher.subscribe()).status == 481
    await events.idle()
    assert gauge.get() == before
    events.phones.tell(TENANT, "1002", RINGING)
    await events.idle()
    assert watcher.inbox.empty()


async def test_fetch(events: EventNode, watcher: Watcher) -> None:
    notify = await watcher.subscribed(expires="0")
    assert state_of(notify) == "terminated;reason=timeout"
    assert version_of(notify) == "0"
    await events.idle()


async def test_expiry(events: EventNode, watcher: Watcher) -> None:
    await watcher.subscribed(expires="1")
    assert state_of(await watcher.notified()) == "terminated;reason=timeout"
    await events.idle()


@pytest.mark.parametrize("status", [481, 408, 489, 404])
async def test_a_phone_that_wants_no_more(events: EventNode, watcher: Watcher, status: int) -> None:
    await watcher.subscribe()
    await watcher.notified(status)
    await events.idle()


async def test_a_phone_that_is_gone(events: EventNode, watcher: Watcher) -> None:
    await watcher.subscribe()
    await events.idle()  # Timer F


async def test_a_phone_that_is_overloaded_stays(events: EventNode, watcher: Watcher) -> None:
    await watcher.subscribe()
    await watcher.notified(500)
    events.phones.tell(TENANT, "1002", RINGING)
    await watcher.notified()
    assert events.service.count == 1


async def test_a_phone_that_was_restarted(events: EventNode, watcher: Watcher) -> None:
    await watcher.subscribed()
    watcher.restart()
    assert (await watcher.subscribe()).status == 200
    notifies = [await watcher.expect("NOTIFY") for _ in range(2)]
    for notify in notifies:
        watcher.reply(notify, 200 if notify.call_id == watcher.call_id else 481)
    await events.until(lambda: events.service.count == 1)


async def test_behind_nat(events: EventNode, watcher: Watcher) -> None:
    """A phone that writes an address of its own network is told where it sends from."""
    watcher.is_behind_nat = True
    assert (await watcher.subscribed()).uri == "sip:raw@192.168.1.9:5060"
    events.phones.tell(TENANT, "1002", RINGING)
    await watcher.notified()


async def test_the_way_over_proxies(events: EventNode, watcher: Watcher) -> None:
    route = f"<sip:{watcher.host}:{watcher.port};lr>"
    response = await watcher.subscribe(**{"Record-Route": f"{route}, <sip:10.9.9.9;lr>"})
    assert response.headers.get_all("Record-Route") == [route, "<sip:10.9.9.9;lr>"]
    assert (await watcher.notified()).headers.get_all("Route") == [route, "<sip:10.9.9.9;lr>"]


@pytest.mark.parametrize(
    ("event", "options", "status"),
    [
        ("presence", {}, 489),
        ("", {}, 489),
        ("dialog", {"expires": "soon"}, 400),
        ("dialog", {"Accept": "application/pidf+xml"}, 406),
        ("dialog", {"whom": "nobody"}, 404),
        ("message-summary", {}, 403),  # of somebody else
        ("dialog", {"Contact": "<tel:1001>"}, 400),
    ],
)
async def test_refused(
    events: EventNode, watcher: Watcher, event: str, options: dict[str, str], status: int
) -> None:
    response = await watcher.subscribe(event, **options)
    assert response.status == status
    if status == 489:
        assert response.headers.get_all("Allow-Events") == ["message-summary", "dialog"]
    await events.idle()


async def test_too_short(events: EventNode, watcher: Watcher) -> None:
    events.service._limits = SubscriptionLimits(min_expires_s=60)
    response = await watcher.subscribe(expires="59")
    assert response.status == 423
    assert response.headers.get("Min-Expires") == "60"


async def test_only_phones_of_ours(events: EventNode, watcher: Watcher) -> None:
    watcher.password = "wrong"
    assert (await watcher.subscribe()).status == 401
    watcher.user, watcher.password = "nobody", "password"
    assert (await watcher.subscribe()).status == 401
    await events.idle()


async def test_tenants_do_not_see_each_other(events: EventNode, watcher: Watcher) -> None:
    watcher.domain = "other.example"
    assert (await watcher.subscribe()).status == 404
    assert (await watcher.subscribe("message-summary", whom="1001")).status == 404


async def test_the_subscription_of_somebody_else(events: EventNode, watcher: Watcher) -> None:
    await watcher.subscribed()
    watcher.user = "1003"
    assert (await watcher.subscribe(expires="0")).status == 481
    watcher.user = "1001"
    assert (await watcher.subscribe("dialog;id=2", expires="0")).status == 481
    watcher.ask("SUBSCRIBE", cseq=1, headers=[("Event", "dialog"), ("Expires", "0")])
    await watcher.expect_status(401)
    assert events.service.count == 1


async def test_old_requests_are_refused(events: EventNode, watcher: Watcher) -> None:
    await watcher.subscribed()
    (subscription,) = events.service._subscriptions.values()
    subscription.dialog.remote_cseq = 1000
    assert (await watcher.subscribe(expires="0")).status == 500


async def test_limits(events: EventNode, watcher: Watcher) -> None:
    for number in range(LIMITS.per_user):
        watcher.restart()
        await watcher.subscribed(Contact=f"<sip:{number}@127.0.0.1:{watcher.port}>")
    watcher.restart()
    refused = await watcher.subscribe()
    assert refused.status == 503
    assert refused.headers.get("Retry-After")
    for user, status in (("1002", 200), ("1003", 200), ("1002", 503)):
        watcher.restart()
        watcher.user = user
        response = await watcher.subscribe(Contact=f"<sip:{user}@127.0.0.1:{watcher.port}>")
        assert response.status == status
        if status == 200:
            await watcher.notified()
    assert events.service.count == LIMITS.total


async def test_shutdown(events: EventNode, watcher: Watcher) -> None:
    await watcher.subscribed()
    watcher.restart()
    assert (await watcher.subscribe("message-summary", whom="1001")).status == 200
    closing = asyncio.ensure_future(events.service.aclose())
    # The first is told at once, the second when its NOTIFY under way is answered.
    told = {}
    for _ in range(3):
        notify = await watcher.notified()
        told[notify.headers.get("Event")] = state_of(notify)
    assert told == dict.fromkeys(("dialog", "message-summary"), "terminated;reason=deactivated")
    await asyncio.wait_for(closing, PATIENCE_S)
    watcher.restart()
    assert (await watcher.subscribe()).status == 503
    await events.idle()
    await events.service.aclose()


async def test_shutdown_does_not_wait_for_the_dead(events: EventNode, watcher: Watcher) -> None:
    await watcher.subscribe()
    await asyncio.wait_for(events.service.aclose(within_s=0.05), 1)
    await events.idle()


async def test_beside_transfers(events: EventNode, watcher: Watcher) -> None:
    ReferService(events.agent)
    await watcher.subscribed()
    assert "refer" in dict(events.agent.capabilities)["Allow-Events"]


@given(
    st.lists(
        st.builds(
            PhoneDialog,
            key=st.text(),
            stage=st.sampled_from(DialogStage),
            direction=st.sampled_from(["initiator", "recipient"]),
            remote_number=st.text(max_size=20),
            remote_name=st.text(max_size=20),
        ),
        max_size=10,
    ),
    st.text(min_size=1, max_size=20),
)
def test_any_state_is_well_formed(dialogs: list[PhoneDialog], user: str) -> None:
    class States:
        def dialogs(self, tenant: TenantId, user: str) -> list[PhoneDialog]:
            return dialogs

        def watch(self, changed: Changed) -> None:
            """Nothing changes."""

    body = DialogInfo(States()).state(Resource(TENANT, user, "example.com"), 3)
    assert body is not None
    root = ET.fromstring(body)
    told = root.findall("d:dialog", NAMESPACE)
    assert len(told) == min(len(dialogs), 8)
