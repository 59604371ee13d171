"""Our own requests outside of dialogs, other than INVITE (RFC 3261 8.1, 10.2 and 22.2)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass

from cti.sip.authentication.client_auth import MAX_ATTEMPTS, authorized_again
from cti.sip.authentication.digest import Credentials
from cti.sip.endpoint import SipEndpoint
from cti.sip.messages.message import Headers, Request, Response, SipSyntaxError, new_tag
from cti.sip.messages.uri import NameAddr, SipUri
from cti.sip.sessions.causes import retry_after_s
from cti.sip.transports.transport import Hop
from domain.failures import Code, PlatformError

_MAX_SERVICE_ROUTE = 8


def new_request(
    method: str,
    uri: str,
    from_: NameAddr | str,
    to: NameAddr | str,
    *,
    tag: str,
    max_forwards: int = 70,
) -> Request:
    """Build a request outside of any dialog (8.1.1)."""
    source = from_ if isinstance(from_, NameAddr) else NameAddr(from_)
    target = to if isinstance(to, NameAddr) else NameAddr(to)
    headers = Headers()
    headers.set("Max-Forwards", str(max_forwards))
    headers.set("From", str(source.with_tag(tag)))
    headers.set("To", str(target))
    headers.set("Call-ID", os.urandom(16).hex())
    headers.set("CSeq", f"1 {method}")
    return Request(method, uri, headers)


async def final_response(
    endpoint: SipEndpoint, request: Request, hop: Hop, credentials: Credentials | None = None
) -> Response:
    """Send a request and wait for its final response; challenges are met with `credentials`.

    PlatformError SIP_TIMEOUT or SIP_TRANSPORT.
    """
    for _ in range(MAX_ATTEMPTS - 1):
        response = await _sent(endpoint, request, hop)
        again = authorized_again(request, response, credentials, cseq=request.cseq[0] + 1)
        if again is None:
            return response
        request = again
    return await _sent(endpoint, request, hop)


async def _sent(endpoint: SipEndpoint, request: Request, hop: Hop) -> Response:
    outcome: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def on_response(response: Response) -> None:
        if response.status >= 200 and not outcome.done():
            outcome.set_result(response)

    def on_failure(code: Code) -> None:
        if not outcome.done():
            outcome.set_exception(PlatformError(code, f"{hop.transport} {hop.host}"))

    endpoint.send_request(request, hop, on_response=on_response, on_failure=on_failure)
    return await outcome


@dataclass(frozen=True, slots=True)
class Granted:
    """What a registrar has granted us."""

    expires_s: int
    service_route: tuple[str, ...] = ()
    """The proxies that it wants our further requests to pass (RFC 3608)."""


class RegistrationError(PlatformError):
    """A registrar that does not take our contact."""

    def __init__(self, response: Response) -> None:
        super().__init__(_register_failure(response.status), f"status {response.status}")
        self.retry_after_s = retry_after_s(response)


class Registrations:
    """Our own registrations with other registrars, such as carriers' (10.2)."""

    def __init__(self, endpoint: SipEndpoint) -> None:
        self._endpoint = endpoint
        self._last: dict[tuple[str, str], tuple[str, int]] = {}

    async def register(
        self,
        *,
        registrar_uri: str,
        aor: NameAddr,
        contact: str,
        hop: Hop,
        credentials: Credentials | None,
        expires_s: int,
        route: Sequence[str] = (),
    ) -> Granted:
        """Register, refresh or (with 0) remove `contact`.

        PlatformError SIP_TIMEOUT or SIP_TRANSPORT, RegistrationError by the registrar.
        """
        # 10.2: all registrations of a client share a Call-ID, and their CSeq grows.
        key = registrar_uri, str(aor)
        call_id, cseq = self._last.get(key, ("", 0))
        request = new_request("REGISTER", registrar_uri, aor, aor, tag=new_tag())
        if call_id:
            request.headers.set("Call-ID", call_id)
        request.headers.set("Contact", contact)
        request.headers.set("Expires", str(expires_s))
        request.headers.set("Supported", "path")  # RFC 3327 5.1: proxies may put themselves in
        for each in route:
            request.headers.add("Route", each)
        for attempt in range(MAX_ATTEMPTS + 1):
            cseq += 1
            request.headers.set("CSeq", f"{cseq} REGISTER")
            self._last[key] = (request.call_id, cseq)
            response = await _sent(self._endpoint, request, hop)
            if response.status < 300:
                granted_s = _granted_s(response, contact, expires_s)
                return Granted(granted_s, _service_route(response))
            again = _again(request, response, credentials) if attempt < MAX_ATTEMPTS else None
            if again is None:
                raise RegistrationError(response)
            request = again
        raise PlatformError(Code.AUTHENTICATION_FAILED, "the registrar asks again and again")


def _again(request: Request, response: Response, credentials: Credentials | None) -> Request | None:
    """Return the REGISTER to send after a response that tells what was missing."""
    if response.status == 423:  # 10.2.8
        shortest = response.headers.get("Min-Expires") or ""
        if not (shortest.isascii() and shortest.isdigit() and len(shortest) <= 9):
            return None
        again = request.copy()
        again.headers.remove("Via")
        again.headers.set("Expires", shortest)
        return again
    return authorized_again(request, response, credentials, cseq=request.cseq[0] + 1)


def _register_failure(status: int) -> Code:
    if status in {401, 403, 407}:
        return Code.AUTHENTICATION_FAILED
    return Code.SIP_TIMEOUT if status == 408 else Code.FAR_END_REFUSED


def _granted_s(response: Response, contact: str, asked_s: int) -> int:
    """Return how long our contact stays bound (10.2.4)."""
    ours = NameAddr.parse(contact).uri
    texts = [response.headers.get("Expires")]
    try:
        for value in response.headers.get_all("Contact"):
            address = NameAddr.parse(value)
            if address.uri == ours:
                texts.insert(0, address.params.get("expires"))
    except SipSyntaxError:
        pass
    for text in texts:
        if text is not None and text.isascii() and text.isdigit() and len(text) <= 10:
            return int(text)
    return asked_s


def _service_route(response: Response) -> tuple[str, ...]:
    """Return the Service-Route (RFC 3608 5); none unless all of it can be a Route of ours."""
    try:
        values = response.headers.get_all("Service-Route")
        uris = [NameAddr.parse(value).uri for value in values[: _MAX_SERVICE_ROUTE + 1]]
    except SipSyntaxError:
        return ()
    # 6.3: each names a loose router.
    usable = all(isinstance(uri, SipUri) and "lr" in uri.params for uri in uris)
    return tuple(values) if usable and len(uris) <= _MAX_SERVICE_ROUTE else ()
