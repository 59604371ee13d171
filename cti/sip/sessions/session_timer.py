"""The session timer: a session that nobody refreshes has ended (RFC 4028)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from cti.sip.messages.message import Request, Response, response_to
from cti.sip.sessions.session_policy import SessionPolicy, lists, session_interval
from domain.failures import Code

if TYPE_CHECKING:
    from cti.sip.sessions.session import InviteSession

EXTENSION = "timer"
_BYE_AHEAD_S = 32.0
Header = tuple[str, str]


class SessionTimer:
    """The timer of one session; made only for those whose far end knows the extension."""

    __slots__ = ("_interval_s", "_min_se_s", "_policy", "_refreshes", "_session", "_timer")

    def __init__(self, session: InviteSession) -> None:
        policy = session.policy
        self._session = session
        self._policy = policy
        self._interval_s = policy.session_expires_s
        self._min_se_s = policy.min_se_s
        self._refreshes: bool | None = None  # whether it is us; None without a timer
        self._timer: asyncio.TimerHandle | None = None

    # Our requests

    def ask(self) -> tuple[Header, ...]:
        """Return the headers of an INVITE or UPDATE of ours after the first (7.3, 7.4)."""
        if not self._policy.session_expires_s:
            return ()
        value = str(self._interval_s)
        if self._refreshes is not None:
            # The roles of a dialog stay as they are, told as those of this very request.
            value += ";refresher=uac" if self._refreshes else ";refresher=uas"
        return session_interval(value, self._min_se_s)

    def lengthen(self, response: Response) -> bool:
        """Take the Min-SE of a 422; False when it gives no reason to ask again (7.3)."""
        shortest_s = _min_se_s(response)
        if shortest_s is None or shortest_s <= self._min_se_s or not self._policy.session_expires_s:
            return False
        self._min_se_s = shortest_s
        self._interval_s = max(self._interval_s, shortest_s)
        return True

    def agreed(self, response: Response) -> None:
        """Start again as the 2xx to our request says (7.2)."""
        interval_s, refresher = _session_expires(response)
        if interval_s is None or not self._policy.session_expires_s:
            self.stop()
        else:
            # 7.2 wants the refresher named; where it is not, it is better us than nobody.
            self._start(max(interval_s, self._policy.min_se_s), refreshes=refresher != "uas")

    # The far end's requests

    def agree(self, request: Request) -> tuple[Header, ...]:
        """Start again as we answer `request`; return the headers of the 2xx (9)."""
        longest_s = self._policy.session_expires_s
        asked_s, refresher = _session_expires(request)
        supported = lists(request, "Supported", EXTENSION)
        if asked_s is None and not supported:
            self.stop()
            return ()
        interval_s = max(longest_s, _min_se_s(request) or 0)
        if asked_s is not None:
            interval_s = max(min(asked_s, interval_s), self._policy.min_se_s)
        # Table 2: a client without the extension never refreshes; another may, and shall unless
        # it wants us to.
        refresher = (refresher or "uac") if supported else "uas"
        self._start(interval_s, refreshes=refresher == "uas")
        headers = (("Session-Expires", f"{interval_s};refresher={refresher}"),)
        return headers if refresher == "uas" else (*headers, ("Require", EXTENSION))

    # The timer

    def stop(self) -> None:
        """End without a word."""
        self._refreshes = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, interval_s: int, *, refreshes: bool) -> None:
        self.stop()
        self._interval_s = interval_s
        self._refreshes = refreshes
        loop = asyncio.get_running_loop()
        if refreshes:
            self._timer = loop.call_later(interval_s / 2, self._refresh)
        else:
            self._timer = loop.call_later(self._bye_after_s, self._expire)

    @property
    def _bye_after_s(self) -> float:
        """10: a session ends somewhat before it expires."""
        return self._interval_s - min(_BYE_AHEAD_S, self._interval_s / 3)

    def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        left_s = self._bye_after_s - self._interval_s / 2
        self._timer = loop.call_later(left_s, self._expire)
        self._session.changes.refresh()

    def _expire(self) -> None:
        self._session.fail(Code.SIP_TIMEOUT)


def has_timer(message: Request | Response, policy: SessionPolicy) -> bool:
    """Whether a message of the far end gives a reason to have a session timer."""
    return policy.session_expires_s > 0 and (
        message.headers.first_row("Session-Expires") is not None
        or lists(message, "Supported", EXTENSION)
    )


def interval_refusal(request: Request, policy: SessionPolicy) -> Response | None:
    """Return the 422 to a session that would need more refreshes than we like (9)."""
    interval_s, _ = _session_expires(request)
    if (
        interval_s is None
        or not policy.session_expires_s
        or interval_s >= policy.min_se_s
        or not lists(request, "Supported", EXTENSION)
    ):
        return None
    return response_to(request, 422, headers=[("Min-SE", str(policy.min_se_s))])


def _seconds(value: str) -> int | None:
    """Return the seconds a header states, None where it states none."""
    text = value.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


def _min_se_s(message: Request | Response) -> int | None:
    value = message.headers.first_row("Min-SE")
    return None if value is None else _seconds(value.partition(";")[0])


def _session_expires(message: Request | Response) -> tuple[int | None, str]:
    """Return the seconds and the refresher, "uac" or "uas", each where it is stated."""
    value, _, params = (message.headers.first_row("Session-Expires") or "").partition(";")
    for each in params.lower().split(";") if params else ():
        name, _, refresher = each.partition("=")
        if name.strip() == "refresher" and refresher.strip() in {"uac", "uas"}:
            return _seconds(value), refresher.strip()
    return _seconds(value), ""
