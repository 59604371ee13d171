"""Lamps of phones: what call control publishes tells which phone rings and which talks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from cti.shared.lamp_exchange import PhoneDialogSink
from cti.sip.events.dialog_info import DialogStage, PhoneDialog
from cti95598.events.v1.events_pb2 import Event
from domain.events import EventSink
from domain.ids import TenantId
from domain.masking import mask_number

_ANONYMOUS = "anonymous"  # the user of the From that phones show (RFC 3323 4.1.1.3)


@dataclass(frozen=True, slots=True)
class _Lit:
    """A call of a phone that has not ended."""

    tenant: TenantId
    user: str
    dialog: PhoneDialog


class PhoneLamps:
    """An `EventSink` that passes all events on, and tells what they mean for phones.

    Numbers are masked: lamps are seen by many.
    """

    def __init__(
        self,
        sink: EventSink,
        phones: PhoneDialogSink,
        *,
        is_phone: Callable[[TenantId, str], bool],
    ) -> None:
        self._sink = sink
        self._phones = phones
        self._is_phone = is_phone
        self._lit: dict[str, _Lit] = {}
        self._callers: dict[str, str] = {}

    def publish(self, event: Event) -> None:
        """See EventSink."""
        self._sink.publish(event)
        handler = _HANDLERS.get(event.WhichOneof("body"))
        if handler is not None:
            handler(self, event)

    def _on_arrived(self, event: Event) -> None:
        arrived = event.call_arrived
        shown = _ANONYMOUS if arrived.withheld else mask_number(arrived.caller)
        self._callers[event.call_id] = shown
        if arrived.phone:
            self._light(event, arrived.phone, event.call_id, "initiator", arrived.called)

    def _on_answered(self, event: Event) -> None:
        self._change(event.call_id, DialogStage.CONFIRMED)

    def _on_call_ended(self, event: Event) -> None:
        self._callers.pop(event.call_id, None)
        self._change(event.call_id, DialogStage.TERMINATED)

    def _on_leg_started(self, event: Event) -> None:
        leg, caller = event.leg_started, self._callers.get(event.call_id, "")
        self._light(event, leg.target, leg.leg, "recipient", caller)

    def _on_bridged(self, event: Event) -> None:
        self._change(event.bridged.leg, DialogStage.CONFIRMED)

    def _on_leg_ended(self, event: Event) -> None:
        self._change(event.leg_ended.leg, DialogStage.TERMINATED)

    def _light(
        self,
        event: Event,
        user: str,
        key: str,
        direction: Literal["initiator", "recipient"],
        remote: str,
    ) -> None:
        tenant = TenantId(event.tenant)
        if not self._is_phone(tenant, user):
            return  # an outside number
        stage = DialogStage.TRYING if direction == "initiator" else DialogStage.EARLY
        dialog = PhoneDialog(key, stage, direction, mask_number(remote))
        self._lit[key] = _Lit(tenant, user, dialog)
        self._phones.tell(tenant, user, dialog)

    def _change(self, key: str, stage: DialogStage) -> None:
        lit = self._lit.get(key)
        if lit is None:
            return
        dialog = replace(lit.dialog, stage=stage)
        if stage is DialogStage.TERMINATED:
            del self._lit[key]
        else:
            self._lit[key] = _Lit(lit.tenant, lit.user, dialog)
        self._phones.tell(lit.tenant, lit.user, dialog)


_HANDLERS: dict[str | None, Callable[[PhoneLamps, Event], None]] = {
    "call_arrived": PhoneLamps._on_arrived,  # noqa: SLF001 - the class's own table
    "call_answered": PhoneLamps._on_answered,  # noqa: SLF001
    "call_ended": PhoneLamps._on_call_ended,  # noqa: SLF001
    "call_refused": PhoneLamps._on_call_ended,  # noqa: SLF001
    "leg_started": PhoneLamps._on_leg_started,  # noqa: SLF001
    "leg_ended": PhoneLamps._on_leg_ended,  # noqa: SLF001
    "bridged": PhoneLamps._on_bridged,  # noqa: SLF001
}
