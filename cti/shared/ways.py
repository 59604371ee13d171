"""Ways to phones as they are stored, and which of them lead to the same phone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from cti.sip.transports.transport import Hop, TransportName
from domain.ids import NodeId


@dataclass(frozen=True, slots=True)
class Way:
    """One way to a phone: a request for `uri` goes to `hop`, with `route` as its Route values."""

    hop: Hop
    route: tuple[str, ...]
    uri: str


@dataclass(frozen=True, slots=True)
class Binding:
    """One phone of a user, which is rung once however many ways lead to it."""

    ways: tuple[Way, ...]
    """At least one, the best first; the next is for when no answer at all comes over the first."""
    expires_unix_s: int
    q: int = 1000
    """The phone's own preference in thousandths (RFC 3261 20.10)."""

    @property
    def contact_uri(self) -> str:
        """The Request-URI over the best way."""
        return self.ways[0].uri

    @property
    def hop(self) -> Hop:
        """Where the best way begins."""
        return self.ways[0].hop


@dataclass(frozen=True, slots=True)
class StoredWay:
    """One registration of a phone, at one node or through one proxy."""

    contact: str
    """Equal for equal contact URIs (19.1.4)."""
    uri: str
    hop: Hop
    expires_unix_s: int
    at_unix_s: int
    node: NodeId
    process: str
    instance: str = ""
    """`+sip.instance` (RFC 5626 4.1): the phone itself, whatever its address."""
    reg_id: str = ""
    q: int = 1000
    edge: str = ""
    """The Route by which other nodes reach the flow through this one; empty when they need none."""
    path: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where the phone registered; it has one way a place.

        A proxy is one place: what it writes of the flow into its URI changes with each connection.
        """
        return self.path[0].partition(";")[0].strip("<>") if self.path else self.node

    @property
    def field(self) -> str:
        """Equal for registrations of which the later takes the place of the earlier."""
        who = f"{self.instance};{self.reg_id}" if self.instance else self.contact
        return f"{who} {self.place}"

    @property
    def flow(self) -> str:
        """The connection of a process."""
        return f"{self.process}.{self.hop.connection}"

    @property
    def listens(self) -> bool:
        """Whether the phone names the address it sends from, and takes requests there.

        Over TLS it must have proved its name, as it will have to for each new connection.
        """
        if self.hop.transport == "tls":
            return bool(self.hop.name)
        address = f"@{self.hop.host}"
        return self.hop.transport in {"udp", "tcp"} and _without_port(self.contact).endswith(
            address
        )

    def to_text(self, call_id: str, cseq: int) -> str:
        """Write the record; its head is read by `register.lua`."""
        hop = self.hop
        return "\t".join((
            f"{self.expires_unix_s} {self.at_unix_s} {cseq} {call_id} {self.contact} {self.flow}",
            self.uri, hop.transport, hop.host, str(hop.port), hop.name, self.node, self.instance,
            self.reg_id, str(self.q), self.edge, *self.path,
        ))  # fmt: skip

    @classmethod
    def of_text(cls, text: str) -> StoredWay:
        """Read a record."""
        head, uri, transport, host, port, name, node, instance, reg_id, q, edge, *path = text.split(
            "\t"
        )
        expires, at, _, _, contact, flow = head.split(" ")
        process, _, connection = flow.rpartition(".")
        return cls(
            contact=contact,
            uri=uri,
            hop=Hop(cast("TransportName", transport), host, int(port), int(connection), name),
            expires_unix_s=int(expires),
            at_unix_s=int(at),
            node=NodeId(node),
            process=process,
            instance=instance,
            reg_id=reg_id,
            q=int(q),
            edge=edge,
            path=tuple(path),
        )


def phones_of(ways: Iterable[StoredWay]) -> list[list[StoredWay]]:
    """Group ways by phone.

    One phone has one instance. Without one, equal contacts are one phone wherever they registered
    (a phone that registers at a main and a standby node); and contacts that differ in their port
    alone, sent from one address to different places, are one phone too, as long as each place has
    but one such contact: two phones behind one address, both at the same place, stay two.
    """
    by_identity: dict[str, list[StoredWay]] = defaultdict(list)
    instance_of: dict[str, str] = {}
    ways = list(ways)
    for way in ways:
        if way.instance:
            instance_of.setdefault(way.contact, way.instance)
    for way in ways:
        by_identity[way.instance or instance_of.get(way.contact, way.contact)].append(way)
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for identity, group in by_identity.items():
        if not any(way.instance or way.path for way in group):
            alike[_without_port(group[0].contact), group[0].hop.host].append(identity)
    for identities in alike.values():
        places = [way.place for each in identities for way in by_identity[each]]
        if len(identities) > 1 and len(set(places)) == len(places):
            first, *others = identities
            for each in others:
                by_identity[first] += by_identity.pop(each)
    return list(by_identity.values())


def _without_port(contact: str) -> str:
    """Return user and host of a contact key, which is `scheme:user@host:port;transport`."""
    address, _, _ = contact.rpartition(";")
    return address.rpartition(":")[0]


def binding_of(
    phone: list[StoredWay],
    *,
    node: NodeId,
    process: str,
    is_alive: Callable[[NodeId], bool],
    hop_of_route: Callable[[str], Hop | None],
) -> Binding | None:
    """Return how this process reaches a phone; None when no way is left.

    Ways of this node come first, those through a node that is gone last, else the latest first.
    """
    usable: list[tuple[tuple[bool, bool, int], StoredWay, Way]] = []
    for stored in phone:
        way = _way(stored, node, process, is_alive, hop_of_route)
        if way is not None:
            rank = (not is_alive(stored.node), stored.node != node, -stored.at_unix_s)
            usable.append((rank, stored, way))
    if not usable:
        return None
    usable.sort(key=lambda each: each[0])
    expires = max(stored.expires_unix_s for _, stored, _ in usable)
    return Binding(tuple(way for _, _, way in usable), expires, usable[0][1].q)


def _way(
    stored: StoredWay,
    node: NodeId,
    process: str,
    is_alive: Callable[[NodeId], bool],
    hop_of_route: Callable[[str], Hop | None],
) -> Way | None:
    hop = stored.hop
    if stored.process == process:
        return Way(hop, stored.path, stored.uri)
    afresh = Hop(hop.transport, hop.host, hop.port, 0, hop.name)
    if stored.path or not stored.edge:
        return Way(afresh, stored.path, stored.uri)
    if stored.node != node and is_alive(stored.node):
        through = hop_of_route(stored.edge)
        if through is not None:
            return Way(through, (stored.edge,), stored.uri)
    # A connection went with its process; a datagram may still get through.
    return Way(afresh, (), stored.uri) if hop.transport == "udp" or stored.listens else None
