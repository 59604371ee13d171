"""The ways that lead to whom a call dials: contacts of a phone, or trunks to an outside number."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from cti.call import CallInfo, DialError, DialTarget, ProgressingLeg, RingingLeg
from cti.calls.call_context import CallContext
from cti.calls.fork import PhoneWay, TrunkWay, Way
from cti.calls.leg import OutgoingLeg
from cti.identity import parse_user_to_user, user_to_user_header
from cti.media import Answer, Signal
from cti.shared.contacts import Binding
from cti.sip.messages.message import Request
from cti.sip.messages.uri import NameAddr, SipUri
from cti95598.events.v1.events_pb2 import LegEnded, LegStarted
from domain.failures import CATALOGUE, Code, PlatformError
from domain.ids import LegId, TenantId, time_ordered_id

_MOST_HOPS = 70  # RFC 3261 8.1.1.6
_ANONYMOUS = NameAddr(SipUri(user="anonymous", host="anonymous.invalid"), "Anonymous")


def hops_left(request: Request) -> int:
    """Return the Max-Forwards for calls placed on behalf of this one: loops end (RFC 7332)."""
    text = request.headers.first_row("Max-Forwards") or ""
    hops = int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else _MOST_HOPS
    return max(0, min(hops, _MOST_HOPS) - 1)


async def branches_to(
    context: CallContext, info: CallInfo, target: DialTarget, max_forwards: int
) -> list[Sequence[Way]]:
    """Return what is rung at once, each with its ways in order; DialError for nothing."""
    if info.withheld and target.caller_number == info.caller:
        target = replace(target, withheld=True)
    try:
        if target.outside:
            return [await _over_trunks(context, info.tenant, target, max_forwards)]
        bindings = await _bindings(context, info.tenant, target.user)
    except PlatformError as error:
        raise _not_dialled(context, info, target, error) from error
    return [_to_contact(context, target, binding, max_forwards) for binding in bindings]


async def _bindings(context: CallContext, tenant: TenantId, user: str) -> list[Binding]:
    bindings = await context.contacts.lookup(tenant, user)
    if not bindings:
        raise PlatformError(Code.PHONE_NOT_REGISTERED, "no contact is known")
    return bindings


async def ring(
    leg: OutgoingLeg,
    *,
    timeout_ms: int,
    on_ringing: Callable[[RingingLeg], None] | None,
    on_progress: Callable[[ProgressingLeg], None] | None,
    on_heard: Callable[[Signal | Answer], None] | None = None,
) -> OutgoingLeg:
    """Ring all branches and return the leg when somebody has answered; DialError when nobody."""
    if on_progress is not None:
        leg.on_progress = partial(on_progress, leg)
    if on_heard is not None:
        leg.listen(on_heard)
    try:
        leg.ring()
        if on_ringing is not None:
            on_ringing(leg)
        await leg.answered(timeout_ms)
    except asyncio.CancelledError:
        leg.hang_up(Code.CALLER_ABANDONED)
        raise
    except Exception:
        leg.hang_up(Code.INTERNAL)  # no news to a leg that failed by itself
        raise
    return leg


def _not_dialled(
    context: CallContext, info: CallInfo, target: DialTarget, error: PlatformError
) -> DialError:
    """Leave a record of a leg that nobody was rung for."""
    leg, status = LegId(time_ordered_id()), CATALOGUE[error.code].sip_status
    for body, cause in (
        (LegStarted(leg=leg, target=target.user, purpose=target.purpose), None),
        (LegEnded(leg=leg, sip_status=status), error.code),
    ):
        context.events.publish(info.tenant, body, call_id=info.call_id, cause=cause)
    return DialError(error.code, status, error.detail)


def _to_contact(
    context: CallContext, target: DialTarget, binding: Binding, max_forwards: int
) -> list[Way]:
    """Nothing of the caller's own dialog goes out with it."""
    domain = context.domain
    from_ = _ANONYMOUS
    if not target.withheld:
        name = "".join(filter(str.isprintable, target.caller_name)) or target.caller_number
        from_ = NameAddr(SipUri(user=target.caller_number, host=domain), name)
    to = NameAddr(SipUri(user=target.user, host=domain))
    headers: list[tuple[str, str]] = []
    if target.auto_answer:
        # RFC 5373, and the older habit that most desk phones know.
        headers = [("Answer-Mode", "Auto"), ("Call-Info", f"<sip:{domain}>;answer-after=0")]
    passed = parse_user_to_user(target.user_to_user)
    if passed is not None:
        headers.append(user_to_user_header(passed))
    if target.subject:
        headers.append(("Subject", target.subject))
    return [
        PhoneWay(context.user_agent, way, from_, to, headers, max_forwards) for way in binding.ways
    ]


async def _over_trunks(
    context: CallContext, tenant: TenantId, target: DialTarget, max_forwards: int
) -> list[Way]:
    trunks = context.outbound
    if trunks is None:
        raise PlatformError(Code.TRANSFER_TARGET_UNKNOWN, "no trunk leads outside")
    attempts = await trunks.attempts(
        tenant,
        target.user,
        caller=target.caller_number,
        privacy=target.withheld,
        user_to_user=parse_user_to_user(target.user_to_user),
    )
    clock = asyncio.get_running_loop().time
    return [
        TrunkWay(context.user_agent, trunks, attempt, clock, max_forwards) for attempt in attempts
    ]
