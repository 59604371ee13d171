"""Who hears whom in a conversation: its parties, and the routes and sides that follow from them.

Plain values without I/O. Every change makes a new `Parties`; `changes` says what the media engine
has to be told, routes as one change between two frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from cti.media import PortId


class Part(StrEnum):
    """What a party is in a conversation, and with that whom it hears and who hears it."""

    CUSTOMER = "customer"
    AGENT = "agent"
    CONSULTANT = "consultant"
    """Whom the agent asks, while the customer waits or (three-party) with the customer."""
    LISTENER = "listener"
    """A supervisor who hears all and is heard by nobody (监听)."""
    WHISPERER = "whisperer"
    """A supervisor who hears all and is heard by agents only."""
    SPEAKER = "speaker"
    """A supervisor who has barged in: hears all, is heard by all (插入)."""


MOST_PARTIES = 16
"""Of one conversation. All are decoded, mixed and encoded in one turn of the engine, which should
not take longer than its 2 ms: with Opus each costs 80 us."""

_PRESSING = frozenset({Part.CUSTOMER, Part.AGENT, Part.CONSULTANT})
_TALKERS = frozenset({Part.CUSTOMER, Part.AGENT, Part.CONSULTANT, Part.SPEAKER})


@dataclass(frozen=True, slots=True)
class Party:
    """One port of a conversation."""

    port: PortId
    part: Part
    waits: bool = False
    """Put on hold by the platform: it hears music, and is heard by nobody."""
    is_away: bool = False
    """Its phone has put the conversation on hold: it neither hears nor is heard."""

    @property
    def is_here(self) -> bool:
        """Whether it takes part just now."""
        return not self.waits and not self.is_away


@dataclass(frozen=True, slots=True)
class AudioChanges:
    """What the engine has to be told to come from one state to another."""

    routes: Mapping[PortId, tuple[PortId, ...]]
    """All sinks whose sources change; who has left hears nobody."""
    music_starts: tuple[PortId, ...]
    music_ends: tuple[PortId, ...]
    sides: tuple[tuple[PortId, ...], tuple[PortId, ...]] | None
    """Of the recording, when they change."""


@dataclass(frozen=True)
class Parties:
    """The parties of a conversation, in the order in which they came."""

    members: tuple[Party, ...] = field(default=())

    def party(self, port: PortId) -> Party | None:
        """Return the party of a port."""
        for member in self.members:
            if member.port == port:
                return member
        return None

    def put(self, port: PortId, part: Part) -> Parties:
        """Let somebody come in, or give who is in another part; nobody waits after it."""
        if self.party(port) is None:
            return Parties((*self.members, Party(port, part)))
        return self._with(port, lambda member: replace(member, part=part, waits=False))

    def remove(self, port: PortId) -> Parties:
        """Let somebody leave."""
        return Parties(tuple(member for member in self.members if member.port != port))

    def hold(self, port: PortId, *, waits: bool) -> Parties:
        """Let a party wait with music, or come back."""
        return self._with(port, lambda member: replace(member, waits=waits))

    def away(self, port: PortId, *, is_away: bool) -> Parties:
        """Note that a party's own phone holds the conversation, or does no more."""
        known = self.party(port)
        if known is None or known.is_away == is_away:
            return self
        return self._with(port, lambda member: replace(member, is_away=is_away))

    def heard_by(self, port: PortId) -> tuple[PortId, ...]:
        """Return whom a party hears."""
        return self.routes.get(port, ())

    @cached_property
    def routes(self) -> Mapping[PortId, tuple[PortId, ...]]:
        """Whom each party hears."""
        return {
            listener.port: tuple([each.port for each in self.members if _hears(listener, each)])
            for listener in self.members
        }

    @cached_property
    def keys(self) -> Mapping[PortId, tuple[PortId, ...]]:
        """Whose keys each party gets: supervisors neither send nor get any."""
        pressing = {member.port for member in self.members if member.part in _PRESSING}
        return {
            member.port: tuple([port for port in self.heard_by(member.port) if port in pressing])
            for member in self.members
            if member.port in pressing
        }

    def hear_music(self) -> tuple[PortId, ...]:
        """Return who hears music: who was told to wait, and who waits for phones that hold."""
        return tuple([member.port for member in self.members if self._hears_music(member)])

    @cached_property
    def sides(self) -> tuple[tuple[PortId, ...], tuple[PortId, ...]]:
        """The sides of the recording: the customers, and whom they hear.

        While a customer is on hold the right side is silent: music is nobody's voice, and what an
        agent asks a consultant meanwhile is not part of the conversation.
        """
        left = [member.port for member in self.members if member.part is Part.CUSTOMER]
        heard = {port for each in left for port in self.heard_by(each)}.difference(left)
        right = [member.port for member in self.members if member.port in heard]
        return tuple(left), tuple(right)

    def changes(self, former: Parties) -> AudioChanges:
        """Return what makes the audio of `former` this one."""
        before, now = former.routes, self.routes
        routes = {**dict.fromkeys(before, ()), **now}
        music_before, music_now = former.hear_music(), self.hear_music()
        return AudioChanges(
            {port: hears for port, hears in routes.items() if before.get(port) != hears},
            tuple([port for port in music_now if port not in music_before]),
            tuple([port for port in music_before if port not in music_now]),
            self.sides if self.sides != former.sides else None,
        )

    def _with(self, port: PortId, change: Callable[[Party], Party]) -> Parties:
        return Parties(
            tuple(change(member) if member.port == port else member for member in self.members)
        )

    def _hears_music(self, member: Party) -> bool:
        if member.waits:
            return not member.is_away
        if not member.is_here or self.heard_by(member.port):
            return False
        return any(other.is_away and other.part in _TALKERS for other in self.members)


def _hears(listener: Party, other: Party) -> bool:
    if listener.port == other.port or not (listener.is_here and other.is_here):
        return False
    if other.part is Part.WHISPERER:
        return listener.part is Part.AGENT
    return other.part in _TALKERS
