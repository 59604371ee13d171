"""Passwords of agents, phones, trunks and programs, in a private file of the data directory.

Agents' passwords are kept as scrypt hashes (RFC 7914). Phones authenticate by SIP digest, whose
server needs H(user:realm:password) (RFC 7616 section 3.4.2), so that is what is kept for them, and
for trunks that send to us by digest. The password by which a carrier knows us has to be said to
it, for a realm that it names then: that one alone is kept as it is. Tokens of programs are random
256 bits, which nobody guesses: SHA-256 of them is kept.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import structlog
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cti.settings import TrunkSettings
from domain.failures import Code, PlatformError
from domain.ids import TenantId
from node.config import PlatformSettings
from node.data_directory import write_private

log = structlog.get_logger(__name__)

_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 1
_SALT_BYTES = 16
_PASSWORD_CHARACTERS = 16
_TOKEN_BYTES = 32
# Letters and digits that are not taken for one another when they are typed from a screen.
_ALPHABET = "abcdefghijkmnpqrstuvwxyzACDEFGHJKLMNPQRSTUVWXYZ2345679"
_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO

Ha1 = Mapping[str, str]
"""Digest algorithm, as in RFC 7616, to the hex digits of A1's hash."""


class _TenantSecrets(BaseModel):
    model_config = ConfigDict(extra="forbid")

    agents: dict[str, str] = {}
    phones: dict[str, dict[str, str]] = {}
    trunks: dict[str, dict[str, str]] = {}
    """HA1 of trunks that send to us, by user."""
    carriers: dict[str, str] = {}
    """Our passwords at carriers, by trunk."""
    clients: dict[str, str] = {}
    """SHA-256 of programs' tokens, by client."""


class _Secrets(BaseModel):
    model_config = ConfigDict(extra="forbid")

    realm: str
    tenants: dict[str, _TenantSecrets] = {}
    media_token: str = ""
    """By which a media process on another machine knows this node."""


@dataclass(frozen=True, slots=True)
class PlainPasswords:
    """Passwords as people type them, by tenant and then by agent, phone or client."""

    agents: Mapping[str, Mapping[str, str]]
    phones: Mapping[str, Mapping[str, str]]
    clients: Mapping[str, Mapping[str, str]]
    """Tokens of programs."""


class Credentials:
    """What the platform checks passwords against."""

    def __init__(self, secrets_of: _Secrets) -> None:
        self._tenants = secrets_of.tenants
        self.media_token = secrets_of.media_token
        """By which a media process knows this node; empty where it needs none."""
        self._clients = {
            stored: (TenantId(tenant), client)
            for tenant, hashes in secrets_of.tenants.items()
            for client, stored in hashes.clients.items()
        }

    @classmethod
    def load(cls, path: Path, realm: str) -> Credentials:
        """Read the file; refuses one that others can read, or of another realm."""
        return cls(_load(path, realm))

    def verify_agent(self, tenant: str, agent: str, password: str) -> bool:
        """Check a password. Takes some 40 ms of CPU, known agent or not: call it in a thread."""
        of_tenant = self._tenants.get(tenant)
        stored = of_tenant.agents.get(agent) if of_tenant else None
        known = stored is not None
        return _scrypt_matches(stored if stored is not None else _decoy(), password) and known

    def ha1(self, tenant: str, phone: str) -> Ha1 | None:
        """Return a phone's hashes by digest algorithm, None for an unknown phone."""
        of_tenant = self._tenants.get(tenant)
        return of_tenant.phones.get(phone) if of_tenant else None

    def trunk_ha1(self, tenant: str, user: str) -> Ha1 | None:
        """Return the hashes of a trunk's user by digest algorithm, None for an unknown one."""
        of_tenant = self._tenants.get(tenant)
        return of_tenant.trunks.get(user) if of_tenant else None

    def client(self, token: str) -> tuple[TenantId, str] | None:
        """Return the tenant and the id of the client that has this token."""
        return self._clients.get(_token_hash(token))

    def carrier_password(self, tenant: str, trunk: str) -> str | None:
        """Return the password by which a trunk's carrier knows us."""
        of_tenant = self._tenants.get(tenant)
        return of_tenant.carriers.get(trunk) if of_tenant else None


def ensure_credentials(
    settings: PlatformSettings, secrets_path: Path, plain_path: Path
) -> Credentials:
    """Make random passwords for agents and phones that have none yet, then load all.

    The plain ones are appended to `plain_path` for whoever hands them out; it may be deleted.
    """
    realm = settings.sip.realm
    known = _Secrets(realm=realm)
    plain: dict[str, dict[str, dict[str, str]]] = {}
    if secrets_path.exists():
        known = _load(secrets_path, realm)
    # A file without passwords too, for a configuration without agents: the next start reads it.
    if _add_missing(settings, known, plain) or not secrets_path.exists():
        if plain_path.exists():
            plain = _joined(_plain_document(plain_path), plain)
        heading = "# Made by the first start. People and the demo read it; the platform does not.\n"
        write_private(plain_path, heading + _dump({"tenants": plain}))
        _write(secrets_path, known)
        log.info("passwords were made", file=str(plain_path))
    return Credentials(known)


def _load(path: Path, realm: str) -> _Secrets:
    document = _read_private(path)
    try:
        loaded = _Secrets.model_validate(document)
    except ValidationError as error:
        # Its text would quote values; the places are enough.
        places = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
        raise _refused(path, f"wrong fields: {places}", "restore it from a copy") from None
    if loaded.realm != realm:
        raise _refused(
            path,
            f"its hashes are of the realm {loaded.realm!r}, the configuration says {realm!r}",
            "correct sip.realm, or move the file away for new passwords",
        )
    return loaded


def set_trunk_password(
    secrets_path: Path, realm: str, tenant: str, trunk: TrunkSettings, password: str
) -> None:
    """Keep the password that a carrier and we have agreed on; `ensure_credentials` comes first."""
    known = _Secrets.model_validate(_read_private(secrets_path))
    hashes = known.tenants.setdefault(tenant, _TenantSecrets())
    if trunk.user:
        hashes.trunks[trunk.user] = digest_ha1(trunk.user, realm, password)
    if trunk.auth_user or trunk.register_ is not None:
        hashes.carriers[trunk.name] = password
    _write(secrets_path, known)


def _write(path: Path, known: _Secrets) -> None:
    heading = (
        "# Passwords' hashes, and those at carriers; keep it private, see docs/operations.md.\n"
    )
    write_private(path, heading + _dump(known.model_dump()))


def read_plain_passwords(path: Path) -> PlainPasswords:
    """Read what `ensure_credentials` wrote for people."""
    tenants = _plain_document(path)
    return PlainPasswords(
        agents={tenant: kinds.get("agents", {}) for tenant, kinds in tenants.items()},
        phones={tenant: kinds.get("phones", {}) for tenant, kinds in tenants.items()},
        clients={tenant: kinds.get("clients", {}) for tenant, kinds in tenants.items()},
    )


def _add_missing(
    settings: PlatformSettings,
    known: _Secrets,
    plain: dict[str, dict[str, dict[str, str]]],
) -> bool:
    added = False
    for tenant in settings.tenants:
        hashes = known.tenants.setdefault(tenant.id, _TenantSecrets())
        words = plain.setdefault(tenant.id, {})
        for agent in tenant.agents:
            if agent.id not in hashes.agents:
                password = _new_password()
                hashes.agents[agent.id] = _scrypt(password)
                words.setdefault("agents", {})[agent.id] = password
                added = True
        for phone in tenant.all_phones:
            if phone not in hashes.phones:
                password = _new_password()
                hashes.phones[phone] = digest_ha1(phone, settings.sip.realm, password)
                words.setdefault("phones", {})[phone] = password
                added = True
        for user in (trunk.user for trunk in tenant.trunks if trunk.user):
            if user not in hashes.trunks:
                password = _new_password()
                hashes.trunks[user] = digest_ha1(user, settings.sip.realm, password)
                words.setdefault("trunks", {})[user] = password
                added = True
        for client in tenant.clients:
            if client.id not in hashes.clients:
                token = secrets.token_hex(_TOKEN_BYTES)
                hashes.clients[client.id] = _token_hash(token)
                words.setdefault("clients", {})[client.id] = token
                added = True
    return added


def digest_ha1(user: str, realm: str, password: str) -> dict[str, str]:
    """Hash A1 for every algorithm that the registrar offers."""
    a1 = f"{user}:{realm}:{password}".encode()
    return {
        # RFC 8760 keeps MD5 for phones that know nothing better.
        "MD5": hashlib.md5(a1, usedforsecurity=False).hexdigest(),
        "SHA-256": hashlib.sha256(a1).hexdigest(),
    }


def _new_password() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_PASSWORD_CHARACTERS))


def _token_hash(token: str) -> str:
    return f"sha256${hashlib.sha256(token.encode()).hexdigest()}"


def _scrypt(password: str) -> str:
    salt = os.urandom(_SALT_BYTES)
    key = hashlib.scrypt(password.encode(), salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P)
    parts = [str(_SCRYPT_N), str(_SCRYPT_R), str(_SCRYPT_P)]
    parts += [base64.b64encode(part).decode() for part in (salt, key)]
    return "$".join(["scrypt", *parts])


@cache
def _decoy() -> str:
    """A hash that no password has, so that unknown agents take as long as known ones."""
    return _scrypt(secrets.token_hex())


def _scrypt_matches(stored: str, password: str) -> bool:
    try:
        kind, n, r, p, salt, key = stored.split("$")
        expected = base64.b64decode(key, validate=True)
        actual = hashlib.scrypt(
            password.encode(),
            salt=base64.b64decode(salt, validate=True),
            n=int(n),
            r=int(r),
            p=int(p),
            dklen=len(expected),
        )
    except (ValueError, binascii.Error):
        return False
    return kind == "scrypt" and hmac.compare_digest(actual, expected)


def _read_private(path: Path) -> object:
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & _OPEN_TO_OTHERS:
                raise _refused(path, f"others may read it (mode {mode:04o})", f"chmod 600 {path}")
            return yaml.load(file, Loader=yaml.CSafeLoader)
    except OSError as error:
        raise _refused(path, str(error.strerror), "run as the user who owns it") from None
    except yaml.YAMLError:
        raise _refused(path, "it is not YAML", "restore it from a copy") from None


def _plain_document(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    document = _read_private(path)
    tenants = document.get("tenants") if isinstance(document, dict) else None
    if not isinstance(tenants, dict):
        raise _refused(path, "it names no tenants", "move it away")
    return tenants


def _joined(
    before: dict[str, dict[str, dict[str, str]]], made: dict[str, dict[str, dict[str, str]]]
) -> dict[str, dict[str, dict[str, str]]]:
    for tenant, kinds in made.items():
        for kind, words in kinds.items():
            before.setdefault(tenant, {}).setdefault(kind, {}).update(words)
    return before


def _dump(document: object) -> str:
    dumped = yaml.dump(document, Dumper=yaml.CSafeDumper, allow_unicode=True, sort_keys=False)
    return str(dumped)


def _refused(path: Path, reason: str, remedy: str) -> PlatformError:
    return PlatformError(Code.CONFIG_INVALID, f"{path}: {reason}; {remedy}")
