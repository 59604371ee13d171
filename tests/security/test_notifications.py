"""A phone cannot have its NOTIFYs sent to somebody else."""

from __future__ import annotations

import pytest

from cti.sip.events.dialog_info import DialogInfo
from cti.sip.events.phone_dialogs import PhoneDialogs
from cti.sip.events.subscription import SubscriptionService
from cti.sip.messages.message import Request
from tests.sip_session.conftest import Node
from tests.sip_session.phones import PhonePeer, authenticator


@pytest.mark.parametrize("header", ["Contact", "Record-Route"])
async def test_notifications_go_where_the_subscription_came_from(header: str) -> None:
    node = Node()
    await node.listen()
    packages = [DialogInfo(PhoneDialogs(lambda _tenant, _user: True))]
    service = SubscriptionService(node.agent, phones=authenticator(), packages=packages)
    phone = await PhonePeer.create(node.address)
    assert isinstance(phone, PhonePeer)
    value = "<sip:127.0.0.9:5060;lr>"
    headers = [("Event", "dialog"), ("Expires", "600"), (header, value)]
    response = await phone.asked("SUBSCRIBE", uri="sip:1002@127.0.0.1", headers=headers)
    assert response.status == 200
    notify = await phone.next()
    assert isinstance(notify, Request)
    assert notify.method == "NOTIFY"
    phone.reply(notify, 200)
    await service.aclose(0.1)
    await node.aclose()
    phone.close()
