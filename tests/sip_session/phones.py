"""Phones with passwords, and raw peers that show them."""

from __future__ import annotations

from collections.abc import Iterable

from cti.sip.authentication.digest import MD5, Credentials, DigestServer, authorization, ha1
from cti.sip.authentication.phone_auth import PhoneAccount, PhoneAuthenticator
from cti.sip.messages.message import Request, Response
from cti.sip.transactions.timers import Timers
from domain.ids import TenantId
from tests.sip_session.peer import RawPeer

TENANT, OTHER_TENANT = TenantId("demo"), TenantId("other")
REALM = "phones"
PASSWORD = "password"
USERS = ("1001", "1002", "1003")
QUICK = Timers(t1_s=0.005, t2_s=0.02, t4_s=0.02, trying_s=0.2)
"""For tests that wait until the last transaction has ended."""


class Directory:
    """Three phones of each of two tenants."""

    def find(self, user: str, domain: str) -> PhoneAccount | None:
        if user not in USERS:
            return None
        tenant = OTHER_TENANT if domain == "other.example" else TENANT
        return PhoneAccount(tenant, user, {MD5: ha1(MD5, user, REALM, PASSWORD)})


def authenticator() -> PhoneAuthenticator:
    return PhoneAuthenticator(Directory(), DigestServer(REALM))


class PhonePeer(RawPeer):
    """A raw peer that is user 1001, or another, and meets challenges."""

    user = "1001"
    domain = "127.0.0.1"
    password = PASSWORD
    is_behind_nat = False

    @property
    def contact(self) -> str:
        return "<sip:raw@192.168.1.9:5060>" if self.is_behind_nat else super().contact

    def request(
        self, method: str, *, headers: Iterable[tuple[str, str]] = (), **options: object
    ) -> Request:
        request = super().request(method, headers=headers, **options)  # type: ignore[arg-type]
        if "From" not in dict(headers):
            request.headers.set("From", f"<sip:{self.user}@{self.domain}>;tag={self.tag}")
        if "Contact" not in dict(headers):
            request.headers.set("Contact", self.contact)
        if self.is_behind_nat:
            via = f"SIP/2.0/UDP 192.168.1.9:5060;branch={request.top_via.branch};rport"
            request.headers.set("Via", via)
        return request

    async def asked(self, method: str, **options: object) -> Response:
        """Ask with credentials; return the final response."""
        self.ask(method, **options)
        challenged = await self.next()
        assert isinstance(challenged, Response), challenged
        if challenged.status != 401:
            return challenged
        again = self.request(method, **options)  # type: ignore[arg-type]
        value = authorization(
            challenged.headers.get_all("WWW-Authenticate"),
            method=method,
            uri=again.uri,
            credentials=Credentials(self.user, self.password),
        )
        assert value is not None
        again.headers.set("Authorization", value)
        self.send(again)
        response = await self.next()
        assert isinstance(response, Response), response
        return response
