"""Transactions as their users see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from cti.sip.messages.message import Request, Response
from cti.sip.messages.uri import NameAddr
from cti.sip.transactions.client_transaction import ClientMachine
from cti.sip.transactions.server_transaction import ServerMachine
from cti.sip.transports.transport import Hop
from domain.failures import Code


class ServerTransaction:
    """A request that waits for its responses."""

    __slots__ = ("_live", "_responded_to", "hop", "on_cancel", "on_failure", "request", "source")

    def __init__(self, live: Live, request: Request, source: str) -> None:
        self.request = request
        self.hop = live.hop
        """Where the request came from and its responses go."""
        self.source = source
        """The address of the sender, also where a trusted proxy of ours stands between."""
        self.on_cancel: Callable[[], None] | None = None
        """INVITE only: the client gave up. The CANCEL is answered already, the INVITE is not."""
        self.on_failure: Callable[[Code], None] | None = None
        """SIP_TRANSPORT, ACK_MISSING for a final response other than 2xx, or SIP_TIMEOUT."""
        self._live = live
        self._responded_to = ""

    @property
    def to_tag(self) -> str | None:
        """The To tag of the last response."""
        return NameAddr.parse(self._responded_to).tag if self._responded_to else None

    def respond(self, response: Response) -> None:
        """Send a response; one that comes too late for the transaction is dropped."""
        self._responded_to = response.headers.first_row("To") or ""
        self._live.endpoint.send_response(self._live, response)


class ClientTransaction:
    """A request that waits for its responses."""

    __slots__ = ("cancel_headers", "is_cancelled", "live", "on_failure", "on_response", "request")

    def __init__(
        self,
        request: Request,
        on_response: Callable[[Response], None],
        on_failure: Callable[[Code], None],
    ) -> None:
        self.request = request
        """The request as sent, with its Via."""
        self.on_response = on_response
        self.on_failure = on_failure
        self.cancel_headers: tuple[tuple[str, str], ...] = ()
        """What the CANCEL says besides, such as its Reason (RFC 3326)."""
        self.is_cancelled = False
        self.live: Live | None = None
        """Its transaction; the endpoint sets it, once it is known where the request goes."""

    @property
    def hop(self) -> Hop | None:
        """Where the request went; None while that is being looked up."""
        return None if self.live is None else self.live.hop

    def cancel(self, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Give an INVITE up: CANCEL goes out after a provisional response (RFC 3261 9.1).

        The outcome comes as usual: mostly a 487, sometimes a 2xx that was faster.
        """
        self.cancel_headers = tuple(headers)
        self.is_cancelled = True
        if self.live is not None:
            self.live.endpoint.cancel(self.live)


class Host(Protocol):
    """What transactions ask of their endpoint."""

    def send_response(self, live: Live, response: Response) -> None:
        """Send a response of a server transaction."""

    def cancel(self, live: Live) -> None:
        """Cancel an INVITE."""

    def on_send_error(self, live: Live) -> None:
        """Take a transport error."""


class Live:
    """A transaction in the table. It lets go of its user, whom messages may keep large, early."""

    __slots__ = ("connection", "endpoint", "fallback", "hop", "machine", "user")

    def __init__(self, endpoint: Host, machine: ClientMachine | ServerMachine, hop: Hop) -> None:
        self.endpoint = endpoint
        self.machine = machine
        self.hop = hop
        self.user: ClientTransaction | ServerTransaction | None = None
        self.connection = 0
        self.fallback: Hop | None = None
        """Where to send again when no connection can be made."""

    def on_send_error(self) -> None:
        """Take a transport error."""
        self.endpoint.on_send_error(self)
