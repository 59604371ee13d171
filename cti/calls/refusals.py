"""Refuses INVITEs by their status, and leaves a record of each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog
from prometheus_client import Counter

from cti.admission import Refused
from cti.call import CallInfo
from cti.sip.sessions.session import InviteSession
from cti.trunks.limits import TokenBucket
from cti95598.events.v1.events_pb2 import CallArrived, CallRefused
from domain.events import EventStamp
from domain.failures import CATALOGUE, Code
from domain.ids import CallId, TenantId, new_call_id
from domain.masking import mask_number

_log = structlog.get_logger(__name__)

_STRANGERS = Counter("calls_from_strangers_total", "INVITEs from addresses of no trunk")

# RFC 3261 20.33; long enough for a trunk to try elsewhere, short enough to come back soon.
_RETRY_AFTER_S = 5
# Strangers' calls are all counted, but only so many a second are worth a record.
_STRANGERS_RECORDED_PER_S = 10
# Events keep what strangers write at this length; numbers and Call-IDs are shorter.
_MAX_TEXT_CHARACTERS = 128


class Refusals:
    """Of one node."""

    def __init__(self, events: EventStamp) -> None:
        self._events = events
        self._strangers = TokenBucket(_STRANGERS_RECORDED_PER_S)
        self._clock = asyncio.get_running_loop().time

    def challenge(self, session: InviteSession, refused: Refused) -> None:
        """Ask for a password: no call yet, so nothing to record."""
        session.reject(refused.code, headers=refused.headers)

    def refuse(self, session: InviteSession, refused: Refused) -> None:
        """Refuse what admission does not let in."""
        trunk = refused.trunk
        status = refused.status or CATALOGUE[refused.code].sip_status
        _reject(session, refused.code, status, refused.headers)
        if trunk is None:
            _STRANGERS.inc()
        if trunk is None or refused.code is Code.AUTHENTICATION_FAILED:
            now = self._clock()
            if not self._strangers.has_token(now):
                return
            self._strangers.take()
        arrived = CallArrived(
            trunk=trunk.name if trunk is not None else "",
            caller=refused.caller.number,
            called=refused.called[:_MAX_TEXT_CHARACTERS],
            sip_call_id=session.call_id[:_MAX_TEXT_CHARACTERS],
            source_address=session.source,
            number_list=refused.number_list,
            withheld=refused.caller.withheld,
        )
        self._record(refused.tenant, new_call_id(), arrived, refused.code, status)

    def refuse_call(self, session: InviteSession, info: CallInfo, code: Code) -> None:
        """Refuse a call that was let in, and cannot be."""
        status = CATALOGUE[code].sip_status
        _reject(session, code, status)
        self._record(info.tenant, info.call_id, arrival_of(info, session), code, status)

    def _record(
        self, tenant: TenantId, call_id: CallId, arrived: CallArrived, code: Code, status: int
    ) -> None:
        self._events.publish(tenant, arrived, call_id=call_id)
        self._events.publish(tenant, CallRefused(sip_status=status), call_id=call_id, cause=code)
        _log.debug(
            "call_refused",
            call_id=call_id,
            code=code,
            trunk=arrived.trunk,
            source=arrived.source_address,
            caller=mask_number(arrived.caller),
            called=mask_number(arrived.called),
        )


def arrival_of(info: CallInfo, session: InviteSession) -> CallArrived:
    """Return the first event of a call."""
    return CallArrived(
        trunk=info.trunk,
        caller=info.caller,
        called=info.called[:_MAX_TEXT_CHARACTERS],
        access_code=info.access_code,
        landing_code=info.landing_code,
        sip_call_id=session.call_id[:_MAX_TEXT_CHARACTERS],
        source_address=session.source,
        phone=info.phone,
        number_list=info.number_list,
        withheld=info.withheld,
    )


def _reject(
    session: InviteSession, code: Code, status: int, headers: Iterable[tuple[str, str]] = ()
) -> None:
    later = [("Retry-After", str(_RETRY_AFTER_S))] if status == 503 else []
    session.reject(code, status=status, headers=[*headers, *later])
