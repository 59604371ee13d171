"""The registrar of RFC 3261 section 10.3: who may register a phone, and where it is reached."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable
from email.utils import formatdate
from functools import partial

from cti.shared.contacts import ContactStore, ContactUpdate, Registered, StoredWay
from cti.sip.authentication.phone_auth import (
    Arrival,
    PhoneAccount,
    PhoneAuthenticator,
    PhoneDirectory,
)
from cti.sip.endpoint import ServerTransaction
from cti.sip.messages.message import Request, Response, response_to
from cti.sip.messages.syntax import quote
from cti.sip.messages.uri import SipUri
from cti.sip.registration.nat_keepalive import NatKeepAlive
from cti.sip.registration.register_request import (
    IdentitiesOf,
    Lifetimes,
    RegisterOrder,
    RouteOf,
    read_register,
)
from cti.sip.transports.transport import Hop
from domain.failures import PlatformError
from domain.ids import TenantId

__all__ = ["PhoneAccount", "PhoneDirectory", "Registrar", "RegistrarEvents"]

_FLOW_TIMER_S = 120
# The wait that a refused phone is told, so that those refused together return one by one.
_RETRY_AFTER_S = (10, 60)
_LEAST_GRANTED = 0.9


class RegistrarEvents:
    """What a registrar tells; override what is of interest."""

    def registered(self, tenant: TenantId, user: str, contact_uri: str, expires_s: int) -> None:
        """A contact was bound, or moved; its refreshes are not told."""

    def unregistered(self, tenant: TenantId, user: str, contact_uri: str) -> None:
        """A contact was removed by the phone, or with its connection; `*` stands for all."""


class Registrar:
    """Judges REGISTER requests and carries them out on a store."""

    extensions = ("path",)

    def __init__(
        self,
        *,
        authenticator: PhoneAuthenticator,
        store: ContactStore,
        events: RegistrarEvents | None = None,
        keep_alive: NatKeepAlive | None = None,
        route_of: RouteOf = lambda _hop: "",
        identities_of: IdentitiesOf = lambda _hop: frozenset(),
        default_expires_s: int = 3600,
        min_expires_s: int = 60,
        max_expires_s: int = 3600,
        max_waiting: int = 5000,
        unix_clock: Callable[[], float] = time.time,
        share: Callable[[], float] = random.random,
    ) -> None:
        self._authenticator = authenticator
        self._store = store
        self._events = events or RegistrarEvents()
        self._keep_alive = keep_alive
        self._route_of = route_of
        self._identities_of = identities_of
        self._lifetimes = Lifetimes(default_expires_s, min_expires_s, max_expires_s, self._grant)
        self._max_waiting = max_waiting
        self._unix_clock = unix_clock
        self._share = share
        self._date = (0, "")
        self._flows: dict[int, dict[str, tuple[TenantId, str, StoredWay]]] = defaultdict(dict)

    def close(self) -> None:
        """Stop keeping NAT open."""
        if self._keep_alive is not None:
            self._keep_alive.close()

    # One REGISTER

    def receive(self, server: ServerTransaction) -> None:
        """Take a REGISTER and answer it, at once or when the store has."""
        if self._store.waiting >= self._max_waiting:
            # After an outage all phones come at once; a queue would only make each answer late.
            server.respond(self._later(server.request, 503))
            return
        order = self.check(server, server.hop)
        if isinstance(order, Response):
            server.respond(order)
            return

        def on_outcome(outcome: asyncio.Future[Registered | None]) -> None:
            if not outcome.cancelled():
                server.respond(self.answer(order, outcome))

        self._store.apply(order.update).add_done_callback(on_outcome)

    def check(self, arrival: Arrival, source: Hop) -> RegisterOrder | Response:
        """Judge a REGISTER whose phone is reached at `source` (10.3 steps 1 to 7)."""
        request = arrival.request
        record, sender = request.to.uri, request.from_.uri
        if not isinstance(record, SipUri) or not record.user:
            return response_to(request, 400, "Address of record is not a SIP user")
        account = self._authenticator.judge(arrival, "REGISTER")
        if isinstance(account, Response):
            return account
        if not isinstance(sender, SipUri) or (sender.user, sender.host) != (
            record.user,
            record.host,
        ):
            return response_to(request, 403, "Third-Party Registration Refused")
        return read_register(
            request, account, source, self._lifetimes, self._route_of, self._identities_of
        )

    def answer(self, order: RegisterOrder, outcome: asyncio.Future[Registered | None]) -> Response:
        """Tell the phone what the store did (10.3 step 8)."""
        error = outcome.exception()
        if error is not None:
            status = error.failure.sip_status if isinstance(error, PlatformError) else 500
            return self._later(order.request, status)
        registered = outcome.result()
        if registered is None:
            return response_to(order.request, 500, "CSeq Out Of Order")
        self._note(order.update, registered)
        now_s = self._unix_clock()
        headers = [("Contact", each) for each in _contacts(registered, now_s)]
        headers += [("Path", each) for each in order.path]
        if order.is_outbound:
            headers.append(("Require", "outbound"))
            if order.is_direct_flow:
                headers.append(("Flow-Timer", str(_FLOW_TIMER_S)))
        # 10.3: phones set their clocks by it.
        headers.append(("Date", self._date_of(int(now_s))))
        return response_to(order.request, 200, headers=headers)

    def _later(self, request: Request, status: int) -> Response:
        soonest_s, latest_s = _RETRY_AFTER_S
        wait_s = soonest_s + round(self._share() * (latest_s - soonest_s))
        return response_to(request, status, headers=[("Retry-After", str(wait_s))])

    def _grant(self, asked_s: int) -> int:
        return round(asked_s * (_LEAST_GRANTED + (1 - _LEAST_GRANTED) * self._share()))

    def _date_of(self, now_s: int) -> str:
        if self._date[0] != now_s:
            self._date = (now_s, formatdate(now_s, usegmt=True))
        return self._date[1]

    # What registered over a connection goes with it

    def _note(self, update: ContactUpdate, registered: Registered) -> None:
        tenant, user = update.tenant, update.user
        if update.remove_all:
            self._events.unregistered(tenant, user, "*")
        for change, is_changed in zip(update.changes, registered.changed, strict=True):
            if is_changed and change.expires_s:
                self._events.registered(tenant, user, change.uri, change.expires_s)
            elif is_changed:
                self._events.unregistered(tenant, user, change.uri)
        for way in registered.bound:
            if way.edge:
                self._watch(tenant, user, way)

    def _watch(self, tenant: TenantId, user: str, way: StoredWay) -> None:
        if way.hop.transport != "udp" and not way.listens:
            self._flows[way.hop.connection][f"{user} {way.field}"] = (tenant, user, way)
        elif way.hop.transport == "udp" and self._keep_alive is not None:
            self._keep_alive.keep(way.hop, way.expires_unix_s)

    def on_connection_lost(self, connection: int) -> None:
        """Remove the ways that led over a connection, unless their phones have another already."""
        for tenant, user, way in self._flows.pop(connection, {}).values():
            self._store.drop(tenant, user, way).add_done_callback(
                partial(self._tell_dropped, tenant, user, way.uri)
            )

    def _tell_dropped(
        self, tenant: TenantId, user: str, uri: str, outcome: asyncio.Future[Registered | None]
    ) -> None:
        # While the store is away the way stays, and is found dead when it is tried.
        if not outcome.cancelled() and outcome.exception() is None:
            registered = outcome.result()
            if registered is not None and any(registered.changed):
                self._events.unregistered(tenant, user, uri)


def _contacts(registered: Registered, now_s: float) -> list[str]:
    """Return each contact URI once, and those of this request as it bound them."""
    ways = {way.contact: way for way in (*registered.ways, *registered.bound)}
    return [_contact(way, now_s) for way in ways.values()]


def _contact(way: StoredWay, now_s: float) -> str:
    text = f"<{way.uri}>;expires={max(0, round(way.expires_unix_s - now_s))}"
    if way.q != 1000:
        text += f";q={way.q / 1000:g}"
    if way.instance:
        text += f";+sip.instance={quote(f'<{way.instance}>')}"
        if way.reg_id:
            text += f";reg-id={way.reg_id}"
    return text
