"""The Replaces header: an INVITE that takes the place of a call (RFC 3891)."""

from __future__ import annotations

from typing import NamedTuple

from cti.sip.messages.message import Request
from cti.sip.messages.syntax import Malformed, SipSyntaxError, is_token, parse_params
from cti.sip.sessions.session import InviteSession, SessionState
from cti.sip.user_agent import UserAgent

# RFC 3261 25.1: what a word has besides the characters of a token.
_DELETE_WORD_CHARS = dict.fromkeys(map(ord, '()<>:\\"/[]?{}'))


class Replaces(NamedTuple):
    """The dialog to replace, as its receiver knows it: the to-tag is the receiver's own."""

    call_id: str
    to_tag: str
    from_tag: str
    early_only: bool

    @classmethod
    def parse(cls, value: str) -> Replaces:
        """Parse a header value (6.1); SipSyntaxError when it is not exactly one dialog."""
        call_id, semicolon, rest = value.strip().partition(";")
        call_id = call_id.rstrip()
        params = parse_params(semicolon + rest)
        to_tag, from_tag = params.get("to-tag"), params.get("from-tag")
        if not _is_call_id(call_id) or not _is_tag(to_tag) or not _is_tag(from_tag):
            raise SipSyntaxError(Malformed.HEADER_VALUE, "Malformed Replaces")
        return cls(call_id, to_tag or "", from_tag or "", "early-only" in params)


def replaces_of(request: Request) -> Replaces | None:
    """Return what a request replaces, None without the header; SipSyntaxError for a broken one."""
    rows = request.headers.rows("Replaces")
    if not rows:
        return None
    # Section 3: more than one, or Join beside it, leaves open which call is meant.
    if len(rows) > 1 or request.method != "INVITE" or "Join" in request.headers:
        raise SipSyntaxError(Malformed.HEADER_REPEATED, "Replaces stands once, and in INVITE")
    return Replaces.parse(rows[0])


def replaced_session(user_agent: UserAgent, request: Request) -> InviteSession | int | None:
    """Return the session an INVITE replaces, or the status to refuse it with (section 3).

    None without the header. Whether its sender may take the call is for the caller to judge.
    """
    try:
        replaces = replaces_of(request)
    except SipSyntaxError:
        return 400
    if replaces is None:
        return None
    session = user_agent.session_of(replaces.call_id, replaces.to_tag, replaces.from_tag)
    if session is None:
        return 481
    if session.state is SessionState.TERMINATED:
        return 603
    if session.state is SessionState.CONFIRMED:
        return 486 if replaces.early_only else session
    # A call that rings here was not begun by us: its early dialog cannot be taken over.
    return 481 if session.direction == "in" else session


def offer_replaces(user_agent: UserAgent) -> None:
    """State the option tag; for who handles INVITEs with `replaced_session`."""
    user_agent.serve("INVITE", extensions=("replaces",))


def _is_call_id(text: str) -> bool:
    """Whether this is `word ["@" word]`."""
    name, at, host = text.partition("@")
    return _is_word(name) and (_is_word(host) if at else True)


def _is_word(text: str) -> bool:
    rest = text.translate(_DELETE_WORD_CHARS)
    return bool(text) and (not rest or is_token(rest))


def _is_tag(text: str | None) -> bool:
    return text is not None and is_token(text)
