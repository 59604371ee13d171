"""TLS between bytes and bytes (RFC 3261 26.3, RFC 5922); sans-IO, over the ssl module's buffers."""

from __future__ import annotations

import contextlib
import ssl
from enum import StrEnum
from ipaddress import ip_address
from typing import Any

from prometheus_client import Counter

from cti.sip.messages.syntax import SipSyntaxError
from cti.sip.messages.uri import SipUri

_READ_BYTES = 65_536
_EXPIRED = frozenset({9, 10})  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


class TlsFault(StrEnum):
    """Why a connection was not secured; the values are labels of a metric."""

    UNTRUSTED = "untrusted"
    EXPIRED = "expired"
    WRONG_NAME = "wrong_name"
    NO_CERTIFICATE = "no_certificate"
    REFUSED_BY_PEER = "refused_by_peer"
    PROTOCOL = "protocol"


_FAULTS = Counter("sip_tls_faults", "Connections that TLS could not secure", ["reason"])
TLS_FAULTS = {fault: _FAULTS.labels(fault.value) for fault in TlsFault}


class TlsError(Exception):
    """A peer that cannot be trusted or understood."""

    def __init__(self, fault: TlsFault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault


class TlsLayer:
    """The TLS of one connection, as server, or as client that knows the name of its peer."""

    def __init__(self, context: ssl.SSLContext, *, peer_name: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._peer_name = peer_name
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=peer_name is None,
            server_hostname=peer_name,
        )
        self.is_ready = False
        """Whether the handshake is done and the peer is who it should be."""
        self.has_ended = False
        """Whether the peer has said that nothing more will come."""

    def start(self) -> None:
        """Begin the handshake."""
        self._handshake()

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the network, return those inside; raises TlsError."""
        self._incoming.write(data)
        if not self.is_ready and not self._handshake():
            return b""
        pieces = []
        try:
            while piece := self._tls.read(_READ_BYTES):
                pieces.append(piece)
            self.has_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.has_ended = True
        except ssl.SSLError as error:
            raise _tls_error(error) from error
        return b"".join(pieces)

    def send(self, data: bytes) -> None:
        """Wrap bytes; `output` has them then. Raises TlsError."""
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise _tls_error(error) from error

    def end(self) -> None:
        """Say that nothing more will come."""
        if self.is_ready:
            # The peer has not said so yet, and need not.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()

    def output(self) -> bytes:
        """Return what is to be written to the network."""
        return self._outgoing.read()

    @property
    def peer_identities(self) -> frozenset[str]:
        """What the peer's certificate proves it to be, if it showed one that was verified."""
        certificate = self._tls.getpeercert() if self.is_ready else None
        return identities(certificate) if certificate else frozenset()

    def _handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise _tls_error(error) from error
        name = self._peer_name
        if name is not None and self._tls.context.verify_mode is ssl.CERT_REQUIRED:
            found = identities(self._tls.getpeercert() or {})
            if canonical_host(name) not in found:
                names = ", ".join(sorted(found)) or "nobody"
                raise TlsError(TlsFault.WRONG_NAME, f"certificate is for {names}, not for {name}")
        self.is_ready = True
        return True


def identities(certificate: dict[str, Any]) -> frozenset[str]:
    """Return the hosts a certificate speaks for (RFC 5922 7.1): SIP URIs, else DNS names.

    Addresses count as well, as trunks are often configured by address. Wildcards do not (7.2).
    """
    names: dict[str, set[str]] = {"URI": set(), "DNS": set(), "IP Address": set()}
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "URI":
            try:
                uri = SipUri.parse(value)
            except SipSyntaxError:
                continue
            if not uri.user:  # one with a user speaks for that user only
                names["URI"].add(canonical_host(uri.host))
        elif kind in names:
            names[kind].add(canonical_host(value))
    hosts = names["URI"] or names["DNS"]
    if not hosts and "subjectAltName" not in certificate:
        rows = [pair for row in certificate.get("subject", ()) for pair in row]
        hosts = {canonical_host(value) for key, value in rows if key == "commonName"}
    return frozenset(hosts | names["IP Address"])


def canonical_host(host: str) -> str:
    """Return a host as `identities` has it."""
    try:
        return str(ip_address(host.partition("%")[0].strip()))
    except ValueError:
        return host.rstrip(".").lower()


def _tls_error(error: ssl.SSLError) -> TlsError:
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        expired = error.verify_code in _EXPIRED
        fault = TlsFault.EXPIRED if expired else TlsFault.UNTRUSTED
        return TlsError(fault, error.verify_message or reason)
    if "ALERT" in reason:
        fault = TlsFault.REFUSED_BY_PEER
    elif "DID_NOT_RETURN_A_CERTIFICATE" in reason:
        fault = TlsFault.NO_CERTIFICATE
    else:
        fault = TlsFault.PROTOCOL
    return TlsError(fault, reason.replace("_", " ").lower() or str(error))
