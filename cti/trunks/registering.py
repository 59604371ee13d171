"""Keeps our registrations with carriers: one task a trunk and registrar."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

import structlog

from cti.sip.authentication.digest import Credentials
from cti.sip.client_requests import Granted, RegistrationError, Registrations
from cti.sip.endpoint import SipEndpoint
from cti.sip.messages.uri import NameAddr, SipUri
from cti.sip.transports.transport import Hop, transport_params
from cti.trunks.registration import Registration, RegistrationState
from cti.trunks.target import Target, proxy_route
from cti.trunks.trunk import Trunk
from domain.failures import Code, PlatformError
from domain.ids import TenantId

_log = structlog.get_logger(__name__)

_UNREGISTER_WITHIN_S = 2.0

Locate = Callable[[SipUri], Awaitable[list[Hop]]]
PasswordOf = Callable[[TenantId, str], str | None]


@dataclass(frozen=True, slots=True)
class _Account:
    """What a registration depends on; when any of it changes it is made anew."""

    tenant: TenantId
    trunk: str
    target: Target
    aor: str
    contact_user: str
    expires_s: int
    auth_user: str
    password: str | None

    @property
    def registrar(self) -> str:
        """The registrar's URI."""
        return self.target.server


class CarrierRegistrations:
    """All registrations that this node keeps at carriers."""

    def __init__(
        self,
        endpoint: SipEndpoint,
        locate: Locate,
        password_of: PasswordOf,
        *,
        first_wait_s: float | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._registrations = Registrations(endpoint)
        self._locate = locate
        self._password_of = password_of
        self._options = {} if first_wait_s is None else {"first_wait_s": first_wait_s}
        self._clock = asyncio.get_running_loop().time
        self._running: dict[_Account, tuple[Registration, asyncio.Task[None]]] = {}
        self._hops: dict[_Account, Hop] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self.on_located: Callable[[str, str, Iterable[str]], None] = _nobody_listens
        """Told a contact user, the registrar it is registered with, and the addresses of that."""
        self.on_service_route: Callable[[TenantId, str, str, tuple[str, ...]], None] = _unrouted
        """Told tenant, trunk and registrar when what calls over them have to pass has changed."""

    def keep(self, trunks: Iterable[Trunk]) -> None:
        """Keep the registrations of these trunks and no others."""
        wanted = {account for trunk in trunks for account in self._accounts(trunk)}
        for account in [one for one in self._running if one not in wanted]:
            self._leave(account)
            self.on_service_route(account.tenant, account.trunk, account.registrar, ())
        now = self._clock()
        for account in wanted:
            if account not in self._running:
                registration = Registration(account.expires_s, now, random.random, **self._options)
                task = asyncio.create_task(
                    self._keep(account, registration), name=f"register {account.trunk}"
                )
                self._running[account] = (registration, task)

    def by_trunk(self) -> dict[tuple[TenantId, str], list[tuple[str, Registration]]]:
        """Return registrars and registrations by tenant and trunk."""
        found: dict[tuple[TenantId, str], list[tuple[str, Registration]]] = defaultdict(list)
        for account, (registration, _) in self._running.items():
            found[account.tenant, account.trunk].append((account.registrar, registration))
        return found

    async def aclose(self) -> None:
        """Take our bindings away, where the registrars still answer, and stop."""
        for account in list(self._running):
            self._leave(account)
        await asyncio.gather(*self._leaving, return_exceptions=True)

    def _accounts(self, trunk: Trunk) -> Iterable[_Account]:
        settings = trunk.settings
        if settings.register_ is None:
            return
        own = settings.register_
        for registrar in own.registrars or settings.server:
            domain = own.domain or SipUri.parse(registrar).host
            yield _Account(
                tenant=trunk.tenant,
                trunk=trunk.name,
                target=Target(registrar, proxy_route(settings.outbound_proxy)),
                aor=str(SipUri(user=own.user, host=domain)),
                contact_user=trunk.contact_user,
                expires_s=own.expires_s,
                auth_user=settings.auth_user or own.user,
                password=self._password_of(trunk.tenant, trunk.name),
            )

    async def _keep(self, account: _Account, registration: Registration) -> None:
        while True:
            await asyncio.sleep(max(0.0, registration.next_attempt_s - self._clock()))
            before, route = registration.state(self._clock()), registration.service_route
            await self._try(account, registration)
            if registration.service_route != route:
                self.on_service_route(
                    account.tenant, account.trunk, account.registrar, registration.service_route
                )
            after = registration.state(self._clock())
            if after is not before:
                _log.info(
                    "trunk_registration",
                    tenant=account.tenant,
                    trunk=account.trunk,
                    state=after,
                    reason=registration.last_failure,
                )

    async def _try(self, account: _Account, registration: Registration) -> None:
        try:
            granted = await self._register(account)
        except RegistrationError as refused:
            wait_s = refused.retry_after_s
            registration.failed(refused.code, refused.detail, self._clock(), retry_after_s=wait_s)
        except PlatformError as error:
            registration.failed(error.code, error.detail, self._clock())
        except ValueError as error:
            registration.failed(Code.CONFIG_INVALID, str(error), self._clock())
        else:
            registration.granted(
                granted.expires_s, self._clock(), service_route=granted.service_route
            )

    async def _register(self, account: _Account) -> Granted:
        """Register at the first address that takes us; PlatformError of the last that does not."""
        hops = await self._locate(account.target.next_hop)
        self.on_located(account.contact_user, account.registrar, {hop.host for hop in hops})
        known = self._hops.get(account)
        if known in hops:  # the binding is refreshed where it is
            hops = [known, *(hop for hop in hops if hop != known)]
        failure = PlatformError(Code.SIP_TRANSPORT, "the registrar has no address")
        for hop in hops:
            try:
                granted = await self._send(account, hop, account.expires_s)
            except PlatformError as error:
                if error.code is Code.AUTHENTICATION_FAILED:
                    raise
                failure = error
            else:
                self._hops[account] = hop
                return granted
        raise failure

    async def _send(self, account: _Account, hop: Hop, expires_s: int) -> Granted:
        host, port = self._endpoint.local_address(hop.transport, hop)
        contact = SipUri(
            user=account.contact_user,
            host=host,
            port=port,
            params=transport_params(hop.transport),
        )
        # 10.2: the Request-URI names the domain alone.
        registrar = replace(SipUri.parse(account.registrar), user="", password=None)
        password = account.password
        return await self._registrations.register(
            registrar_uri=str(registrar),
            aor=NameAddr(account.aor),
            contact=f"<{contact}>",
            hop=hop,
            credentials=None if password is None else Credentials(account.auth_user, password),
            expires_s=expires_s,
            route=account.target.route,
        )

    def _leave(self, account: _Account) -> None:
        registration, task = self._running.pop(account)
        task.cancel()
        is_bound = registration.state(self._clock()) is RegistrationState.REGISTERED
        hop = self._hops.pop(account, None)
        if is_bound and hop is not None:
            leaving = asyncio.create_task(self._unregister(account, hop))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    async def _unregister(self, account: _Account, hop: Hop) -> None:
        # The carrier forgets the binding in the end, whatever becomes of this.
        with contextlib.suppress(PlatformError, TimeoutError):
            async with asyncio.timeout(_UNREGISTER_WITHIN_S):
                await self._send(account, hop, 0)


def _nobody_listens(_user: str, _registrar: str, _hosts: Iterable[str]) -> None:
    """Take news that nobody asked for."""


def _unrouted(_tenant: TenantId, _trunk: str, _registrar: str, _route: tuple[str, ...]) -> None:
    """Take news that nobody asked for."""
