"""Where requests inside dialogs go: to addresses at once, to names when DNS has answered."""

from __future__ import annotations

import asyncio

import pytest

from cti.sip.location.next_hop import NamedHop, NameLookups, resolve
from cti.sip.location.resolver import Resolver
from cti.sip.messages.uri import SipUri
from cti.sip.transports.transport import Hop
from domain.failures import Code, PlatformError

UDP = Hop("udp", "192.0.2.1", 5060, 3)
TCP_IN = Hop("tcp", "192.0.2.1", 40001, 9)
TCP_OUT = Hop("tcp", "192.0.2.1", 5062)
TLS_IN = Hop("tls", "192.0.2.1", 40001, 9, "192.0.2.1")
TLS_OUT = Hop("tls", "192.0.2.1", 5061, name="sip.carrier.example")
WSS = Hop("wss", "192.0.2.1", 40001, 9)


@pytest.mark.parametrize(
    ("uri", "known", "expected"),
    [
        ("sip:a@192.0.2.2:5070", UDP, Hop("udp", "192.0.2.2", 5070, 3)),
        ("sip:a@192.0.2.1", TCP_IN, Hop("tcp", "192.0.2.1", 5060, 9)),
        ("sip:a@192.0.2.1:5062;transport=TCP", TCP_IN, Hop("tcp", "192.0.2.1", 5062, 9)),
        ("sip:a@192.0.2.1:5070;transport=tcp", TCP_OUT, TCP_OUT),
        ("sip:a@192.0.2.2;transport=tcp", UDP, Hop("tcp", "192.0.2.2", 5060)),
        ("sip:a@192.0.2.1;transport=tls", TLS_IN, Hop("tls", "192.0.2.1", 5061, 9, "192.0.2.1")),
        ("sips:a@192.0.2.1:5071", TLS_IN, Hop("tls", "192.0.2.1", 5071, 9, "192.0.2.1")),
        ("sip:a@192.0.2.1", TLS_IN, TLS_IN),
        ("sip:a@192.0.2.9;transport=tls", TLS_OUT, TLS_OUT),
        ("sip:a@Sip.Carrier.example;transport=tls", TLS_OUT, TLS_OUT),
        ("sip:a@192.0.2.1;transport=ws", WSS, WSS),
        ("sip:a@abc.invalid;transport=ws", WSS, WSS),
        ("sip:a@abc.invalid", UDP, UDP),
        ("sip:a@-not-a-name-", UDP, UDP),
        ("tel:95598", UDP, UDP),
    ],
)
def test_what_needs_no_question(uri: str, known: Hop, expected: Hop) -> None:
    assert resolve(uri, known) == expected


def test_a_name_has_to_be_looked_up() -> None:
    uri = SipUri.parse("sip:a@sbc7.carrier.example;transport=tls")
    assert resolve(uri, TLS_OUT) == NamedHop(uri, TLS_OUT)


class Names:
    """A resolver whose answers come when the test says so."""

    def __init__(self, *hops: Hop) -> None:
        self.hops = list(hops)
        self.is_cached = False
        self.answered = asyncio.Event()

    def cached(self, uri: SipUri) -> list[Hop] | None:
        return self.hops if self.is_cached else None

    async def locate(self, uri: SipUri) -> list[Hop]:
        await self.answered.wait()
        if not self.hops:
            raise PlatformError(Code.DNS_FAILED, uri.host)
        return self.hops


NAMED = SipUri.parse("sip:a@sbc.example")


@pytest.mark.parametrize(
    ("known", "found", "chosen"),
    [
        (UDP, (Hop("udp", "192.0.2.7", 5060),), Hop("udp", "192.0.2.7", 5060, 3)),
        (UDP, (Hop("udp", "192.0.2.7", 5060), Hop("udp", "192.0.2.1", 5060)), UDP),
        (UDP, (Hop("udp", "192.0.2.1", 5070),), Hop("udp", "192.0.2.1", 5070, 3)),
        (TCP_IN, (Hop("tcp", "192.0.2.1", 5060),), Hop("tcp", "192.0.2.1", 5060, 9)),
        (TCP_OUT, (Hop("tcp", "192.0.2.1", 5060),), TCP_OUT),
        (
            TLS_OUT,
            (Hop("tls", "192.0.2.8", 5061, name="sbc.example"),),
            Hop("tls", "192.0.2.8", 5061, name="sbc.example"),
        ),
        (UDP, (), UDP),
    ],
)
async def test_the_server_that_served_is_preferred(
    known: Hop, found: tuple[Hop, ...], chosen: Hop
) -> None:
    names = Names(*found)
    lookups = NameLookups(names)
    for is_cached in (False, True):
        told: asyncio.Future[Hop] = asyncio.get_running_loop().create_future()
        names.is_cached = is_cached
        lookups.find(NamedHop(NAMED, known), told.set_result)
        assert told.done() == is_cached
        names.answered.set()
        assert await asyncio.wait_for(told, 5) == chosen


async def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cti.sip.location.next_hop._PATIENCE_S", 0.01)
    told: asyncio.Future[Hop] = asyncio.get_running_loop().create_future()
    NameLookups(Names(UDP)).find(NamedHop(NAMED, TCP_IN), told.set_result)
    assert await asyncio.wait_for(told, 5) == TCP_IN


async def test_whoever_waits_is_told_at_the_end() -> None:
    lookups = NameLookups(Names(UDP))
    told: list[Hop] = []
    lookups.find(NamedHop(NAMED, TCP_IN), told.append)
    await lookups.aclose()
    assert told == [TCP_IN]


async def test_the_resolver_knows_what_it_has_asked() -> None:
    resolver = Resolver(["127.0.0.1:9"])
    uri = SipUri.parse("sip:x@sbc.example:5070")
    assert resolver.cached(uri) is None
    loop = asyncio.get_running_loop()
    resolver._cache.keep(("sbc.example", "A"), ("192.0.2.7",), 60, loop.time())
    assert resolver.cached(uri) is None
    resolver._cache.keep(("sbc.example", "AAAA"), (), 60, loop.time())
    assert resolver.cached(uri) == [Hop("udp", "192.0.2.7", 5070)]
    with pytest.raises(PlatformError):
        await resolver.locate(SipUri.parse("sip:x@other.example"))
    # Name servers that are away are not waited for again at once.
    assert resolver.cached(SipUri.parse("sip:x@other.example")) == []
    assert resolver.cached(uri) == [Hop("udp", "192.0.2.7", 5070)]
    await resolver.aclose()
