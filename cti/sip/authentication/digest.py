"""Digest authentication (RFC 7616 as RFC 8760 brings it to SIP), server and client side."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cti.sip.authentication.nonce import Nonces, SecretOf
from cti.sip.messages.syntax import SipSyntaxError, end_of_quoted, quote, split_outside, unquote

MD5 = "MD5"
SHA256 = "SHA-256"
_HASHES: dict[str, Callable[[bytes], str]] = {
    # MD5 is what most phones know (RFC 3261 22.4); the operator decides whether it is offered.
    MD5: lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),
    SHA256: lambda data: hashlib.sha256(data).hexdigest(),
}

_MAX_HEADER_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client authenticates with."""

    user: str
    password: str = field(repr=False)


class AuthResult(StrEnum):
    """How a server judges a request."""

    ACCEPTED = "accepted"
    MISSING = "missing"
    STALE = "stale"  # right password, old or replayed nonce; or a nonce that says nothing
    WRONG = "wrong"


def ha1(algorithm: str, user: str, realm: str, password: str) -> str:
    """Return the stored form of a password (RFC 7616 3.4.2)."""
    return _hash(algorithm, user, realm, password)


def _hash(algorithm: str, *parts: str) -> str:
    return _HASHES[algorithm](":".join(parts).encode("utf-8", "surrogateescape"))


def digest_response(
    algorithm: str,
    stored: str,
    *,
    nonce: str,
    count: str,
    cnonce: str,
    qop: str,
    method: str,
    uri: str,
) -> str:
    """Return the response value (RFC 7616 3.4.1); an empty `qop` gives the form of RFC 2069."""
    request = _hash(algorithm, method, uri)
    if not qop:
        return _hash(algorithm, stored, nonce, request)
    return _hash(algorithm, stored, nonce, count, cnonce, qop, request)


def parse_digest(value: str) -> dict[str, str] | None:
    """Return the parameters of a Digest challenge or of credentials, names in lower case.

    None for other schemes and for what breaks the grammar of RFC 3261 25.1.
    """
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() != "digest" or len(value) > _MAX_HEADER_CHARS:
        return None
    try:
        return _parameters(split_outside(rest, ","))
    except SipSyntaxError:
        return None


def _parameters(pieces: list[str]) -> dict[str, str] | None:
    parameters: dict[str, str] = {}
    for piece in pieces:
        if not piece:
            continue
        name, equals, text = piece.partition("=")
        name, text = name.strip().lower(), text.strip()
        if not equals or not name or name in parameters:
            return None
        if text[:1] == '"' and end_of_quoted(text, 0) != len(text):
            return None
        parameters[name] = unquote(text)
    return parameters


class DigestServer:
    """Challenges and judges; one object for a realm. `now` is the Unix time in seconds.

    Servers that share `secret_of` take one another's nonces.
    """

    def __init__(
        self,
        realm: str,
        *,
        algorithms: Sequence[str] = (MD5,),
        nonce_lifetime_s: float = 7200.0,
        secret_of: SecretOf | None = None,
        max_nonces: int = 100_000,
    ) -> None:
        self.realm = realm
        self._algorithms = tuple(algorithms)
        local = os.urandom(32)
        self.nonces = Nonces(
            secret_of or (lambda _day: local), lifetime_s=nonce_lifetime_s, most=max_nonces
        )
        self._nobody = {each: os.urandom(16).hex() for each in self._algorithms}

    def challenges(self, now: float, *, stale: bool = False, source: str = "") -> list[str]:
        """Return the values for WWW-Authenticate, one an algorithm, the preferred one first.

        With `source`, the challenged address, credentials are good from there only.
        """
        nonce = self.nonces.new(now, source)
        end = ", stale=true" if stale else ""
        return [
            f'Digest realm={quote(self.realm)}, nonce="{nonce}", algorithm={each}, qop="auth"{end}'
            for each in self._algorithms
        ]

    def judge(
        self,
        values: Sequence[str],
        *,
        method: str,
        user: str,
        stored: Mapping[str, str] | None,
        now: float,
        source: str = "",
    ) -> AuthResult:
        """Judge the Authorization values of a request that `user` alone may send.

        Credentials for a nonce that was not made for `source` are not looked at: they cannot be
        right, and tell nothing of who sent them. `stored` holds the user's HA1 by algorithm, None
        for a user who does not exist; both take the same way, so that neither answer nor time
        tells them apart.
        """
        for value in values:
            credentials = parse_digest(value)
            if credentials is not None and credentials.get("realm") == self.realm:
                return self._judge(credentials, method, user, stored, now, source)
        return AuthResult.MISSING

    def _judge(
        self,
        credentials: Mapping[str, str],
        method: str,
        user: str,
        stored: Mapping[str, str] | None,
        now: float,
        source: str,
    ) -> AuthResult:
        nonce = self.nonces.read(credentials.get("nonce", ""), source)
        if nonce is None:
            return AuthResult.STALE
        algorithm = _offered(credentials.get("algorithm", MD5), self._algorithms)
        count = _nonce_count(credentials.get("nc", ""))
        if algorithm is None or count is None or credentials.get("qop") != "auth":
            return AuthResult.WRONG
        expected = digest_response(
            algorithm,
            (stored or self._nobody).get(algorithm) or self._nobody[algorithm],
            nonce=nonce.text,
            count=credentials["nc"],
            cnonce=credentials.get("cnonce", ""),
            qop="auth",
            method=method,
            uri=credentials.get("uri", ""),
        )
        same = hmac.compare_digest(
            expected.encode(), credentials.get("response", "").lower().encode("utf-8", "replace")
        )
        if not same or stored is None or credentials.get("username") != user:
            return AuthResult.WRONG
        return AuthResult.ACCEPTED if self.nonces.take(nonce, count, now) else AuthResult.STALE


def authorization(
    challenges: Sequence[str], *, method: str, uri: str, credentials: Credentials
) -> str | None:
    """Answer the first challenge that we can (RFC 8760 2.4); None when there is none."""
    for value in challenges:
        challenge = parse_digest(value)
        if challenge is None or "nonce" not in challenge:
            continue
        algorithm = _offered(challenge.get("algorithm", MD5), tuple(_HASHES))
        offered_qops = [each.strip().lower() for each in challenge.get("qop", "").split(",")]
        if algorithm is None or not {"", "auth"}.intersection(offered_qops):
            continue
        qop = "auth" if "auth" in offered_qops else ""
        return _credentials_value(challenge, algorithm, qop, method, uri, credentials)
    return None


def _credentials_value(
    challenge: Mapping[str, str],
    algorithm: str,
    qop: str,
    method: str,
    uri: str,
    credentials: Credentials,
) -> str:
    realm, nonce = challenge.get("realm", ""), challenge["nonce"]
    # Each challenge is answered once, so the count is always the first (RFC 7616 3.4).
    count, cnonce = "00000001", os.urandom(8).hex()
    response = digest_response(
        algorithm,
        ha1(algorithm, credentials.user, realm, credentials.password),
        nonce=nonce,
        count=count,
        cnonce=cnonce,
        qop=qop,
        method=method,
        uri=uri,
    )
    value = (
        f"Digest username={quote(credentials.user)}, realm={quote(realm)}, nonce={quote(nonce)}, "
        f'uri={quote(uri)}, response="{response}", algorithm={algorithm}'
    )
    if qop:
        value += f', qop={qop}, nc={count}, cnonce="{cnonce}"'
    if "opaque" in challenge:
        value += f", opaque={quote(challenge['opaque'])}"
    return value


def _offered(algorithm: str, among: Sequence[str]) -> str | None:
    """Return the catalogue's spelling of an algorithm, None when it is not among those."""
    return next((each for each in among if each.lower() == algorithm.lower()), None)


def _nonce_count(text: str) -> int | None:
    if len(text) != 8:
        return None
    try:
        return int(text, 16)
    except ValueError:
        return None
