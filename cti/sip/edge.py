"""Forwards between other nodes and the phones whose flows end at this node.

A phone behind NAT or on a connection can be reached through the node it registered with only
(RFC 5626 5). Another node sends its requests there with a Route whose user is a signed token of
the flow; from then on the dialog's requests pass through here by Record-Route. No state is kept
(RFC 3261 16.11): the way back of a response is in the branch of our Via, signed too.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import os
from collections.abc import Callable
from functools import lru_cache
from typing import cast

from prometheus_client import Counter

from cti.shared.nodes import hop_of_route
from cti.sip.defence.guard import PASS
from cti.sip.endpoint import SipEndpoint
from cti.sip.messages.message import Request, Response, response_to
from cti.sip.messages.syntax import SipSyntaxError
from cti.sip.messages.uri import MAGIC_COOKIE, NameAddr, SipUri, Via
from cti.sip.transports.transport import (
    TRANSPORTS,
    Hop,
    TransportName,
    default_port,
    transport_params,
)
from cti.sip.via_stamps import stamp_via
from domain.failures import PlatformError

_FORWARDED = Counter("sip_edge_forwarded", "Messages passed between nodes and phones", ["to"])
_REFUSED = Counter("sip_edge_refused", "Requests that may not pass", ["status"])

_TOKEN = "flow-"  # noqa: S105 - marks a token, is none
_SIGNATURE_BYTES = 12
_MAX_FORWARDS = 70
_MAX_ROUTES = 32
_FLOWS_REMEMBERED = 16_384


class Edge:
    """The edge of one endpoint; see `SipEndpoint.edge`."""

    branch_prefix = f"{MAGIC_COOKIE}edge-"

    def __init__(self, endpoint: SipEndpoint, *, is_node: Callable[[Hop], bool]) -> None:
        self._endpoint = endpoint
        self._is_node = is_node
        # Connections go with the process, and so do the tokens that name them.
        self._secret = os.urandom(32)
        self._address: tuple[TransportName, str, int] | None = None
        self._token_of = lru_cache(maxsize=_FLOWS_REMEMBERED)(self._new_token)

    def take_from(self, transport: TransportName, host: str, port: int) -> None:
        """Let other nodes send to this address of the endpoint."""
        self._address = (transport, host, port)

    def route_of(self, flow: Hop) -> str:
        """Return the Route by which other nodes reach a flow; empty while they cannot."""
        if self._address is None:
            return ""
        return _route(self._token_of(flow), *self._address)

    # Requests

    def take_request(self, request: Request, source: Hop) -> bool:
        """See `cti.sip.endpoint.Edge`."""
        token = _token_in(request.headers.get("Route") or "")
        if not token:
            return False
        flow = self._flow_of(token)
        if flow is None:
            self._refuse(request, source, 430)
        elif not _pop_routes(request):
            self._refuse(request, source, 400)
        elif not _may_go_on(request):
            self._refuse(request, source, 483)
        elif _is_over(source, flow):
            self._to_node(request, source)
        elif self._is_node(source):
            self._to_phone(request, source, flow, token)
        else:
            self._refuse(request, source, 403)
        return True

    def _to_phone(self, request: Request, source: Hop, flow: Hop, token: str) -> None:
        if not flow.port and not self._endpoint.stands(flow.connection):
            self._refuse(request, source, 430)  # RFC 5626 5.3
            return
        if request.to.tag is None and self._address is not None:
            self._record_route(request, flow, token, self._address)
        self._pass_on(request, source, flow, "phone")

    def _to_node(self, request: Request, source: Hop) -> None:
        """Pass on what a phone sends inside a dialog, to nodes only: this is no open relay."""
        following = request.headers.get("Route")
        hop = hop_of_route(following or f"<{request.uri}>")
        if hop is None or not self._is_node(hop):
            self._refuse(request, source, 403)
        else:
            self._pass_on(request, source, hop, "node")

    def _record_route(
        self, request: Request, flow: Hop, token: str, address: tuple[TransportName, str, int]
    ) -> None:
        """Stay in the dialog; each side gets the address of its own transport (RFC 5658)."""
        headers = request.headers
        headers.prepend("Record-Route", _route(token, *address))
        facing_phone = (flow.transport, *self._endpoint.local_address(flow.transport, flow))
        if facing_phone != address:
            headers.prepend("Record-Route", _route(token, *facing_phone))

    def _pass_on(self, request: Request, source: Hop, hop: Hop, to: str) -> None:
        back = stamp_via(request, source)
        try:
            host, port = self._endpoint.local_address(hop.transport, hop)
        except PlatformError:
            self._refuse(request, source, 430)
            return
        via = Via(hop.transport.upper(), host, port, {"branch": self._branch(request, back)})
        if hop.transport == "udp":
            via.params["rport"] = None
        unsent = request.copy()
        request.push_via(via)
        _FORWARDED.labels(to).inc()
        self._endpoint.forward(request, hop, lambda: self._answer(unsent, back, 430))

    def _refuse(self, request: Request, source: Hop, status: int) -> None:
        guard = self._endpoint.guard
        if guard is not None and not self._is_node(source):
            # Whoever guesses tokens is judged as all strangers are, and told nothing at length.
            now_s = asyncio.get_running_loop().time()
            if guard.judge(request, source, source.host, now_s) != PASS:
                return
        self._answer(request, stamp_via(request, source), status)

    def _answer(self, request: Request, back: Hop, status: int) -> None:
        _REFUSED.labels(str(status)).inc()
        if request.method != "ACK":
            self._endpoint.forward(response_to(request, status), back)

    # Responses

    def take_response(self, response: Response) -> bool:
        """See `cti.sip.endpoint.Edge`; what is not of a request that passed here is dropped."""
        branch = response.top_via.branch
        vias = response.headers.get_all("Via")
        if len(vias) < 2:
            return True
        try:
            below = Via.parse(vias[1])
        except SipSyntaxError:
            return True
        if below.transport.lower() not in TRANSPORTS:
            return True
        connection, _, signature = branch[len(self.branch_prefix) :].partition("-")
        if not (connection.isascii() and connection.isdigit()) or not hmac.compare_digest(
            signature.encode(), self._sign(f"{connection} {below.branch} {below.sent_by}").encode()
        ):
            return True
        _set_all(response, "Via", vias[1:])
        _FORWARDED.labels("back").inc()
        self._endpoint.forward(response, _way_back(below, int(connection)))
        return True

    def new_branch(self) -> str:
        """Return a branch for a request of our own whose responses nobody waits for."""
        return f"{self.branch_prefix}{os.urandom(6).hex()}"

    # Signatures

    def _branch(self, request: Request, back: Hop) -> str:
        """Return the same branch for the same request, its CANCEL and ACK (16.11)."""
        via = request.top_via
        signature = self._sign(f"{back.connection} {via.branch} {via.sent_by}")
        return f"{self.branch_prefix}{back.connection}-{signature}"

    def _sign(self, text: str) -> str:
        return hmac.digest(self._secret, text.encode(), "sha256")[:_SIGNATURE_BYTES].hex()

    def _new_token(self, flow: Hop) -> str:
        text = f"{flow.transport} {flow.connection} {flow.host} {flow.port} {flow.name}".encode()
        signature = hmac.digest(self._secret, text, "sha256")[:_SIGNATURE_BYTES]
        return _TOKEN + base64.urlsafe_b64encode(signature + text).decode().rstrip("=")

    def _flow_of(self, token: str) -> Hop | None:
        """Return the flow of a token of ours; None for any other."""
        encoded = token[len(_TOKEN) :]
        try:
            raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except (binascii.Error, ValueError):
            return None
        signature, text = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        expected = hmac.digest(self._secret, text, "sha256")[:_SIGNATURE_BYTES]
        if not hmac.compare_digest(signature, expected):
            return None
        transport, connection, host, port, name = text.decode().split(" ")
        return Hop(cast("TransportName", transport), host, int(port), int(connection), name)


def _route(token: str, transport: str, host: str, port: int) -> str:
    params = {**transport_params(transport), "lr": None}
    return f"<{SipUri(user=token, host=host, port=port, params=params)}>"


def _token_in(route: str) -> str:
    """Return the token in a Route value, empty when there is none."""
    if _TOKEN not in route:
        return ""
    try:
        uri = NameAddr.parse(route).uri
    except SipSyntaxError:
        return ""
    return uri.user if isinstance(uri, SipUri) and uri.user.startswith(_TOKEN) else ""


def _pop_routes(request: Request) -> bool:
    """Take our Routes off the top; False when there are too many to be honest."""
    routes = request.headers.get_all("Route")
    if len(routes) > _MAX_ROUTES:
        return False
    own = _token_in(routes[0])
    while routes and _token_in(routes[0]) == own:
        routes.pop(0)
    _set_all(request, "Route", routes)
    return True


def _set_all(message: Request | Response, name: str, values: list[str]) -> None:
    message.headers.remove(name)
    for value in values:
        message.headers.add(name, value)


def _may_go_on(request: Request) -> bool:
    """Count Max-Forwards down (16.6 step 3); False when it is at its end."""
    left = request.headers.get("Max-Forwards")
    number = int(left) if left is not None else _MAX_FORWARDS
    if number <= 0:
        return False
    request.headers.set("Max-Forwards", str(number - 1))
    return True


def _is_over(source: Hop, flow: Hop) -> bool:
    """Whether something came over a flow."""
    if flow.transport == "udp":
        return (source.transport, source.host, source.port) == ("udp", flow.host, flow.port)
    if source.connection == flow.connection:
        return True
    # A phone that listens may come over another connection, as we may to it.
    return bool(flow.port) and (source.transport, source.host) == (flow.transport, flow.host)


def _way_back(via: Via, connection: int) -> Hop:
    """Return where a response goes (18.2.2); we wrote `received` and `rport` ourselves."""
    transport = cast("TransportName", via.transport.lower())
    host = via.params.get("received") or via.host
    port = via.params.get("rport")
    fallback = via.port or default_port(transport)
    is_port = port is not None and port.isascii() and port.isdigit()
    return Hop(transport, host, int(port or 0) if is_port else fallback, connection)
