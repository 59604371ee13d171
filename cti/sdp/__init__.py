"""Session descriptions (RFC 8866), and what two of them agree on (RFC 3264)."""

from cti.media import Codec
from cti.sdp.codecs import DEFAULT_CODECS
from cti.sdp.description import Direction, Sdp, Stream, parse_sdp
from cti.sdp.negotiation import LocalAudio, Negotiated, PassedLines, answer, build_offer, negotiated
from cti.sdp.security import LocalSecrets, Protection, SrtpPolicy

__all__ = [
    "DEFAULT_CODECS",
    "Codec",
    "Direction",
    "LocalAudio",
    "LocalSecrets",
    "Negotiated",
    "PassedLines",
    "Protection",
    "Sdp",
    "SrtpPolicy",
    "Stream",
    "answer",
    "build_offer",
    "negotiated",
    "parse_sdp",
]
