"""What a REGISTER asks for, read by RFC 3261 10.3, RFC 3327 (Path) and RFC 5626 (outbound)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cti.shared.contacts import ContactChange, ContactUpdate
from cti.sip.authentication.phone_auth import PhoneAccount
from cti.sip.messages.message import Request, Response, SipSyntaxError, response_to
from cti.sip.messages.syntax import unquote
from cti.sip.messages.uri import NameAddr, SipUri
from cti.sip.transports.tls import canonical_host
from cti.sip.transports.transport import Hop

_MAX_CONTACTS = 8
_MAX_URI_CHARS = 512
_MAX_PATHS = 8
_MAX_INSTANCE_CHARS = 128
_MALFORMED_EXPIRES_S = 3600
_DEFAULT_PORTS = {"tls": 5061, "wss": 443, "ws": 80}

RouteOf = Callable[[Hop], str]
"""Gives the Route by which other nodes reach a flow through this one."""
IdentitiesOf = Callable[[Hop], frozenset[str]]
"""Tells whom the peer of a connection proved to be by its certificate."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a contact may be bound, and how much of it is granted."""

    default_s: int
    min_s: int
    max_s: int
    grant: Callable[[int], int]
    """Shortens a lifetime a little, so that phones that came at once do not return at once."""


@dataclass(frozen=True, slots=True)
class RegisterOrder:
    """A REGISTER that was let in, to be carried out on a store."""

    request: Request
    update: ContactUpdate
    path: tuple[str, ...] = ()
    """Told to the phone, when it knows what a Path is."""
    is_outbound: bool = False
    is_direct_flow: bool = False
    """Whether the phone keeps the flow to this node alive."""


def read_register(
    request: Request,
    account: PhoneAccount,
    source: Hop,
    lifetimes: Lifetimes,
    route_of: RouteOf,
    identities_of: IdentitiesOf,
) -> RegisterOrder | Response:
    """Read a REGISTER of a phone that is known, or say why it is refused."""
    if "*" in request.headers.get_all("Contact"):
        return _read_star(request, account)
    path = _path(request)
    if path is None:
        return response_to(request, 400, "Malformed Path")
    changes = _Reader(request, source, lifetimes, route_of, identities_of, path).changes()
    if isinstance(changes, Response):
        return changes
    supported = {each.lower() for each in request.headers.get_all("Supported")}
    wants_outbound = "outbound" in supported and any(
        each.reg_id and each.instance for each in changes
    )
    is_direct = not path and len(request.headers.get_all("Via")) == 1
    if wants_outbound and not is_direct and not _has_ob(path):
        return response_to(request, 439, "First Hop Lacks Outbound Support")  # RFC 5626 6
    cseq, _ = request.cseq
    update = ContactUpdate(account.tenant, account.user, request.call_id, cseq, tuple(changes))
    # Over UDP a phone would wait for answers to STUN (RFC 5626 4.4.2), which nobody gives here.
    is_direct_flow = is_direct and source.transport != "udp"
    return RegisterOrder(
        request,
        update,
        path if "path" in supported else (),
        wants_outbound and (is_direct_flow or bool(path)),
        is_direct_flow,
    )


def _read_star(request: Request, account: PhoneAccount) -> RegisterOrder | Response:
    """Read a Contact of `*`: 10.3 step 6 has it stand alone, and only to remove."""
    expires = request.headers.get("Expires") or ""
    if len(request.headers.get_all("Contact")) > 1 or expires.strip() != "0":
        return response_to(request, 400, "Contact * removes all, and stands alone")
    cseq, _ = request.cseq
    update = ContactUpdate(account.tenant, account.user, request.call_id, cseq, remove_all=True)
    return RegisterOrder(request, update)


class _Reader:
    """Reads the contacts of one request."""

    def __init__(
        self,
        request: Request,
        source: Hop,
        lifetimes: Lifetimes,
        route_of: RouteOf,
        identities_of: IdentitiesOf,
        path: tuple[str, ...],
    ) -> None:
        self._request = request
        self._source = source
        self._lifetimes = lifetimes
        self._route_of = route_of
        self._identities_of = identities_of
        self._path = path
        self._default_s = _expires(request.headers.get("Expires"), lifetimes.default_s)

    def changes(self) -> list[ContactChange] | Response:
        """Read all contacts, those to be removed first.

        A phone that moved names its old and its new contact in any order.
        """
        request = self._request
        contacts = request.headers.get_all("Contact")
        if len(contacts) > _MAX_CONTACTS:
            return response_to(request, 403, "Too Many Contacts")
        changes = []
        for contact in contacts:
            change = self._change(contact)
            if change is None:
                return response_to(request, 400, "Malformed Contact")
            if 0 < change.expires_s < self._lifetimes.min_s:
                headers = [("Min-Expires", str(self._lifetimes.min_s))]
                return response_to(request, 423, headers=headers)
            changes.append(self._granted(change) if change.expires_s else change)
        changes.sort(key=lambda each: each.expires_s > 0)
        return changes

    def _change(self, contact: str) -> ContactChange | None:
        """Read one Contact value; None for one that leads nowhere."""
        try:
            address = NameAddr.parse(contact)
        except SipSyntaxError:
            return None
        uri, text = address.uri, address.uri_text
        if not isinstance(uri, SipUri) or uri.headers or not _is_kept(text):
            return None
        params = address.params
        asked_s = _expires(params.get("expires"), self._default_s)
        instance = params.get("+sip.instance") or ""
        return ContactChange(
            contact=contact_key(uri),
            uri=text,
            hop=self._hop(uri),
            expires_s=min(asked_s, self._lifetimes.max_s),
            instance=_instance(instance),
            reg_id=_reg_id(params.get("reg-id") or ""),
            q=_q(params.get("q")),
            path=self._path,
        )

    def _granted(self, change: ContactChange) -> ContactChange:
        """Return the change with the time that is granted, and how other nodes reach the phone."""
        lifetimes = self._lifetimes
        expires_s = max(lifetimes.min_s, lifetimes.grant(change.expires_s))
        return replace(change, expires_s=expires_s, edge=self._edge(change.hop))

    def _hop(self, uri: SipUri) -> Hop:
        """Return where requests for a contact go.

        Behind NAT the Contact leads nowhere, and an address other than the sender's would let a
        phone aim our requests at others: such a phone is reached where it sends from. A proxy that
        wrote a Path is reached in the same way.
        """
        source = self._source
        if self._path:
            first = NameAddr.parse(self._path[0]).uri
            if not isinstance(first, SipUri):
                return source
            uri = first
        elif source.transport == "tls":
            return self._tls_hop(uri)
        if uri.host != source.host or source.transport in {"ws", "wss"}:
            return source
        transport = (uri.params.get("transport") or "").lower()
        if uri.scheme == "sips" or transport == "tls" or source.transport == "tls":
            transport = "tls"
        transport = transport or source.transport
        port = uri.port or _DEFAULT_PORTS.get(transport, 5060)
        if transport == source.transport:
            # The connection that is there serves first (RFC 5923); it may have another port.
            return Hop(source.transport, uri.host, port, source.connection, source.name)
        if transport in {"udp", "tcp"}:
            return Hop("udp" if transport == "udp" else "tcp", uri.host, port)
        return source

    def _tls_hop(self, uri: SipUri) -> Hop:
        """Return the connection; its name tells that the phone can be reached by others too.

        That is so when the phone's certificate proves the host of its Contact: any new connection
        would have to be to that host.
        """
        source = self._source
        if canonical_host(uri.host) in self._identities_of(source):
            port = uri.port or _DEFAULT_PORTS["tls"]
            return Hop("tls", source.host, port, source.connection, uri.host)
        return source._replace(name="")

    def _edge(self, hop: Hop) -> str:
        """Return the Route for other nodes; they reach a phone without NAT by themselves."""
        is_flow_only = hop is self._source or (hop.transport == "tls" and not hop.name)
        if self._path or not hop.connection or (hop.transport == "udp" and not is_flow_only):
            return ""
        if is_flow_only and hop.transport != "udp":
            hop = hop._replace(port=0)  # nobody listens there
        return self._route_of(hop)


def contact_key(uri: SipUri) -> str:
    """Return what is equal for equal contacts (19.1.4, with the parameters that always count)."""
    transport = (uri.params.get("transport") or "").lower()
    user = uri.user.replace(" ", "%20")
    return f"{uri.scheme}:{user}@{uri.host}:{uri.port or ''};{transport}"


def _is_kept(uri: str) -> bool:
    """Whether a URI can stand in a record, whose fields are parted by tabs (25.1 has none)."""
    return len(uri) <= _MAX_URI_CHARS and uri.isprintable() and " " not in uri


def _path(request: Request) -> tuple[str, ...] | None:
    """Return the Path, each value as a Route; None when it cannot be one."""
    values = request.headers.get_all("Path")
    if len(values) > _MAX_PATHS:
        return None
    path = []
    for value in values:
        try:
            address = NameAddr.parse(value)
        except SipSyntaxError:
            return None
        if not isinstance(address.uri, SipUri) or not _is_kept(address.uri_text):
            return None
        path.append(f"<{address.uri_text}>")
    return tuple(path)


def _has_ob(path: tuple[str, ...]) -> bool:
    """Whether the proxy next to the phone, the last of the Path, keeps its flow."""
    if not path:
        return False
    uri = NameAddr.parse(path[-1]).uri
    return isinstance(uri, SipUri) and "ob" in uri.params


def _expires(text: str | None, default_s: int) -> int:
    """Return a lifetime; 20.10 and 20.19 have a malformed one count as an hour."""
    if text is None:
        return default_s
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return _MALFORMED_EXPIRES_S
    return int(text)


def _instance(text: str) -> str:
    """Return `+sip.instance` without its brackets; one that cannot be a key is none."""
    text = unquote(text.strip()).strip("<>")
    usable = text.isprintable() and " " not in text and len(text) <= _MAX_INSTANCE_CHARS
    return text if usable else ""


def _reg_id(text: str) -> str:
    return text if text.isascii() and text.isdigit() and len(text) <= 10 else ""


def _q(text: str | None) -> int:
    """Return a q value in thousandths; a malformed one counts as none."""
    if not text:
        return 1000
    whole, _, fraction = text.strip().partition(".")
    if whole not in {"0", "1", ""} or (
        fraction and not (fraction.isascii() and fraction.isdigit())
    ):
        return 1000
    return min(1000, int(whole or "0") * 1000 + int(fraction[:3].ljust(3, "0")))
