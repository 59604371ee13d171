"""Lamps follow the events of calls."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from cti.sip.events.phone_dialogs import PhoneDialogs
from cti95598.events.v1.events_pb2 import (
    Bridged,
    CallAnswered,
    CallArrived,
    CallEnded,
    CallRefused,
    Event,
    LegEnded,
    LegStarted,
    NodeStarted,
)
from domain.events import EventStamp
from domain.ids import CallId, NodeId, TenantId
from node.phone_lamps import PhoneLamps

TENANT = TenantId("demo")
CALL = CallId("call-1")


class Desk:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.phones = PhoneDialogs(self._is_phone)
        self.lamps = PhoneLamps(self, self.phones, is_phone=self._is_phone)
        self.stamp = EventStamp(NodeId("node-1"), self.lamps)

    @staticmethod
    def _is_phone(tenant: TenantId, user: str) -> bool:
        return tenant == TENANT and user in {"1001", "1002"}

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def tell(self, body: Message, call: CallId | None = CALL) -> None:
        self.stamp.publish(TENANT, body, call_id=call)

    def lamp(self, user: str) -> list[tuple[str, str, str]]:
        dialogs = self.phones.dialogs(TENANT, user)
        assert dialogs is not None
        return [(each.direction, each.stage.value, each.remote_number) for each in dialogs]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_phone_is_called(desk: Desk) -> None:
    desk.tell(NodeStarted(), None)
    desk.tell(CallArrived(trunk="carrier", caller="13812345678", called="95598"))
    assert desk.lamp("1001") == []
    desk.tell(LegStarted(leg="leg-1", target="1001", purpose="agent"))
    assert desk.lamp("1001") == [("recipient", "early", "138****5678")]
    desk.tell(CallAnswered())
    assert desk.lamp("1001") == [("recipient", "early", "138****5678")]
    desk.tell(Bridged(leg="leg-1", agent="8001"))
    assert desk.lamp("1001") == [("recipient", "confirmed", "138****5678")]
    desk.tell(LegEnded(leg="leg-1"))
    assert desk.lamp("1001") == [("recipient", "terminated", "")]
    desk.tell(CallEnded())
    assert len(desk.events) == 7
    assert not desk.lamps._lit
    assert not desk.lamps._callers


def test_a_phone_calls(desk: Desk) -> None:
    desk.tell(CallArrived(phone="1002", caller="1002", called="1001"))
    assert desk.lamp("1002") == [("initiator", "trying", "1001")]
    desk.tell(LegStarted(leg="leg-1", target="1001", purpose="call"))
    assert desk.lamp("1001") == [("recipient", "early", "1002")]
    desk.tell(CallAnswered())
    assert desk.lamp("1002") == [("initiator", "confirmed", "1001")]
    desk.tell(CallEnded())
    assert desk.lamp("1002") == [("initiator", "terminated", "")]
    assert desk.lamp("1001") == [("recipient", "early", "1002")]  # until its own leg ends
    desk.tell(LegEnded(leg="leg-1"))
    assert not desk.lamps._lit


def test_a_withheld_number_is_not_shown(desk: Desk) -> None:
    desk.tell(CallArrived(caller="13812345678", called="95598", withheld=True))
    desk.tell(LegStarted(leg="leg-1", target="1001", purpose="agent"))
    assert desk.lamp("1001") == [("recipient", "early", "anonymous")]


def test_a_phone_is_refused(desk: Desk) -> None:
    desk.tell(CallArrived(phone="1002", caller="1002", called="0"))
    desk.tell(CallRefused(sip_status=404))
    assert desk.lamp("1002") == [("initiator", "terminated", "")]
    assert not desk.lamps._callers


def test_outside_numbers_have_no_lamps(desk: Desk) -> None:
    desk.tell(CallArrived(caller="13812345678"))
    desk.tell(LegStarted(leg="leg-1", target="02112345678", purpose="transfer"))
    desk.tell(Bridged(leg="leg-1"))
    desk.tell(LegEnded(leg="leg-1"))
    desk.tell(CallEnded())
    assert not desk.phones._dialogs
