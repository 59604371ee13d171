"""How media is protected: SDES (RFC 4568), DTLS-SRTP (RFC 5763) behind ICE-lite (RFC 8839)."""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from cti.media import DtlsPeer, SrtpSuite
from cti.sdp.description import Sdp, Stream


class SrtpPolicy(StrEnum):
    """What protection a peer's media has to have."""

    OFF = "off"
    OPTIONAL = "optional"
    REQUIRED = "required"


class Protection(StrEnum):
    """How media is protected, or an offer proposes it."""

    NONE = "none"
    SDES_OR_NONE = "sdes_or_none"  # RTP/AVP with a=crypto: who cannot, answers without
    SDES = "sdes"
    DTLS = "dtls"


PLAIN_PROTOCOLS = frozenset({"RTP/AVP", "RTP/AVPF"})
SDES_PROTOCOLS = frozenset({"RTP/SAVP", "RTP/SAVPF"})
DTLS_PROTOCOLS = frozenset(
    {"UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF", "RTP/SAVP", "RTP/SAVPF", "RTP/AVP", "RTP/AVPF"}
)
"""RFC 5764 8 and, without UDP/TLS, what was written before it and still is."""

PROTOCOL_OF = {
    Protection.NONE: "RTP/AVP",
    Protection.SDES_OR_NONE: "RTP/AVP",
    Protection.SDES: "RTP/SAVP",
    Protection.DTLS: "UDP/TLS/RTP/SAVPF",
}

# RFC 8839 5.4: 22 characters are the least of a password, 4 those of a fragment.
_ICE_CHARACTERS = string.ascii_letters + string.digits
_ICE_TEXT = re.compile(r"[A-Za-z0-9+/]+")
_FINGERPRINT = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){31}")
_CRYPTO = re.compile(
    r"(?P<tag>[1-9][0-9]{0,8})\s+(?P<suite>[\w-]+)\s+"
    r"inline:(?P<key>[A-Za-z0-9+/]+={0,2})(?:\|(?P<lifetime>(?:2\^)?[0-9]{1,20}))?",
    re.ASCII,
)

_LEAST_LIFETIME_PACKETS = 2**20  # nearly six hours of packets of 20 ms


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """Short-term credentials of connectivity checks."""

    ufrag: str
    password: str = field(repr=False)

    @classmethod
    def new(cls) -> IceCredentials:
        """Return fresh ones, of more than the 24 and 128 bits that RFC 8445 5.3 asks for."""
        return cls(_random_text(8), _random_text(24))


@dataclass(slots=True)
class LocalSecrets:
    """What protects one port's media on our side; the same through a session (RFC 4568 7.1.4)."""

    fingerprint: str = ""
    """Of our DTLS certificate, sha-256; empty where there is no DTLS."""
    suites: tuple[SrtpSuite, ...] = tuple(SrtpSuite)
    """What SDES may use, the preferred one first."""
    random_octets: Callable[[int], bytes] = os.urandom
    _ice: IceCredentials | None = None
    _keys: dict[SrtpSuite, bytes] = field(default_factory=dict, repr=False)

    @property
    def ice(self) -> IceCredentials:
        """Our credentials until the next restart."""
        if self._ice is None:
            self._ice = IceCredentials.new()
        return self._ice

    def restart_ice(self) -> None:
        """Take other credentials: the far end has (RFC 8839 4.4.1.1)."""
        self._ice = None

    def key(self, suite: SrtpSuite) -> bytes:
        """Return our master key and salt of a suite."""
        if suite not in self._keys:
            self._keys[suite] = self.random_octets(suite.key_len)
        return self._keys[suite]


@dataclass(frozen=True, slots=True)
class CryptoLine:
    """A usable a=crypto: one key without MKI and without session parameters."""

    tag: int
    suite: SrtpSuite
    key: bytes = field(repr=False)

    def __str__(self) -> str:
        """Return it as written."""
        key = base64.b64encode(self.key).decode()
        return f"a=crypto:{self.tag} {self.suite} inline:{key}"


def crypto_lines(stream: Stream) -> list[CryptoLine]:
    """Return the a=crypto lines of a stream that can be used; others are not chosen (5.1.2)."""
    return [line for text in stream.values("crypto") if (line := _crypto_line(text)) is not None]


def _crypto_line(text: str) -> CryptoLine | None:
    # Session parameters change what is protected, several keys need an MKI.
    found = _CRYPTO.fullmatch(text)
    if found is None or found["suite"] not in SrtpSuite.__members__:
        return None
    if not _lasts(found["lifetime"]):
        return None
    suite = SrtpSuite(found["suite"])
    try:
        key = base64.b64decode(found["key"], validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(key) != suite.key_len:
        return None
    return CryptoLine(int(found["tag"]), suite, key)


def _lasts(lifetime: str | None) -> bool:
    """Whether a key may protect the packets of any call: we do not change it on the way."""
    if lifetime is None:
        return True
    power = lifetime.removeprefix("2^")
    packets = int(lifetime) if power == lifetime else 2 ** min(int(power), 64)
    return packets >= _LEAST_LIFETIME_PACKETS


@dataclass(frozen=True, slots=True)
class DtlsOffer:
    """What a description says of DTLS and ICE."""

    fingerprint: str
    setup: str
    ice: IceCredentials


def dtls_of(sdp: Sdp, stream: Stream) -> DtlsOffer | None:
    """Return a stream's DTLS with ICE; None where one of its parts is missing or of no use."""
    ufrag, password = sdp.value(stream, "ice-ufrag"), sdp.value(stream, "ice-pwd")
    if not (ufrag and password):
        return None
    fingerprint = next(filter(None, map(_sha256, sdp.values(stream, "fingerprint"))), "")
    setup = (sdp.value(stream, "setup") or "actpass").lower()
    if not (fingerprint and setup in _SETUP_ANSWERS):
        return None
    if not (_is_ice_text(ufrag, 4) and _is_ice_text(password, 22)):
        return None
    return DtlsOffer(fingerprint, setup, IceCredentials(ufrag, password))


# RFC 5763 5: who may be either is best served passive, for its checks come first.
_SETUP_ANSWERS = {"actpass": "passive", "active": "passive", "passive": "active"}


def setup_answer(offered: str) -> str:
    """Return our a=setup to the one of an offer."""
    return _SETUP_ANSWERS[offered]


def dtls_peer(local: IceCredentials, remote: DtlsOffer, *, active: bool) -> DtlsPeer:
    """Return what the engine has to know."""
    return DtlsPeer(
        remote.fingerprint, local.ufrag, local.password, remote.ice.ufrag, active=active
    )


def dtls_lines(secrets_: LocalSecrets, ip: str, port: int, setup: str) -> Iterator[str]:
    """Return the attributes of a stream that browsers want (RFC 8829, RFC 8445 lite)."""
    ice = secrets_.ice
    yield f"a=ice-ufrag:{ice.ufrag}"
    yield f"a=ice-pwd:{ice.password}"
    yield f"a=fingerprint:sha-256 {secrets_.fingerprint}"
    yield f"a=setup:{setup}"
    # RFC 8445 5.1.2.1: a host candidate of the first component, the only one.
    yield f"a=candidate:1 1 udp {(126 << 24) + (65_535 << 8) + 255} {ip} {port} typ host"
    yield "a=end-of-candidates"


def _sha256(text: str) -> str:
    hash_name, _, fingerprint = text.partition(" ")
    fingerprint = fingerprint.strip().upper()
    is_good = hash_name.lower() == "sha-256" and _FINGERPRINT.fullmatch(fingerprint) is not None
    return fingerprint if is_good else ""


def _is_ice_text(text: str, least: int) -> bool:
    return least <= len(text) <= 256 and _ICE_TEXT.fullmatch(text) is not None


def _random_text(characters: int) -> str:
    return "".join(secrets.choice(_ICE_CHARACTERS) for _ in range(characters))
