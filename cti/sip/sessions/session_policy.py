"""What a user agent offers and asks for beyond RFC 3261, chosen by configuration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cti.sip.messages.message import Request, Response


class Reliability(StrEnum):
    """When we send provisional responses reliably (RFC 3262), given that the peer can take them."""

    OFF = "off"
    """Never; the extension is not offered, and a request that requires it gets 420."""
    REQUIRED = "required"
    """Only where the peer requires it."""
    EARLY_MEDIA = "early_media"
    """Also where they carry a description."""
    ALWAYS = "always"


DEFAULT_MIN_SE_S = 90  # RFC 4028 5


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """How sessions use the extensions."""

    reliability: Reliability = Reliability.EARLY_MEDIA
    session_expires_s: int = 1800
    """How long a session lives without a refresh (RFC 4028); 0 offers no session timer."""
    min_se_s: int = DEFAULT_MIN_SE_S
    """The shortest such time we accept."""

    @property
    def extensions(self) -> tuple[str, ...]:
        """The option tags this policy supports."""
        reliable = () if self.reliability is Reliability.OFF else ("100rel",)
        return (*reliable, "timer") if self.session_expires_s else reliable

    @property
    def invite_headers(self) -> tuple[tuple[str, str], ...]:
        """What the first INVITE of a session asks for (RFC 4028 7.1)."""
        if not self.session_expires_s:
            return ()
        return session_interval(str(self.session_expires_s), self.min_se_s)


def session_interval(expires: str, min_se_s: int) -> tuple[tuple[str, str], ...]:
    """Return what a request says of the session timer; 90 s is what no Min-SE means (5)."""
    headers = (("Session-Expires", expires),)
    return headers if min_se_s == DEFAULT_MIN_SE_S else (*headers, ("Min-SE", str(min_se_s)))


def lists(message: Request | Response, header: str, option: str) -> bool:
    """Whether a header such as Supported, Require or Allow has an option tag or method.

    These are tokens, with nothing around them that could hold a comma: it never raises.
    """
    return any(
        option in row.lower() and option in [each.strip() for each in row.lower().split(",")]
        for row in message.headers.rows(header)
    )
