"""The SIP endpoint: sockets, transactions and their timers in one asyncio adapter."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol, cast

import structlog

from cti.sip.defence.guard import DROP, PASS, Guard, Shedder
from cti.sip.defence.shedding import Shedding
from cti.sip.defence.source import TrustedProxies
from cti.sip.location.next_hop import NamedHop, NameLookups
from cti.sip.location.outbound_proxy import OutboundProxy
from cti.sip.messages.message import Request, Response, SipSyntaxError, response_to
from cti.sip.messages.uri import Via
from cti.sip.metrics import (
    INTERNAL_ERRORS,
    MALFORMED,
    RETRANSMITTED_IN,
    RETRANSMITTED_OUT,
    STRAY_RESPONSES,
    MessageCounters,
)
from cti.sip.transactions.client_transaction import (
    ClientMachine,
    InviteClient,
    cancel,
    client_machine,
)
from cti.sip.transactions.server_transaction import InviteServer, ServerMachine, server_machine
from cti.sip.transactions.timers import TimerHeap, Timers
from cti.sip.transactions.transaction import (
    Deliver,
    Failed,
    Key,
    Outputs,
    Send,
    SetTimer,
    Signal,
    State,
    client_key,
    server_key,
)
from cti.sip.transactions.transaction_users import ClientTransaction, Live, ServerTransaction
from cti.sip.transports.large_requests import CONNECT_S, MAX_UDP_REQUEST_BYTES, LargeRequests
from cti.sip.transports.registry import Transports
from cti.sip.transports.tls_files import Tls
from cti.sip.transports.transport import TRANSPORTS, ConnectionLimits, Hop, OnError, address_family
from cti.sip.via_stamps import new_branch, quoted_request, stamp_via, via_of
from domain.failures import Code, PlatformError

__all__ = ["ClientTransaction", "Edge", "ServerTransaction", "SipEndpoint", "new_branch"]

log = structlog.get_logger(__name__)

_TIMER_GRANULARITY_S = 0.01
_UNANSWERED = (State.CALLING, State.TRYING)
_LIVE_STATES = (*_UNANSWERED, State.PROCEEDING)
_LATER = (("Retry-After", "5"),)


class Edge(Protocol):
    """Takes messages that only pass through this node, before any transaction sees them."""

    branch_prefix: str
    """How the branches of its own Vias start."""

    def take_request(self, request: Request, source: Hop) -> bool:
        """Take a request that has a Route; False leaves it to this node."""

    def take_response(self, response: Response) -> bool:
        """Take a response whose top Via is the edge's; False leaves it to this node."""


class SipEndpoint:
    """Sends and receives requests through RFC 3261 transactions over any of the transports.

    All callbacks are plain functions called on the event loop. Sends never raise: what goes wrong
    comes by `on_failure`.
    """

    def __init__(
        self,
        *,
        user_agent: str,
        timers: Timers | None = None,
        advertised_host: str | None = None,
        limits: ConnectionLimits | None = None,
        max_transactions: int = 400_000,
        trusted_proxies: Sequence[IPv4Network | IPv6Network] = (),
        tls: Tls | None = None,
        web_origins: Collection[str] = (),
    ) -> None:
        """To be made where its loop runs.

        `web_origins` are the pages whose scripts may connect over WebSocket; none: all.
        """
        self.on_request: Callable[[ServerTransaction], None] = _refuse
        """Takes every new request but ACK and CANCEL."""
        self.on_ack: Callable[[Request, Hop], None] = _ignore_ack
        """Takes the ACK of a 2xx."""
        self.on_flow_lost: Callable[[int], None] = _ignore_flow
        """Hears the number of each connection that stood and is gone."""
        self.edge: Edge | None = None
        self.outbound_proxy: OutboundProxy | None = None
        self.names: NameLookups | None = None
        """Finds where requests go whose next URI has a host name."""
        self._now_s = asyncio.get_running_loop().time
        self._user_agent = user_agent
        self.timers = timers or Timers()
        """Those of its transactions; the core repeats its 2xx by the same."""
        self._advertised_host = advertised_host
        self._advertised: dict[tuple[str, str, int], tuple[str, int]] = {}
        self._max_transactions = max_transactions
        self._transports = Transports(
            self, limits or ConnectionLimits(), tls=tls, origins=web_origins
        )
        self._large = LargeRequests()
        self._clients: dict[Key, Live] = {}
        self._servers: dict[Key, Live] = {}
        self._heap: TimerHeap[Live] = TimerHeap()
        self._wake: asyncio.TimerHandle | None = None
        self._wake_s = math.inf
        self._closed = False
        self._on_connection: dict[int, dict[Key, Live]] = {}
        self._trusted_proxies = TrustedProxies(trusted_proxies)
        self._shedding = Shedding(
            user_agent, known=self._servers, send=self._send_refusal, clock=self._now_s
        )
        self._counters_in = {name: MessageCounters("in", name) for name in TRANSPORTS}
        self._counters_out = {name: MessageCounters("out", name) for name in TRANSPORTS}

    @property
    def guard(self) -> Guard | None:
        """Who decides what is let in."""
        return self._transports.guard

    @guard.setter
    def guard(self, guard: Guard | None) -> None:
        self._transports.guard = guard

    @property
    def shedder(self) -> Shedder | None:
        """Who decides how many new calls there is time for."""
        return self._shedding.shedder

    @shedder.setter
    def shedder(self, shedder: Shedder) -> None:
        self._shedding.shedder = shedder
        self._transports.watch_datagrams(self._shedding.take_early, shedder.on_wait)

    # Sockets

    async def listen(
        self, transport: str, host: str, port: int, *, advertised_host: str | None = None
    ) -> tuple[str, int]:
        """Bind an address for a transport; port 0 takes a free one. Return the bound address.

        `advertised_host` is what peers know it by, instead of the endpoint's.
        """
        is_wildcard = host in {"0.0.0.0", "::"}
        advertised = advertised_host or self._advertised_host
        if advertised is not None and _other_family(advertised, host):
            advertised = None
        if is_wildcard and advertised is None:
            raise PlatformError(
                Code.CONFIG_INVALID,
                f"SIP listens on every address ({host}): set the advertised host that peers use",
            )
        bound = await self._transports.listen(transport, host, port)
        is_loopback = host == "::1" or host.startswith("127.")
        if advertised is not None and (advertised_host is not None or not is_loopback):
            self._advertised[transport, *bound] = advertised, bound[1]
        return bound

    def local_address(self, transport: str, hop: Hop | None = None) -> tuple[str, int]:
        """Return host and port to write in Via and Contact, for `hop` when it is given."""
        address = self._transports.local_address(transport, hop)
        if address is None:
            raise PlatformError(Code.SIP_TRANSPORT, f"no SIP socket for {transport}")
        return self._advertised.get((transport, *address), address)

    def identities_of(self, hop: Hop) -> frozenset[str]:
        """Whom the certificate of a connection's peer proves it to be; nobody without one."""
        return self._transports.identities_of(hop.connection)

    def stands(self, connection: int) -> bool:
        """Whether a connection can carry messages now; the edge asks it."""
        return self._transports.stands(connection)

    @property
    def transaction_count(self) -> int:
        """Transactions in the tables, those that only absorb retransmissions included."""
        return len(self._clients) + len(self._servers)

    def held(self) -> dict[str, int]:
        """Count transactions and their timers, stale ones included until they are due."""
        return {"transactions": self.transaction_count, "timers": len(self._heap)}

    async def aclose(self) -> None:
        """End all transactions, then close the sockets."""
        self._closed = True
        if self.names is not None:
            await self.names.aclose()
        if self._wake is not None:
            self._wake.cancel()
        for live in [*self._clients.values(), *self._servers.values()]:
            if live.machine.state in _LIVE_STATES:
                self._run(live, live.machine.transport_error())
        self._clients.clear()
        self._servers.clear()
        self._heap.clear()
        await self._transports.aclose()

    # The transaction user's side

    def send_request(
        self,
        request: Request,
        hop: Hop | NamedHop,
        *,
        on_response: Callable[[Response], None],
        on_failure: Callable[[Code], None],
    ) -> ClientTransaction:
        """Send a request through a transaction of its own; its top Via is added here.

        `on_response` gets every provisional response, 100 included, and the final one; for an
        INVITE also each retransmission of a 2xx. `on_failure` gets SIP_TIMEOUT or SIP_TRANSPORT.
        Neither is called before this returns.
        """
        user = ClientTransaction(request, on_response, on_failure)
        self._locate(hop, partial(self._send_first, user))
        return user

    def send_ack(self, request: Request, hop: Hop | NamedHop) -> None:
        """Send the ACK of a 2xx, without a transaction (RFC 3261 13.2.2.4); adds the top Via."""
        self._locate(hop, partial(self._forward_ack, request))

    def _locate(self, hop: Hop | NamedHop, then: Callable[[Hop], None]) -> None:
        if isinstance(hop, Hop):
            then(hop)
        elif self.names is None:
            then(hop.known)
        else:
            self.names.find(hop, then)

    def _forward_ack(self, request: Request, hop: Hop) -> None:
        self._complete(request, hop)
        self.forward(request, hop)

    def forward(
        self, message: Request | Response, hop: Hop, on_error: OnError | None = None
    ) -> None:
        """Send a message as it is, without a transaction."""
        self._counters_out[hop.transport].count(message)
        self._transports.send(message.to_bytes(), hop, on_error or _ignore_error)

    def _complete(self, request: Request, hop: Hop) -> None:
        """Add what every request needs: Via with a fresh branch, Max-Forwards, User-Agent."""
        headers = request.headers
        request.push_via(self._own_via(hop))
        if headers.first_row("Max-Forwards") is None:
            headers.set("Max-Forwards", "70")
        if headers.first_row("User-Agent") is None:
            headers.set("User-Agent", self._user_agent)

    def _own_via(self, hop: Hop) -> Via:
        try:
            host, port = self.local_address(hop.transport, hop)
        except PlatformError:
            return via_of(hop.transport, "invalid", None)  # responses come by the connection only
        return via_of(hop.transport, host, port)

    def _send_first(self, user: ClientTransaction, hop: Hop) -> None:
        if self.outbound_proxy is not None:
            hop = self.outbound_proxy.take(user.request, hop)
        self._complete(user.request, hop)
        self._start_client(user, hop)

    def _start_client(self, user: ClientTransaction, hop: Hop) -> None:
        request = user.request
        live, outputs = self._make_client(user, hop)
        wide = self._stream_hop(request, hop, outputs)
        if wide is not None:
            request.replace_top_via(self._own_via(wide))
            live, outputs = self._make_client(user, wide)
            live.fallback = hop
            asyncio.get_running_loop().call_later(CONNECT_S, self._check_connected, live)
        self._launch(live, outputs)
        if user.is_cancelled:
            self.cancel(live)

    def _make_client(self, user: ClientTransaction, hop: Hop) -> tuple[Live, Outputs]:
        reliable = hop.transport != "udp"
        machine = client_machine(user.request, reliable=reliable, timers=self.timers)
        live = Live(self, machine, hop)
        live.user = user
        user.live = live
        return live, machine.start(self._now_s())

    def _launch(self, live: Live, outputs: Outputs) -> None:
        user = cast("ClientTransaction", live.user)
        self._clients[live.machine.key] = live
        self._counters_out[live.hop.transport].count(user.request)
        self._run(live, outputs)
        if live.connection:
            self._on_connection.setdefault(live.connection, {})[live.machine.key] = live

    # Requests too large for UDP (RFC 3261 18.1.1)

    def _stream_hop(self, request: Request, hop: Hop, outputs: Outputs) -> Hop | None:
        """Return where a request goes that should not go by UDP; None: it may."""
        if hop.transport != "udp" or request.method == "CANCEL":
            return None
        size_bytes = sum([len(each.data) for each in outputs if isinstance(each, Send)])
        if size_bytes <= MAX_UDP_REQUEST_BYTES:
            return None
        wide = self._large.stream_hop(hop, self._now_s())
        return wide if self._transports.local_address("tcp", hop) is not None else None

    def _check_connected(self, live: Live) -> None:
        if live.fallback is not None and not self._transports.stands(live.connection):
            self.on_send_error(live)

    def _fall_back(self, live: Live, hop: Hop) -> None:
        """Send a large request over UDP after all: its peer takes no TCP."""
        self._large.refused(hop, self._now_s())
        self._forget(live)
        user, live.user = live.user, None
        if isinstance(user, ClientTransaction):
            user.request.replace_top_via(self._own_via(hop))
            again, outputs = self._make_client(user, hop)
            self._launch(again, outputs)
            if isinstance(live.machine, InviteClient) and live.machine.is_cancelled:
                self.cancel(again)

    def send_response(self, live: Live, response: Response) -> None:
        """Send a response of a server transaction; users call `ServerTransaction.respond`."""
        if response.headers.first_row("Server") is None:
            response.headers.set("Server", self._user_agent)
        now_s = self._now_s()
        machine = cast("ServerMachine", live.machine)
        outputs = machine.respond(response, now_s)
        if outputs:
            self._counters_out[live.hop.transport].count(response)
        self._run(live, outputs)

    def cancel(self, live: Live) -> None:
        """Cancel an INVITE; users call `ClientTransaction.cancel`."""
        machine = live.machine
        if isinstance(machine, InviteClient):
            now_s = self._now_s()
            self._run(live, machine.cancel(now_s))

    # The network's side

    def on_message(self, message: Request | Response, source: Hop) -> None:
        """Take a message from a socket."""
        self._counters_in[source.transport].count(message)
        try:
            if isinstance(message, Request):
                self._receive_request(message, source)
            else:
                self._receive_response(message)
        except SipSyntaxError as error:  # in a header that nobody read before
            error.partial = message if isinstance(message, Request) else None
            self.on_malformed(error, source)
        except Exception:
            INTERNAL_ERRORS.inc()
            log.exception("sip_message_failed", transport=source.transport)

    def on_malformed(self, error: SipSyntaxError, source: Hop) -> None:
        """Count what could not be parsed, and answer it when that is possible."""
        MALFORMED.labels(error.kind.value).inc()
        if self.guard is not None:
            self.guard.on_malformed(source)
        request = error.partial
        if request is None or request.method == "ACK":
            return
        reason = error.reason if error.status == 400 else None
        self._refuse_statelessly(request, source, error.status, reason)

    def on_connection_lost(self, connection: int, *, stood: bool) -> None:
        """Fail the requests that were sent on a connection and have no response yet."""
        if stood:
            self.on_flow_lost(connection)
        for live in self._on_connection.pop(connection, {}).values():
            if live.machine.state in _UNANSWERED:
                if stood:
                    live.fallback = None  # the peer may have read it
                self.on_send_error(live)

    def on_unreachable(self, datagram: bytes) -> None:
        """Fail the request that found nobody; its branch proves that the report is no forgery."""
        quoted = quoted_request(datagram)
        live = None if quoted is None else self._clients.get(client_key(*quoted))
        if live is not None and live.machine.state in _UNANSWERED:
            self.on_send_error(live)

    def on_send_error(self, live: Live) -> None:
        """Take a transport error of a transaction."""
        fallback, live.fallback = live.fallback, None
        if fallback is None:
            self._run(live, live.machine.transport_error())
        elif not self._closed:
            self._fall_back(live, fallback)

    def _send_refusal(self, refusal: bytes, hop: Hop) -> None:
        self._transports.send(refusal, hop, _ignore_error)

    def _refuse_statelessly(
        self,
        request: Request,
        source: Hop,
        status: int,
        reason: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        try:
            hop = stamp_via(request, source)
        except SipSyntaxError:
            hop = source  # the Via is what cannot be read
        response = response_to(request, status, reason, headers=headers)
        response.headers.set("Server", self._user_agent)
        self.forward(response, hop)

    def _receive_response(self, response: Response) -> None:
        edge, via = self.edge, response.top_via
        is_of_edge = edge is not None and via.branch.startswith(edge.branch_prefix)
        if is_of_edge and edge is not None and edge.take_response(response):
            return
        live = self._clients.get(client_key(via, response.cseq[1]))
        if live is None or not response.has_one_via:
            # A response with a second Via is meant for somebody else (RFC 3261 8.1.3.3).
            # RFC 6026 7.2: what matches no transaction is dropped, not passed to the core.
            STRAY_RESPONSES.inc()
            return
        now_s = self._now_s()
        self._run(live, cast("ClientMachine", live.machine).receive(response, now_s))

    def _receive_request(self, request: Request, source: Hop) -> None:
        method = request.method
        sender = self._trusted_proxies.source_of(request, source.host)
        edge = self.edge
        has_route = request.headers.first_row("Route") is not None
        if has_route and edge is not None and edge.take_request(request, source):
            return
        hop = stamp_via(request, source)
        key = server_key(request, "INVITE" if method == "ACK" else method)
        live = self._servers.get(key)
        now_s = self._now_s()
        if live is not None:
            if method != "ACK":
                RETRANSMITTED_IN.inc()
            self._run(live, cast("ServerMachine", live.machine).receive(request, now_s))
        elif method == "ACK":
            self.on_ack(request, hop)
        elif self._closed or self.transaction_count >= self._max_transactions:
            self._refuse_statelessly(request, source, 503, headers=_LATER)
        elif (verdict := self._judge(request, source, sender, now_s)) != PASS:
            if verdict != DROP:
                headers = _LATER if verdict == 503 else ()
                self._refuse_statelessly(request, source, verdict, headers=headers)
        elif (wait_s := self._shedding.retry_after(request, key, sender, now_s)) is not None:
            later = (("Retry-After", str(wait_s)),)
            self._refuse_statelessly(request, source, 503, headers=later)
        else:
            machine = server_machine(request, reliable=hop.transport != "udp", timers=self.timers)
            live = Live(self, machine, hop)
            live.user = ServerTransaction(live, request, sender)
            self._servers[key] = live
            self._run(live, machine.start(request, now_s))

    def _judge(self, request: Request, hop: Hop, source: str, now_s: float) -> int:
        if self.guard is None:
            return PASS
        if request.method == "CANCEL" and server_key(request, "INVITE") in self._servers:
            return PASS  # its INVITE was let in
        return self.guard.judge(request, hop, source, now_s)

    def _deliver_request(self, user: ServerTransaction) -> None:
        try:
            if user.request.method == "CANCEL":
                self._receive_cancel(user)
            else:
                self.on_request(user)
        except Exception:
            INTERNAL_ERRORS.inc()
            log.exception("sip_request_failed", method=user.request.method)
            user.respond(response_to(user.request, 500, to_tag=user.to_tag))

    def _receive_cancel(self, user: ServerTransaction) -> None:
        """Answer a CANCEL and pass it to the INVITE it is for (RFC 3261 9.2)."""
        target = self._servers.get(server_key(user.request, "INVITE"))
        if target is None:
            user.respond(response_to(user.request, 481))
            return
        invite = target.user
        to_tag = invite.to_tag if isinstance(invite, ServerTransaction) else None
        user.respond(response_to(user.request, 200, to_tag=to_tag))
        if (
            isinstance(invite, ServerTransaction)
            and target.machine.state is State.PROCEEDING
            and invite.on_cancel is not None
        ):
            invite.on_cancel()

    # Outputs of the machines

    def _run(self, live: Live, outputs: Outputs) -> None:
        for output in outputs:
            if isinstance(output, Send):
                if output.retransmission:
                    RETRANSMITTED_OUT.inc()
                live.connection = self._transports.send(output.data, live.hop, live.on_send_error)
            elif isinstance(output, SetTimer):
                self._set_timer(live, output)
            elif isinstance(output, Deliver):
                self._deliver(live, output.message)
            elif isinstance(output, Failed):
                self._fail(live, output.code)
            elif output is Signal.TERMINATED:
                self._forget(live)
            else:
                self._send_cancel(live)
        if outputs and live.machine.state not in _USER_STATES.get(type(live.machine), _LIVE_STATES):
            live.user = None

    def _deliver(self, live: Live, message: Request | Response) -> None:
        user = live.user
        if isinstance(message, Response):
            if isinstance(user, ClientTransaction):
                user.on_response(message)
        elif message.method == "ACK":
            self.on_ack(message, live.hop)
        elif isinstance(user, ServerTransaction):
            self._deliver_request(user)

    def _fail(self, live: Live, code: Code) -> None:
        if self.outbound_proxy is not None:
            self.outbound_proxy.failed(live.hop)
        user, live.user = live.user, None
        if user is not None and user.on_failure is not None:
            user.on_failure(code)

    def _forget(self, live: Live) -> None:
        table = self._clients if isinstance(live.machine, ClientMachine) else self._servers
        table.pop(live.machine.key, None)
        if live.connection:
            sharing = self._on_connection.get(live.connection)
            if sharing is not None:
                sharing.pop(live.machine.key, None)

    def _send_cancel(self, live: Live) -> None:
        user = live.user
        if isinstance(user, ClientTransaction):
            request = cancel(user.request, user.cancel_headers)
            self._start_client(
                ClientTransaction(request, _ignore_response, _ignore_failure), live.hop
            )

    # Timers: one heap, one call of the loop

    def _set_timer(self, live: Live, output: SetTimer) -> None:
        self._heap.push(output.at_s, live, output.timer)
        if output.at_s < self._wake_s:
            self._wake_at(output.at_s)

    def _wake_at(self, at_s: float) -> None:
        if self._closed:
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wake_s = at_s
        self._wake = asyncio.get_running_loop().call_at(at_s, self._fire_due)

    def _fire_due(self) -> None:
        now_s = self._now_s()
        self._wake = None
        self._wake_s = -math.inf  # timers set meanwhile wait for the end of this function
        while (due := self._heap.pop_due(now_s)) is not None:
            live, timer = due
            try:
                self._run(live, live.machine.fire(timer, now_s))
            except Exception:
                INTERNAL_ERRORS.inc()
                log.exception("sip_timer_failed", timer=timer.name)
        self._wake_s = math.inf
        if (next_s := self._heap.next_s) < math.inf:
            # Timers that are due close together share one wake-up.
            self._wake_at(max(next_s, now_s + _TIMER_GRANULARITY_S))


# While a machine is in one of these states, its user may still have to hear of it.
_USER_STATES: dict[type, tuple[State, ...]] = {
    InviteClient: (State.CALLING, State.PROCEEDING, State.ACCEPTED),
    InviteServer: (State.PROCEEDING, State.COMPLETED),
}


def _other_family(advertised: str, bound: str) -> bool:
    """Whether an advertised host cannot stand for a bound one: an IPv4 address for IPv6's."""
    family = address_family(advertised)
    return family is not None and family is not address_family(bound)


def _refuse(transaction: ServerTransaction) -> None:
    transaction.respond(response_to(transaction.request, 501))


def _ignore_ack(_request: Request, _hop: Hop) -> None:
    """Drop the ACK of an endpoint that takes no calls."""


def _ignore_flow(_connection: int) -> None:
    """Take no note of a connection that is gone."""


def _ignore_response(_response: Response) -> None:
    """Drop the response to a CANCEL: the INVITE's own response tells the outcome."""


def _ignore_failure(_code: Code) -> None:
    """Drop the failure of a CANCEL: the INVITE times out by itself."""


def _ignore_error() -> None:
    """Drop the error of a message without a transaction."""
