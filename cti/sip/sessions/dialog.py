"""The dialog of RFC 3261 section 12: what both sides remember between the requests of a call."""

from __future__ import annotations

import os
from collections.abc import Iterable

from cti.sip.location.next_hop import NamedHop, resolve
from cti.sip.messages.message import (
    Headers,
    Malformed,
    Request,
    Response,
    SipSyntaxError,
    tagged,
)
from cti.sip.messages.session_description import SDP_TYPE
from cti.sip.messages.uri import NameAddr, SipUri, parse_uri, without_headers
from cti.sip.transports.transport import Hop, address_family

_MAX_FORWARDS = "70"
_DEFAULT_PORT = 5060


class Dialog:
    """One dialog, early or confirmed. Addresses are kept as written, to be echoed."""

    __slots__ = (
        "_encoding",
        "_local",
        "_pinned",
        "_remote",
        "call_id",
        "confirmed",
        "contact",
        "hop",
        "local_cseq",
        "local_tag",
        "remote_cseq",
        "remote_tag",
        "routes",
        "stays",
        "target",
    )

    def __init__(
        self,
        *,
        call_id: str,
        local: str,
        local_tag: str,
        local_cseq: int,
        remote: str,
        remote_tag: str,
        remote_cseq: int | None,
        target: str,
        routes: list[str],
        contact: str,
        hop: Hop,
        pinned: bool,
        encoding: str,
    ) -> None:
        self.call_id = call_id
        self.local_tag = local_tag
        self.local_cseq = local_cseq
        self.remote_tag = remote_tag
        self.remote_cseq = remote_cseq
        self.target = target
        self.routes = routes
        self.contact = contact
        self.confirmed = False
        self.hop = hop
        self._pinned = pinned
        self.stays = False
        """Whether requests go to no other host than the dialog began with, whatever it says."""
        self._local = local
        self._remote = remote
        self._encoding = encoding

    @classmethod
    def of_server(cls, request: Request, hop: Hop, *, local_tag: str, contact: str) -> Dialog:
        """Make the dialog of an INVITE that came from `hop` (12.1.1).

        SipSyntaxError when its Contact or Record-Route cannot be used.
        """
        via = request.top_via
        target = _target(request)
        if target is None:
            raise SipSyntaxError(Malformed.HEADER_VALUE, "Contact is not one SIP URI")
        return cls(
            call_id=request.call_id,
            local=tagged(request.headers.first_row("To") or "", local_tag),
            local_tag=local_tag,
            local_cseq=int.from_bytes(os.urandom(2)),
            remote=request.headers.first_row("From") or "",
            remote_tag=request.from_.tag or "",
            remote_cseq=request.cseq[0],
            target=target,
            routes=request.headers.get_all("Record-Route"),
            contact=contact,
            hop=hop,
            # A peer that does not know its own address is behind NAT: its Contact leads nowhere.
            pinned=via.host != hop.host,
            encoding=request.encoding,
        )

    @classmethod
    def of_client(
        cls, request: Request, response: Response, hop: Hop, *, local_tag: str, contact: str
    ) -> Dialog:
        """Make the dialog of an INVITE that went to `hop`, from a response with a tag (12.1.2)."""
        uri = parse_uri(request.uri)
        return cls(
            call_id=request.call_id,
            local=request.headers.first_row("From") or "",
            local_tag=local_tag,
            local_cseq=request.cseq[0],
            remote=response.headers.first_row("To") or "",
            remote_tag=response.to.tag or "",
            remote_cseq=None,
            target=_target(response) or request.uri,
            routes=_routes(response),
            contact=contact,
            hop=hop,
            pinned=not isinstance(uri, SipUri) or not _leads_to(uri, request, hop),
            encoding=request.encoding,
        )

    def accepts(self, cseq: int) -> bool:
        """Take note of a request's CSeq number; False when it is out of order (12.2.2)."""
        if self.remote_cseq is not None and cseq <= self.remote_cseq:
            return False
        self.remote_cseq = cseq
        return True

    def confirm(self, response: Response) -> None:
        """Turn an early client dialog into a confirmed one by its 2xx (13.2.2.4)."""
        self.confirmed = True
        self.routes = _routes(response)
        self.refresh_target(response)

    def refresh_target(self, message: Request | Response) -> None:
        """Take the Contact of a target refresh request or of its 2xx (12.2)."""
        self.target = _target(message) or self.target

    def request(
        self,
        method: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
    ) -> Request:
        """Build the next request of the dialog (12.2.1.1)."""
        self.local_cseq += 1
        built = self._build(method, self.local_cseq)
        built.headers.set("Contact", self.contact)
        for name, value in headers:
            built.headers.add(name, value)
        if content_type is not None:
            built.headers.set("Content-Type", content_type)
            built.body = body
        return built

    def ack(self, invite: Request, sdp: bytes = b"") -> Request:
        """Build the ACK of a 2xx; its credentials are those of the INVITE (13.2.2.4)."""
        built = self._build("ACK", invite.cseq[0])
        built.headers.copy_from(invite.headers, "Authorization", "Proxy-Authorization")
        if sdp:
            built.headers.set("Content-Type", SDP_TYPE)
            built.body = sdp
        return built

    def next_hop(self) -> Hop | NamedHop:
        """Return where the next request of the dialog goes."""
        hop = self._wanted_hop()
        if self.stays and not (isinstance(hop, Hop) and hop.host == self.hop.host):
            return self.hop
        return hop

    def _wanted_hop(self) -> Hop | NamedHop:
        if not self.routes:
            return self.hop if self._pinned else resolve(self.target, self.hop)
        first = _route_uri(self.routes[0])
        return self.hop if first is None else resolve(first, self.hop)

    def _build(self, method: str, cseq: int) -> Request:
        uri, routes = self.target, self.routes
        if routes:
            first = _route_uri(routes[0])
            if isinstance(first, SipUri) and "lr" not in first.params:
                # 12.2.1.1: a strict router wants itself as the Request-URI, the target goes last.
                uri, routes = without_headers(str(first)), [*routes[1:], f"<{self.target}>"]
        rows = {
            "Max-Forwards": [_MAX_FORWARDS],
            "From": [self._local],
            "To": [self._remote],
            "Call-ID": [self.call_id],
            "CSeq": [f"{cseq} {method}"],
        }
        if routes:
            rows["Route"] = list(routes)
        return Request(method, uri, Headers.of_rows(rows), encoding=self._encoding)


def _leads_to(uri: SipUri, request: Request, hop: Hop) -> bool:
    """Whether an INVITE went where its URI points; else there was a reason: NAT, or a proxy.

    Where a name points, only who chose the hop has known. What came to us is no such choice.
    """
    if address_family(uri.host) is None:
        return not hop.connection and "Route" not in request.headers
    return (uri.host, uri.port or _DEFAULT_PORT) == (hop.host, hop.port)


def _target(message: Request | Response) -> str | None:
    """Return the URI of the first Contact that can be a Request-URI."""
    try:
        contact = message.headers.get("Contact")
        if contact is None:
            return None
        address = NameAddr.parse(contact)
    except SipSyntaxError:
        return None
    uri = address.uri
    if not isinstance(uri, SipUri):
        return None
    text = without_headers(address.uri_text)
    return text if " " not in text else None


def _routes(response: Response) -> list[str]:
    """Return the route set of a response; a broken one is none, so that it can be acknowledged."""
    try:
        return response.headers.get_all("Record-Route")[::-1]
    except SipSyntaxError:
        return []


def _route_uri(route: str) -> SipUri | None:
    try:
        uri = NameAddr.parse(route).uri
    except SipSyntaxError:
        return None
    return uri if isinstance(uri, SipUri) else None
