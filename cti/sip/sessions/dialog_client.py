"""How a session's own requests go out inside its dialogs (RFC 3261 12.2.1 and 22.2)."""

from __future__ import annotations

from collections.abc import Callable

from cti.sip.authentication.client_auth import MAX_ATTEMPTS, authorized_again
from cti.sip.authentication.digest import Credentials
from cti.sip.endpoint import SipEndpoint
from cti.sip.messages.message import Request, Response
from cti.sip.sessions.dialog import Dialog
from domain.failures import Code

# RFC 5057 5.1: a 408 or 481 to these means the call itself.
_CALL_METHODS = frozenset({"INFO", "UPDATE"})


def ignore(_outcome: object) -> None:
    """Take the outcome of a request that nobody waits for."""


class DialogClient:
    """Sends requests, and again with credentials where the far end asks for them."""

    __slots__ = ("_attempts", "_credentials", "_endpoint")

    def __init__(self, endpoint: SipEndpoint, credentials: Credentials | None) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._attempts = 1

    def send(
        self,
        dialog: Dialog,
        request: Request,
        on_response: Callable[[Response], None] = ignore,
        on_failure: Callable[[Code], None] = ignore,
    ) -> None:
        """Send a request other than INVITE; a challenge is met once."""
        endpoint = self._endpoint
        if self._credentials is None:
            endpoint.send_request(
                request, dialog.next_hop(), on_response=on_response, on_failure=on_failure
            )
            return

        def on_first(response: Response) -> None:
            again = authorized_again(
                request, response, self._credentials, cseq=dialog.local_cseq + 1
            )
            if again is None:
                on_response(response)
                return
            dialog.local_cseq += 1
            endpoint.send_request(
                again, dialog.next_hop(), on_response=on_response, on_failure=on_failure
            )

        endpoint.send_request(
            request, dialog.next_hop(), on_response=on_first, on_failure=on_failure
        )

    def send_for_call(
        self,
        dialog: Dialog,
        request: Request,
        on_response: Callable[[Response], None],
        on_failure: Callable[[Code], None],
        on_gone: Callable[[Code], None],
    ) -> None:
        """Send a request; `on_gone` hears of a failure that means that the call is gone."""
        if request.method not in _CALL_METHODS:
            self.send(dialog, request, on_response, on_failure)
            return

        def on_outcome(response: Response) -> None:
            on_response(response)
            if response.status in {408, 481}:
                on_gone(Code.SIP_TIMEOUT if response.status == 408 else Code.FAR_END_REFUSED)

        def on_silence(code: Code) -> None:
            on_failure(code)
            on_gone(code)

        self.send(dialog, request, on_outcome, on_silence)

    def authorized(self, request: Request, response: Response, cseq: int) -> Request | None:
        """Return an INVITE or UPDATE again with credentials; None when that would not help."""
        if self._attempts >= MAX_ATTEMPTS:
            return None
        again = authorized_again(request, response, self._credentials, cseq=cseq)
        if again is not None:
            self._attempts += 1
        return again
