"""Which phones may register, and what becomes of their registrations."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cti.sip.authentication.phone_auth import PhoneAccount
from cti.sip.registration.registrar import RegistrarEvents
from cti.trunks.limits import TokenBucket
from cti95598.events.v1.events_pb2 import (
    AuthenticationFailed,
    PhoneRegistered,
    PhoneUnregistered,
)
from domain.events import EventStamp
from domain.failures import Code
from domain.ids import TenantId
from node.config import TenantSettings
from node.credentials import Credentials

# Failures are all counted by the registrar; this many a second are worth an event.
_FAILURES_TOLD_PER_S = 10
_MAX_USER_CHARACTERS = 64


class ConfiguredPhones:
    """Implements `PhoneDirectory`: the phones of all tenants, with their hashed passwords."""

    def __init__(self, tenants: Sequence[TenantSettings], credentials: Credentials) -> None:
        self.load(tenants, credentials)

    def load(self, tenants: Sequence[TenantSettings], credentials: Credentials) -> None:
        """Take over a new configuration."""
        self._credentials = credentials
        self.default_tenant = tenants[0].tenant_id
        self._tenant_of_domain = {
            tenant.sip_domain.lower(): tenant.tenant_id for tenant in tenants if tenant.sip_domain
        }
        self._tenant_of_phone = {
            phone: tenant.tenant_id
            for tenant in tenants
            if not tenant.sip_domain
            for phone in tenant.all_phones
        }

    def find(self, user: str, domain: str) -> PhoneAccount | None:
        """See PhoneDirectory; a domain that is no tenant's is common to those without one."""
        tenant = self._tenant_of_domain.get(domain.lower()) or self._tenant_of_phone.get(user)
        if tenant is None:
            return None
        ha1 = self._credentials.ha1(tenant, user)
        return None if ha1 is None else PhoneAccount(tenant, user, ha1)

    def exists(self, tenant: TenantId, user: str) -> bool:
        """Whether a user of this tenant has a phone."""
        return self._credentials.ha1(tenant, user) is not None

    def tenant_of(self, user: str) -> TenantId:
        """The tenant that an event about this user belongs to."""
        return self._tenant_of_phone.get(user, self.default_tenant)


class RegistrationEvents(RegistrarEvents):
    """Publishes what the registrar tells."""

    def __init__(self, phones: ConfiguredPhones, events: EventStamp) -> None:
        self._phones = phones
        self._events = events
        self._failures = TokenBucket(_FAILURES_TOLD_PER_S)

    def registered(self, tenant: TenantId, user: str, contact_uri: str, expires_s: int) -> None:
        """See RegistrarEvents."""
        body = PhoneRegistered(user=user, contact=contact_uri, expires_s=expires_s)
        self._events.publish(tenant, body)

    def unregistered(self, tenant: TenantId, user: str, contact_uri: str) -> None:
        """See RegistrarEvents."""
        self._events.publish(tenant, PhoneUnregistered(user=user, contact=contact_uri))

    def authentication_failed(self, source: str, user: str) -> None:
        """Tell that an address gave a wrong password, or a user that does not exist."""
        if not self._failures.has_token(asyncio.get_running_loop().time()):
            return
        self._failures.take()
        told = user[:_MAX_USER_CHARACTERS]
        body = AuthenticationFailed(protocol="register", user=told, source_address=source)
        self._events.publish(self._phones.tenant_of(user), body, cause=Code.AUTHENTICATION_FAILED)
