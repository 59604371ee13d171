"""Programs that use the platform: clients of a tenant, with a token and rights of their own."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from domain.failures import Code, PlatformError
from domain.ids import TenantId
from routing.settings import Id


class Right(StrEnum):
    """What a client may do."""

    AUDIO_LIVE = "audio.live"
    """Hear the tenant's calls while they go on."""


class ClientSettings(BaseModel):
    """One client of a tenant. The token is kept with the secrets, not here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Id
    rights: frozenset[Right] = frozenset()


class Tokens(Protocol):
    """The part of `node.credentials.Credentials` that is needed here."""

    def client(self, token: str) -> tuple[TenantId, str] | None:
        """Return the tenant and the id of the client that has this token."""


ClientOf = Callable[[TenantId, str], ClientSettings | None]
"""Finds a client in the present configuration."""


class Clients:
    """Tells what a token allows, by the present configuration."""

    def __init__(self, tokens: Callable[[], Tokens], client_of: ClientOf) -> None:
        self._tokens = tokens
        self._client_of = client_of

    def authorized(self, token: str, right: Right) -> tuple[TenantId, str]:
        """Return tenant and id of a client; PlatformError TOKEN_INVALID or RIGHT_MISSING."""
        found = self._tokens().client(token)
        client = self._client_of(*found) if found is not None else None
        if found is None or client is None:
            raise PlatformError(Code.TOKEN_INVALID)
        if right not in client.rights:
            raise PlatformError(Code.RIGHT_MISSING, right)
        return found
