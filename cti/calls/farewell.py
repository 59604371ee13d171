"""How a session ends whose call goes on without it."""

from __future__ import annotations

import asyncio

from cti.sip.sessions.session import InviteSession, SessionState
from domain.failures import Code

# Time for the NOTIFY that tells a phone how its transfer went; most phones hang up on it.
_LAST_WORD_S = 0.4


def end_session(session: InviteSession, code: Code) -> None:
    """End a session; whoever is transferred away hears how that went before the BYE."""
    if code is Code.CALL_TRANSFERRED and session.state is SessionState.CONFIRMED:
        asyncio.get_running_loop().call_later(_LAST_WORD_S, session.end, code)
    else:
        session.end(code)
