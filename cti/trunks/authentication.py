"""Digest authentication of trunks that are known by a password, not by an address."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from cti.sip.authentication.digest import AuthResult, DigestServer, parse_digest
from cti.sip.messages.message import Request
from cti.trunks.trunk import Trunk
from domain.ids import TenantId

StoredPassword = Callable[[TenantId, str], Mapping[str, str] | None]
"""Gives a trunk's HA1 by algorithm (RFC 7616 3.4.2), by tenant and user."""


class TrunkAuthenticator:
    """Judges INVITEs of trunks (RFC 3261 22)."""

    def __init__(
        self,
        digest: DigestServer,
        stored: StoredPassword,
        *,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._digest = digest
        self._stored = stored
        self._unix_clock = unix_clock

    def user_of(self, request: Request) -> str:
        """Return the user that a request's credentials for our realm name, empty for none."""
        for value in request.headers.rows("Authorization"):
            credentials = parse_digest(value)
            if credentials is not None and credentials.get("realm") == self._digest.realm:
                return credentials.get("username", "")
        return ""

    def judge(self, request: Request, trunk: Trunk) -> AuthResult:
        """Judge a request as one of the trunk's."""
        return self._digest.judge(
            request.headers.rows("Authorization"),
            method=request.method,
            user=trunk.settings.user,
            stored=self._stored(trunk.tenant, trunk.settings.user),
            now=self._unix_clock(),
        )

    def challenge(self, *, stale: bool = False) -> tuple[tuple[str, str], ...]:
        """Return the headers of a 401."""
        values = self._digest.challenges(self._unix_clock(), stale=stale)
        return tuple(("WWW-Authenticate", value) for value in values)
