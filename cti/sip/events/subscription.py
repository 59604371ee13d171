"""Subscriptions of phones to events: SUBSCRIBE, and the NOTIFYs it brings (RFC 6665 4.2)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from cti.sip.authentication.phone_auth import PhoneAccount, PhoneAuthenticator
from cti.sip.endpoint import ServerTransaction
from cti.sip.events.event_package import EventPackage, Resource
from cti.sip.events.notifier import Notifier
from cti.sip.messages.message import Request, Response, new_tag, response_to
from cti.sip.messages.uri import SipUri
from cti.sip.metrics import SUBSCRIPTIONS
from cti.sip.sessions.dialog import Dialog
from cti.sip.user_agent import UserAgent
from domain.ids import TenantId

_RETRY_AFTER_S = 30
_ASKED_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class SubscriptionLimits:
    """What subscriptions may cost."""

    total: int = 50_000
    per_user: int = 200
    """A phone with lamps has one a lamp, and leaves them behind when it loses power."""
    min_expires_s: int = 60
    max_expires_s: int = 3600
    interval_s: float = 1.0
    """Between two NOTIFYs that nobody asked for."""


@dataclass(frozen=True, slots=True)
class _Event:
    """An Event header (8.4)."""

    package: str
    id: str

    @classmethod
    def of(cls, request: Request) -> _Event:
        name, *params = (request.headers.get("Event") or "").split(";")
        ids = [each.strip()[3:] for each in params if each.strip().lower().startswith("id=")]
        return cls(name.strip().lower(), ids[0] if ids else "")

    def __str__(self) -> str:
        return f"{self.package};id={self.id}" if self.id else self.package


@dataclass(slots=True)
class _Subscription:
    account: PhoneAccount
    resource: Resource
    event: _Event
    dialog: Dialog
    notifier: Notifier

    @property
    def owner(self) -> tuple[TenantId, str]:
        return self.account.tenant, self.account.user

    @property
    def watched(self) -> tuple[str, TenantId, str]:
        return self.event.package, self.resource.tenant, self.resource.user


class SubscriptionService:
    """Serves SUBSCRIBE outside of calls, for phones of ours only.

    Everything is in memory: what `aclose` ends, phones subscribe to again at another node.
    """

    def __init__(
        self,
        user_agent: UserAgent,
        *,
        phones: PhoneAuthenticator,
        packages: Sequence[EventPackage],
        limits: SubscriptionLimits | None = None,
    ) -> None:
        self._user_agent = user_agent
        self._phones = phones
        self._packages = {each.name: each for each in packages}
        self._limits = limits or SubscriptionLimits()
        self._subscriptions: dict[tuple[str, str], _Subscription] = {}
        self._watchers: dict[tuple[str, TenantId, str], list[_Subscription]] = {}
        self._of_owner: Counter[tuple[TenantId, str]] = Counter()
        self._drained = asyncio.Event()
        self._closing = False
        for package in packages:
            package.watch(partial(self._changed, package.name))
        user_agent.serve(
            "SUBSCRIBE", out_of_dialog=self._receive, event_packages=tuple(self._packages)
        )

    @property
    def count(self) -> int:
        """Subscriptions that are live, or wait for the end of their last NOTIFY but one."""
        return len(self._subscriptions)

    async def aclose(self, within_s: float = 2.0) -> None:
        """End all subscriptions, so that phones subscribe elsewhere (4.4.1: deactivated)."""
        self._closing = True
        for each in list(self._subscriptions.values()):
            each.notifier.end("deactivated")
        if self._subscriptions:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), within_s)

    def _changed(self, package: str, tenant: TenantId, user: str) -> None:
        for each in tuple(self._watchers.get((package, tenant, user), ())):
            each.notifier.changed()

    # Requests

    def _receive(self, server: ServerTransaction) -> None:
        request = server.request
        event = _Event.of(request)
        package = self._packages.get(event.package)
        if package is None:
            headers = [("Allow-Events", each) for each in self._packages]
            server.respond(response_to(request, 489, headers=headers))
            return
        expires_s = self._granted_s(request, package)
        if isinstance(expires_s, Response):
            server.respond(expires_s)
            return
        account = self._phones.judge(server, request.method)
        if isinstance(account, Response):
            server.respond(account)
        elif request.to.tag is None:
            self._subscribe(server, account, event, package, expires_s)
        else:
            self._resubscribe(server, account, event, expires_s)

    def _granted_s(self, request: Request, package: EventPackage) -> int | Response:
        """Return how long the subscription may last (4.2.1.1), or what refuses it."""
        text = request.headers.get("Expires")
        if text is None:
            return package.default_expires_s
        text = text.strip()
        if not (text.isascii() and text.isdigit() and len(text) <= 10):
            return response_to(request, 400, "Malformed Expires")
        if 0 < int(text) < self._limits.min_expires_s:
            headers = [("Min-Expires", str(self._limits.min_expires_s))]
            return response_to(request, 423, headers=headers)
        return min(int(text), self._limits.max_expires_s)

    def _subscribe(
        self,
        server: ServerTransaction,
        account: PhoneAccount,
        event: _Event,
        package: EventPackage,
        expires_s: int,
    ) -> None:
        request = server.request
        resource = _resource(request, account)
        refusal = self._refusal(request, account, package, resource)
        if refusal is not None or resource is None:
            server.respond(refusal or response_to(request, 404))
            return
        tag = new_tag()
        contact = self._user_agent.contact(server.hop)
        dialog = Dialog.of_server(request, server.hop, local_tag=tag, contact=contact)
        dialog.stays = True  # a phone must not have us notify others (RFC 6665 6.3)
        notifier = Notifier(
            self._user_agent.endpoint,
            dialog,
            event=str(event),
            content_type=package.content_type,
            state=partial(package.state, resource),
            on_over=partial(self._forget, dialog.call_id, tag),
            interval_s=self._limits.interval_s,
        )
        if expires_s:
            self._ask_whether_alive(account, event, resource, dialog)
            self._remember(_Subscription(account, resource, event, dialog, notifier))
        _confirm(server, dialog, notifier, expires_s)

    def _refusal(
        self,
        request: Request,
        account: PhoneAccount,
        package: EventPackage,
        resource: Resource | None,
    ) -> Response | None:
        if not _accepts(request, package.content_type):
            return response_to(request, 406)
        if resource is None or not package.admits(account, resource):
            return response_to(request, 403)
        if package.state(resource, 0) is None:
            return response_to(request, 404)
        full = (
            self._closing
            or len(self._subscriptions) >= self._limits.total
            or self._of_owner[account.tenant, account.user] >= self._limits.per_user
        )
        if full:
            headers = [("Retry-After", str(_RETRY_AFTER_S))]
            return response_to(request, 503, headers=headers)
        return None

    def _ask_whether_alive(
        self, account: PhoneAccount, event: _Event, resource: Resource, dialog: Dialog
    ) -> None:
        """Tell the state to the oldest subscriptions of the same phone to the same.

        One that has lost its power has forgotten them: it answers 481, and they are gone.
        """
        watched = event.package, resource.tenant, resource.user
        older = [
            each
            for each in self._watchers.get(watched, ())
            if each.owner == (account.tenant, account.user) and each.dialog.target == dialog.target
        ]
        for each in older[:_ASKED_AT_ONCE]:
            each.notifier.changed()

    def _resubscribe(
        self, server: ServerTransaction, account: PhoneAccount, event: _Event, expires_s: int
    ) -> None:
        request = server.request
        found = self._subscriptions.get((request.call_id, request.to.tag or ""))
        if (
            found is None
            or found.owner != (account.tenant, account.user)
            or found.event != event
            or found.dialog.remote_tag != (request.from_.tag or "")
        ):
            server.respond(response_to(request, 481))
        elif not found.dialog.accepts(request.cseq[0]):
            server.respond(response_to(request, 500))
        else:
            found.dialog.refresh_target(request)
            found.dialog.hop = server.hop  # the way through NAT may be another by now
            _confirm(server, found.dialog, found.notifier, expires_s)

    # Tables

    def _remember(self, subscription: _Subscription) -> None:
        dialog = subscription.dialog
        self._subscriptions[dialog.call_id, dialog.local_tag] = subscription
        self._watchers.setdefault(subscription.watched, []).append(subscription)
        self._of_owner[subscription.owner] += 1
        self._drained.clear()
        SUBSCRIPTIONS.labels(subscription.event.package).inc()

    def _forget(self, call_id: str, tag: str) -> None:
        subscription = self._subscriptions.pop((call_id, tag), None)
        if subscription is None:
            return  # the state was fetched once, without a subscription
        watchers = self._watchers[subscription.watched]
        watchers.remove(subscription)
        if not watchers:
            del self._watchers[subscription.watched]
        self._of_owner[subscription.owner] -= 1
        if not self._of_owner[subscription.owner]:
            del self._of_owner[subscription.owner]
        SUBSCRIPTIONS.labels(subscription.event.package).dec()
        if not self._subscriptions:
            self._drained.set()


def _confirm(server: ServerTransaction, dialog: Dialog, notifier: Notifier, expires_s: int) -> None:
    """Answer 200; a NOTIFY follows in any case (4.2.1.2)."""
    routes = [("Record-Route", each) for each in server.request.headers.rows("Record-Route")]
    headers = [*routes, ("Contact", dialog.contact), ("Expires", str(expires_s))]
    server.respond(response_to(server.request, 200, to_tag=dialog.local_tag, headers=headers))
    if expires_s:
        notifier.activate(expires_s)
    else:
        notifier.end("timeout")


def _resource(request: Request, account: PhoneAccount) -> Resource | None:
    """Return what the Request-URI names; one without a user means the phone's own."""
    target = request.target
    if not isinstance(target, SipUri):
        return None
    return Resource(account.tenant, target.user or account.user, target.host)


def _accepts(request: Request, content_type: str) -> bool:
    """Whether the subscriber takes the package's body; without Accept it does (8.2.1)."""
    ranges = [each.partition(";")[0].strip().lower() for each in request.headers.get_all("Accept")]
    kind = content_type.partition("/")[0]
    return not ranges or not {content_type, f"{kind}/*", "*/*"}.isdisjoint(ranges)
