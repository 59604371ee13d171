"""The user agent core: gives each request to the session, registrar or answer it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from cti.sip.authentication.digest import Credentials
from cti.sip.client_requests import Registrations, final_response, new_request
from cti.sip.endpoint import ServerTransaction, SipEndpoint
from cti.sip.messages.message import Request, Response, SipSyntaxError, new_tag, response_to
from cti.sip.messages.session_description import SDP_TYPE, answer_refusal, body_refusal
from cti.sip.messages.uri import NameAddr, SipUri
from cti.sip.registration.registrar import Registrar
from cti.sip.sessions.session import (
    InDialogHandler,
    InviteSession,
    SessionObserver,
    SessionObserverBase,
)
from cti.sip.sessions.session_policy import SessionPolicy
from cti.sip.sessions.session_timer import interval_refusal
from cti.sip.transports.transport import Hop, transport_params
from domain.failures import Code, PlatformError

_METHODS = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "INFO", "NOTIFY", "PRACK", "UPDATE")
# Methods we know and do not offer get 405, all others 501 (RFC 3261 8.2.1 and 21.5.2).
_REFUSED_METHODS = frozenset({
    "REGISTER", "MESSAGE", "PUBLISH", "REFER", "SUBSCRIBE",
})  # fmt: skip
_URI_SCHEMES = ("sip", "sips", "tel")
_UNAVAILABLE_RETRY_S = 10

SessionKey = tuple[str, str]
InviteKey = tuple[str, str, int]
OutOfDialogHandler = Callable[[ServerTransaction], None]


class UserAgent:
    """Sessions and registrations over one endpoint. All methods belong to its event loop."""

    def __init__(
        self,
        endpoint: SipEndpoint,
        *,
        on_invite: Callable[[InviteSession], None],
        registrar: Registrar | None = None,
        contact_user: str = "",
        policy: SessionPolicy | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.policy = policy or SessionPolicy()
        self._invite_headers = self.policy.invite_headers
        self._methods: tuple[str, ...] = _METHODS
        self._event_packages: tuple[str, ...] = ("talk",)
        self._extensions: tuple[str, ...] = self.policy.extensions
        self.capabilities: tuple[tuple[str, str], ...] = ()
        self.in_dialog: dict[str, InDialogHandler] = {}
        self._out_of_dialog: dict[str, OutOfDialogHandler] = {}
        self._state_capabilities()
        self._on_invite = on_invite
        self._contact_user = contact_user
        self._sessions: dict[SessionKey, InviteSession] = {}
        self._invites: dict[InviteKey, InviteSession] = {}
        self._registrations = Registrations(endpoint)
        self.is_available: Callable[[], bool] = _always
        """Whether new calls are taken; OPTIONS is answered accordingly."""
        endpoint.on_request = self._receive
        endpoint.on_ack = self._receive_ack
        self._registrar = registrar
        if registrar is not None:
            extensions = registrar.extensions
            self.serve("REGISTER", out_of_dialog=registrar.receive, extensions=extensions)

    def serve(
        self,
        method: str,
        *,
        in_dialog: InDialogHandler | None = None,
        out_of_dialog: OutOfDialogHandler | None = None,
        event_packages: Iterable[str] = (),
        extensions: Iterable[str] = (),
    ) -> None:
        """Offer a further method; requests with a To tag of no session go `out_of_dialog` too."""
        if method not in self._methods:
            self._methods = (*self._methods, method)
        if in_dialog is not None:
            self.in_dialog[method] = in_dialog
        if out_of_dialog is not None:
            self._out_of_dialog[method] = out_of_dialog
        self._event_packages = tuple(dict.fromkeys((*self._event_packages, *event_packages)))
        self._extensions = tuple(dict.fromkeys((*self._extensions, *extensions)))
        self._state_capabilities()

    def contact(self, hop: Hop) -> str:
        """Return the Contact for dialogs that a module of its own makes with the peer at `hop`."""
        return self._contact(hop)

    def session_of(self, call_id: str, local_tag: str, remote_tag: str) -> InviteSession | None:
        """Return the session of a dialog, as Replaces names it (RFC 3891 3)."""
        session = self._sessions.get((call_id, local_tag))
        return session if session is not None and session.remote_tag == remote_tag else None

    def _state_capabilities(self) -> None:
        self.capabilities = (
            ("Allow", ", ".join(self._methods)),
            ("Allow-Events", ", ".join(self._event_packages)),
            # An empty Supported says that there are no extensions (RFC 3261 20.37).
            ("Supported", ", ".join(self._extensions)),
        )

    @property
    def session_count(self) -> int:
        """Sessions that are known, those that wait for the last response included."""
        return len(self._sessions)

    def held(self) -> dict[str, int]:
        """Count what is held in memory, by name: none may grow without calls that grow."""
        return {"sessions": len(self._sessions), **self.endpoint.held()}

    async def aclose(self) -> None:
        """Stop what waits for a store; sessions are for their owners to end."""
        if self._registrar is not None:
            self._registrar.close()

    # Requests from the network

    def _receive(self, server: ServerTransaction) -> None:
        try:
            self._dispatch(server)
        except SipSyntaxError as error:
            server.respond(response_to(server.request, 400, error.reason))

    def _dispatch(self, server: ServerTransaction) -> None:
        request = server.request
        refusal = self._refusal(request)
        if refusal is not None:
            server.respond(refusal)
            return
        tag = request.to.tag
        if tag is not None:
            session = self._sessions.get((request.call_id, tag))
            if session is not None:
                session.handle(server)
            elif (other := self._out_of_dialog.get(request.method)) is not None:
                other(server)
            else:
                server.respond(response_to(request, 481))
        elif request.method == "INVITE":
            self._receive_invite(server)
        elif request.method == "OPTIONS":
            self._receive_options(server)
        elif (handler := self._out_of_dialog.get(request.method)) is not None:
            handler(server)
        else:
            server.respond(response_to(request, 481))

    def _receive_options(self, server: ServerTransaction) -> None:
        """Answer as an INVITE would be (11.2); carriers probe us by it."""
        if self.is_available():
            headers = (*self.capabilities, ("Accept", SDP_TYPE))
            server.respond(response_to(server.request, 200, headers=headers))
        else:
            headers = (("Retry-After", str(_UNAVAILABLE_RETRY_S)),)
            server.respond(response_to(server.request, 503, headers=headers))

    def _refusal(self, request: Request) -> Response | None:
        """Inspect method and headers (RFC 3261 8.2.1 and 8.2.2)."""
        if request.method not in self._methods:
            known = request.method in _REFUSED_METHODS
            status = 405 if known else 501
            return response_to(request, status, headers=self.capabilities[:1])
        if request.uri.partition(":")[0].lower() not in _URI_SCHEMES:
            return response_to(request, 416)
        if request.headers.first_row("Require") is None:
            return None
        required = [each for each in request.headers.get_all("Require") if each]
        unsupported = [each for each in required if each.lower() not in self._extensions]
        if unsupported:
            headers = tuple(("Unsupported", each) for each in unsupported)
            return response_to(request, 420, headers=headers)
        return None

    def _receive_invite(self, server: ServerTransaction) -> None:
        request = server.request
        if request.headers.first_row("Max-Forwards") == "0":
            # We would place further calls for it: a loop of calls ends here (RFC 7332).
            server.respond(response_to(request, 483))
            return
        key = _invite_key(request)
        if key in self._invites:
            server.respond(response_to(request, 482))  # 8.2.2.2: it came over two ways
            return
        refusal = (
            body_refusal(request)
            or answer_refusal(request)
            or interval_refusal(request, self.policy)
        )
        if refusal is not None:
            server.respond(refusal)
            return
        session = InviteSession(
            self,
            request,
            server.hop,
            direction="in",
            local_tag=new_tag(),
            contact=self._contact(server.hop),
            observer=SessionObserverBase(),
        )
        session.receive(server)
        self._invites[key] = session
        self._sessions[session.call_id, session.local_tag] = session
        try:
            self._on_invite(session)
        except Exception:
            session.end(Code.INTERNAL)
            raise

    def _receive_ack(self, request: Request, _hop: Hop) -> None:
        session = self._sessions.get((request.call_id, request.to.tag or ""))
        if session is not None:
            session.handle_ack(request)

    def forget(self, session: InviteSession) -> None:
        """Take a session off the tables; sessions call it when they are over."""
        self._sessions.pop((session.call_id, session.local_tag), None)
        if session.direction == "in":
            self._invites.pop(_invite_key(session.request), None)

    # Requests of our own

    def invite(
        self,
        uri: str,
        *,
        from_: NameAddr | str,
        hop: Hop,
        sdp: bytes,
        observer: SessionObserver,
        to: NameAddr | str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        credentials: Credentials | None = None,
        route: Sequence[str] = (),
        max_forwards: int = 70,
        answer_within_s: float | None = None,
        follow_redirects: bool = False,
    ) -> InviteSession:
        """Call `uri` by way of `hop`; what becomes of it is told to the observer.

        Without any response within `answer_within_s` the call has ended with SIP_TIMEOUT. A 3xx is
        followed, or ends the call with MOVED.

        `from_` and `to` are addresses, or URIs as text. ValueError when one cannot be written.
        """
        tag, contact = new_tag(), self._contact(hop)
        request = new_request("INVITE", uri, from_, to or uri, tag=tag, max_forwards=max_forwards)
        request.headers.set("Contact", contact)
        for name, value in (*self.capabilities, *self._invite_headers, *headers):
            request.headers.add(name, value)
        for each in route:
            request.headers.add("Route", each)
        if sdp:
            request.headers.set("Content-Type", SDP_TYPE)
            request.body = sdp
        session = InviteSession(
            self,
            request,
            hop,
            direction="out",
            local_tag=tag,
            contact=contact,
            observer=observer,
            credentials=credentials,
            follow_redirects=follow_redirects,
        )
        self._sessions[session.call_id, tag] = session
        session.start(answer_within_s)
        return session

    async def register(
        self,
        *,
        registrar_uri: str,
        aor: str,
        hop: Hop,
        credentials: Credentials | None,
        expires_s: int,
    ) -> int:
        """Register, refresh or (with 0) remove our contact; return the seconds granted.

        PlatformError AUTHENTICATION_FAILED, SIP_TIMEOUT, SIP_TRANSPORT or what the status means.
        """
        address = NameAddr(aor)
        user = address.uri.user if isinstance(address.uri, SipUri) else ""
        granted = await self._registrations.register(
            registrar_uri=registrar_uri,
            aor=address,
            contact=self._contact(hop, user),
            hop=hop,
            credentials=credentials,
            expires_s=expires_s,
        )
        return granted.expires_s

    async def request(
        self,
        method: str,
        uri: str,
        *,
        from_: NameAddr | str,
        hop: Hop,
        to: NameAddr | str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        route: Sequence[str] = (),
        credentials: Credentials | None = None,
    ) -> Response:
        """Send a request outside of any dialog, other than INVITE; return its final response.

        Challenges are met with `credentials`. PlatformError SIP_TIMEOUT or SIP_TRANSPORT,
        ValueError when an address cannot be written.
        """
        request = new_request(method, uri, from_, to or uri, tag=new_tag())
        for name, value in headers:
            request.headers.add(name, value)
        for each in route:
            request.headers.add("Route", each)
        if content_type is not None:
            request.headers.set("Content-Type", content_type)
            request.body = body
        return await final_response(self.endpoint, request, hop, credentials)

    def _contact(self, hop: Hop, user: str | None = None) -> str:
        """Return the Contact by which the peer at `hop` reaches us."""
        try:
            host, port = self.endpoint.local_address(hop.transport, hop)
        except PlatformError:
            host, port = "invalid", 5060  # nothing can be sent either; the request will fail
        return _contact(self._contact_user if user is None else user, host, port, hop.transport)


@lru_cache(maxsize=1024)
def _contact(user: str, host: str, port: int, transport: str) -> str:
    """Write a Contact: at most one of each trunk and socket."""
    return f"<{SipUri(user=user, host=host, port=port, params=transport_params(transport))}>"


def _always() -> bool:
    return True


def _invite_key(request: Request) -> InviteKey:
    return request.call_id, request.from_.tag or "", request.cseq[0]
