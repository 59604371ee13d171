"""Video and fax between the two parties of a conversation: carried on, never looked at.

A party's re-INVITE that changes more than audio is offered to the other one first; what that one
says is the answer. So a fax machine is told by the other fax machine whether T.38 will do, and
stays with audio when it will not (ITU-T T.38 D.2.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from cti.media import MediaEngine, RelayEnd
from cti.rtp_port import RtpPort
from cti.sdp import Protection, Stream, parse_sdp
from cti.sdp.passing import NOTHING_PASSED, Passing, is_same, passed_by, rtcp_port_of
from cti.sip.sessions.session_events import PendingAnswer
from domain.failures import Code, PlatformError

# A refusal is better than a fax machine's patience (T.30 gives T1 35 s in all).
_ANSWER_WITHIN_S = 15.0

Outcome = bytes | Code


class Party(Protocol):
    """One side of a conversation, as far as its session goes."""

    @property
    def port(self) -> RtpPort:
        """Its port."""

    @property
    def is_talking(self) -> bool:
        """Whether it has answered and is there."""

    def reinvite(self, sdp: bytes, on_outcome: Callable[[Outcome], None]) -> None:
        """Offer a change; the outcome is the answer, or why there is none."""


class Passage:
    """The streams besides audio of one call. Changes come from one party at a time."""

    def __init__(self, engine: MediaEngine, media_timeout_ms: int) -> None:
        self._engine = engine
        self._media_timeout_ms = media_timeout_ms
        self._joined: tuple[Party, Party] | None = None
        self._pending: PendingAnswer | None = None

    def carry(self, offer: bytes, source: Party, target: Party) -> PendingAnswer | None:
        """Carry a change to the other party; None for one of audio alone."""
        try:
            wanted = passed_by(parse_sdp(offer))
        except PlatformError:
            return None
        has_streams = bool(source.port.passing.streams)
        if is_same(wanted, source.port.theirs) if has_streams else not wanted.streams:
            return None
        if self._pending is not None or not (_is_plain(source) and _is_plain(target)):
            return None
        before = target.port.passing
        try:
            target.port.passing = wanted
            ours = target.port.offer()
        except PlatformError:
            target.port.passing = before
            return None
        pending = self._pending = PendingAnswer()
        timer = asyncio.get_running_loop().call_later(
            _ANSWER_WITHIN_S, self._settle, pending, Code.NO_COMMON_CODEC
        )
        pending.on_settled(lambda _answer: timer.cancel())
        told = partial(self._on_outcome, pending, offer, source, target, before)
        target.reinvite(ours, told)
        return pending

    def join(self, one: Party, other: Party) -> None:
        """Let the datagrams of all streams flow that both parties have."""
        self._joined = one, other
        for kind in ("video", "image"):
            ends = [(each, each.port.theirs.of(kind)) for each in (one, other)]
            streams = [stream for _, stream in ends if stream is not None]
            told = all(each.port.passing.of(kind) is not None for each in (one, other))
            if told and len(streams) == len(ends):
                self._relay(kind, (one.port, streams[0]), (other.port, streams[1]))

    def end(self) -> None:
        """Carry nothing any more: who stays has audio alone."""
        if self._pending is not None:
            self._settle(self._pending, Code.NO_COMMON_CODEC)
        joined, self._joined = self._joined, None
        for party in joined or ():
            if party.is_talking and party.port.passing.streams:
                _restore(party)

    def _relay(self, kind: str, one: tuple[RtpPort, Stream], other: tuple[RtpPort, Stream]) -> None:
        timeout_ms = self._media_timeout_ms if kind == "image" else 0
        ends, reports = [], []
        for port, stream in (one, other):
            ports = port.relay_ports(kind)
            ends.append(RelayEnd(ports.port, stream.address, stream.port))
            if ports.rtcp_port is not None:
                reports.append(RelayEnd(ports.rtcp_port, stream.address, rtcp_port_of(stream)))
        self._engine.relay(*ends, media_timeout_ms=timeout_ms)
        if reports:
            self._engine.relay(*reports)

    def _on_outcome(
        self,
        pending: PendingAnswer,
        offer: bytes,
        source: Party,
        target: Party,
        before: Passing,
        outcome: Outcome,
    ) -> None:
        """Take what the target says, and say it to the source."""
        try:
            if isinstance(outcome, Code):
                raise PlatformError(outcome)  # noqa: TRY301 - told as any other reason is
            target.port.take_answer(outcome)
            if pending.is_settled:
                _restore(target)  # too late: the source was refused
                return
            source.port.passing = _as_accepted(target.port)
            answer = source.port.answer(offer)
        except PlatformError:
            self._refused(pending, source, target, before, outcome)
            return
        for party in (source, target):
            party.port.connect()
            if not party.port.passing.streams:
                party.port.close_relays()
        self._settle(pending, answer)
        self.join(source, target)

    def _refused(
        self,
        pending: PendingAnswer,
        source: Party,
        target: Party,
        before: Passing,
        outcome: Outcome,
    ) -> None:
        target.port.passing = before
        source.port.passing = before if before is NOTHING_PASSED else source.port.passing
        if isinstance(outcome, Code):
            target.port.roll_back()
        elif target.is_talking:
            _restore(target)  # it took what the source cannot have
        for party in (source, target):
            if not party.port.passing.streams:
                party.port.close_relays()
        self._settle(pending, Code.NO_COMMON_CODEC)

    def _settle(self, pending: PendingAnswer, answer: Outcome) -> None:
        if self._pending is pending:
            self._pending = None
        pending.settle(answer)


def _is_plain(party: Party) -> bool:
    agreed = party.port.agreed
    return party.is_talking and agreed is not None and agreed.protection is Protection.NONE


def _as_accepted(port: RtpPort) -> Passing:
    """Return what the other party is told: what this one took of what it was offered."""
    wanted, taken = port.passing, port.theirs
    if not taken.streams and not wanted.has_audio:
        raise PlatformError(Code.NO_COMMON_CODEC, "neither audio nor fax is left")
    port.passing = Passing(
        tuple(each for each in wanted.streams if taken.of(each.kind) is not None),
        wanted.has_audio,
        wanted.in_place,
    )
    return Passing(taken.streams, wanted.has_audio, wanted.in_place)


def _restore(party: Party) -> None:
    """Offer a party audio alone."""
    party.port.close_relays()

    def take(outcome: Outcome) -> None:
        try:
            if isinstance(outcome, bytes):
                party.port.take_answer(outcome)
                party.port.connect()
            else:
                party.port.roll_back()
        except PlatformError:
            party.port.roll_back()

    try:
        offer = party.port.offer()
    except PlatformError:
        return
    party.reinvite(offer, take)
