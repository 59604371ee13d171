"""Session descriptions of scripted peers."""

from __future__ import annotations

from collections.abc import Sequence

from cti import sdp
from cti.sdp import DEFAULT_CODECS, Codec, Direction, LocalAudio, Negotiated, Sdp, Stream


def build_offer(
    ip: str,
    port: int,
    *,
    session_id: int,
    version: int,
    codecs: Sequence[Codec] = DEFAULT_CODECS,
    direction: Direction = Direction.SENDRECV,
    former: Sequence[Stream] = (),
) -> bytes:
    """Return an unprotected offer."""
    local = LocalAudio(ip, port, codecs, direction=direction)
    return sdp.build_offer(local, session_id=session_id, version=version, former=former)


def answer(
    offer: Sdp,
    ip: str,
    port: int,
    *,
    session_id: int,
    version: int,
    direction: Direction = Direction.SENDRECV,
) -> tuple[bytes, Negotiated]:
    """Answer an offer without keys."""
    local = LocalAudio(ip, port, direction=direction)
    return sdp.answer(offer, local, session_id=session_id, version=version)
