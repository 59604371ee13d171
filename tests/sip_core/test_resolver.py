"""From URIs to servers: the selection by itself, and with a real name server."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from cti.sip.location.resolver import RecordCache, Resolver, hosts_of
from cti.sip.location.server_location import (
    Naptr,
    Record,
    RecordType,
    Srv,
    find_servers,
    hop_of_address,
    is_host_name,
    srv_order,
)
from cti.sip.messages.uri import SipUri
from cti.sip.transports.transport import Hop
from demo.ports import free_port
from domain.failures import Code, PlatformError
from tests.sip_core.network import WAIT_S

Zone = dict[tuple[str, RecordType], Sequence[Record]]

CARRIER: Zone = {
    ("carrier.example", "NAPTR"): [
        Naptr(20, 1, "s", "SIP+D2U", "udp.carrier.example"),
        Naptr(10, 2, "S", "sip+d2t", "tcp.carrier.example"),
        Naptr(10, 1, "s", "SIPS+D2T", "tls.carrier.example"),
        Naptr(1, 1, "s", "SIP+D2S", "sctp.carrier.example"),
        Naptr(1, 1, "u", "E2U+sip", "enum.carrier.example"),
    ],
    ("tls.carrier.example", "SRV"): [Srv(1, 0, 5061, "a.carrier.example")],
    ("tcp.carrier.example", "SRV"): [Srv(1, 0, 5060, "a.carrier.example")],
    ("udp.carrier.example", "SRV"): [
        Srv(2, 0, 5060, "b.carrier.example"),
        Srv(1, 0, 5070, "a.carrier.example"),
    ],
    ("_sip._udp.carrier.example", "SRV"): [Srv(1, 0, 5090, "b.carrier.example")],
    ("a.carrier.example", "A"): ["192.0.2.1", "192.0.2.2"],
    ("a.carrier.example", "AAAA"): ["2001:db8::1"],
    ("b.carrier.example", "A"): ["192.0.2.3"],
    ("carrier.example", "A"): ["192.0.2.9"],
    ("_sip._udp.off.example", "SRV"): [Srv(0, 0, 0, "")],
    ("off.example", "A"): ["192.0.2.9"],
}


async def found(uri: str, zone: Zone = CARRIER) -> list[str]:
    async def lookup(name: str, kind: RecordType) -> Sequence[Record]:
        return zone.get((name, kind), ())

    hops = await find_servers(
        SipUri.parse(uri),
        lookup,
        transports=("udp", "tcp", "tls"),
        families=("A", "AAAA"),
        random=lambda: 0.0,
    )
    return [f"{hop.transport} {hop.host} {hop.port} {hop.name}".strip() for hop in hops]


TLS_HOPS = [f"tls {a} 5061 carrier.example" for a in ("192.0.2.1", "192.0.2.2", "2001:db8::1")]


async def test_naptr_then_srv_then_addresses() -> None:
    tcp = [f"tcp {a} 5060" for a in ("192.0.2.1", "192.0.2.2", "2001:db8::1")]
    udp = [f"udp {a} 5070" for a in ("192.0.2.1", "192.0.2.2", "2001:db8::1")]
    expected = [*TLS_HOPS, *tcp, *udp, "udp 192.0.2.3 5060"]
    assert await found("sip:95598@Carrier.Example") == expected


@pytest.mark.parametrize(
    ("uri", "hops"),
    [
        ("sips:x@carrier.example", TLS_HOPS),
        ("sip:x@carrier.example;transport=udp", ["udp 192.0.2.3 5090"]),
        ("sip:x@carrier.example;transport=tcp", ["tcp 192.0.2.9 5060"]),
        ("sips:x@carrier.example;transport=tcp", ["tls 192.0.2.9 5061 carrier.example"]),
        ("sip:x@carrier.example;transport=tls", ["tls 192.0.2.9 5061 carrier.example"]),
        ("sip:x@carrier.example:5099", ["udp 192.0.2.9 5099"]),
        ("sips:x@carrier.example:5099", ["tls 192.0.2.9 5099 carrier.example"]),
        ("sip:x@elsewhere.example;maddr=b.carrier.example", ["udp 192.0.2.3 5060"]),
        ("sip:x@off.example", ["udp 192.0.2.9 5060"]),
        ("sip:x@nowhere.example", []),
    ],
)
async def test_what_the_uri_says_shortens_the_way(uri: str, hops: list[str]) -> None:
    assert await found(uri) == hops


@pytest.mark.parametrize(
    ("uri", "hop"),
    [
        ("sip:x@192.0.2.1", Hop("udp", "192.0.2.1", 5060)),
        ("sip:x@[2001:db8::1]:5070;transport=TCP", Hop("tcp", "2001:db8::1", 5070)),
        ("sips:x@192.0.2.1", Hop("tls", "192.0.2.1", 5061)),
        ("sip:x@[::ffff:192.0.2.1]", Hop("udp", "192.0.2.1", 5060)),
        ("sip:x@phone.example;maddr=192.0.2.7", Hop("udp", "192.0.2.7", 5060)),
        ("sip:x@carrier.example", None),
    ],
)
def test_addresses_need_no_look_up(uri: str, hop: Hop | None) -> None:
    assert hop_of_address(SipUri.parse(uri)) == hop


def test_weights_share_the_first_place() -> None:
    records = [Srv(1, 0, 1, "zero"), Srv(1, 10, 2, "ten"), Srv(1, 30, 3, "thirty")]
    first = Counter(srv_order(records, lambda at=at: at / 400)[0].target for at in range(400))  # type: ignore[misc]
    assert first["thirty"] in range(295, 305)
    assert first["ten"] in range(95, 105)
    assert first["zero"] == 1  # RFC 2782: very rarely, where others have a weight


@given(
    st.lists(st.builds(Srv, st.integers(0, 3), st.integers(0, 9), st.just(1), st.text())),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1),
)
def test_every_server_is_tried_once_by_priority(records: list[Srv], chances: list[float]) -> None:
    drawn = iter(chances * 100)
    ordered = srv_order(records, lambda: next(drawn, 0.5))
    assert [each.priority for each in ordered] == sorted(each.priority for each in records)
    assert Counter(ordered) == Counter(records)


@pytest.mark.parametrize("name", ["localhost", "a.b", "xn--fiqs8s.example.", "_sip._udp.x.cn"])
def test_host_names(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize(
    "name", ["", "a..b", "1.2.3.4.5", "-a.b", "a b", "x" * 64 + ".cn", "中.cn"]
)
def test_what_is_no_host_name(name: str) -> None:
    assert not is_host_name(name)


def test_the_cache_forgets_by_time_and_number_but_remembers_for_bad_times() -> None:
    cache = RecordCache(max_names=2)
    key: tuple[str, RecordType] = ("a", "A")
    cache.keep(key, ("192.0.2.1",), 10, 0)
    assert cache.fresh(key, 9) == ("192.0.2.1",)
    assert cache.fresh(key, 10) is None
    assert cache.stale(key, 11) == ("192.0.2.1",)
    assert cache.stale(key, 100_000) is None
    cache.keep(key, (), 1e9, 0)
    assert cache.fresh(key, 299) == ()
    assert cache.fresh(key, 301) is None
    for name in "bcd":
        cache.keep((name, "A"), ("192.0.2.1",), 1e9, 0)
    assert cache.fresh(("b", "A"), 1) is None
    assert cache.fresh(("c", "A"), 3599) is not None
    assert cache.fresh(("c", "A"), 3601) is None


# With dnsmasq

RECORDS = (
    "--host-record=a.grid.test,127.0.0.11,::1",
    "--host-record=b.grid.test,127.0.0.12",
    "--host-record=grid.test,127.0.0.13",
    "--srv-host=_sip._udp.grid.test,a.grid.test,5070,1,10",
    "--srv-host=_sip._udp.grid.test,b.grid.test,5070,2,10",
    "--srv-host=_sips._tcp.grid.test,a.grid.test,5071,1,10",
    "--naptr-record=grid.test,10,50,S,SIPS+D2T,,_sips._tcp.grid.test",
    "--naptr-record=grid.test,20,50,S,SIP+D2U,,_sip._udp.grid.test",
    "--cname=alias.test,grid.test",
)


class NameServer:
    def __init__(self) -> None:
        self.port = free_port()
        self.queries: list[str] = []
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(
                "/usr/sbin/dnsmasq",
                "--no-daemon",
                "--no-resolv",
                "--no-hosts",
                "--conf-file=/dev/null",
            ),
            *("--bind-interfaces", "--listen-address=127.0.0.1", f"--port={self.port}"),
            *("--pid-file=", "--local=/test/", "--log-queries", "--local-ttl=60", *RECORDS),
            stderr=asyncio.subprocess.PIPE,
        )
        assert self.process.stderr is not None
        while b"started" not in await asyncio.wait_for(self.process.stderr.readline(), WAIT_S):
            assert not self.process.stderr.at_eof()

    async def stop(self) -> list[str]:
        assert self.process is not None
        assert self.process.stderr is not None
        self.process.terminate()
        lines = (await self.process.stderr.read()).decode().splitlines()
        await self.process.wait()
        return [line.partition("query")[2] for line in lines if "query[" in line]


@pytest_asyncio.fixture
async def name_server() -> AsyncIterator[NameServer]:
    server = NameServer()
    await server.start()
    yield server
    if server.process is not None and server.process.returncode is None:
        await server.stop()


def resolver_of(name_server: NameServer) -> Resolver:
    return Resolver([f"127.0.0.1:{name_server.port}"])


async def test_a_real_name_server(name_server: NameServer) -> None:
    resolver = resolver_of(name_server)
    hops = await resolver.locate(SipUri.parse("sip:95598@grid.test"))
    assert hops == [
        Hop("tls", "127.0.0.11", 5071, name="grid.test"),
        Hop("tls", "::1", 5071, name="grid.test"),
        Hop("udp", "127.0.0.11", 5070),
        Hop("udp", "::1", 5070),
        Hop("udp", "127.0.0.12", 5070),
    ]
    assert await resolver.locate(SipUri.parse("sip:x@alias.test:5060")) == [
        Hop("udp", "127.0.0.13", 5060)
    ]
    with pytest.raises(PlatformError) as caught:
        await resolver.locate(SipUri.parse("sip:x@nothing.test"))
    assert caught.value.code is Code.DNS_FAILED
    with pytest.raises(PlatformError):
        await resolver.locate(SipUri.parse("sip:x@127.0.0.999"))


async def test_questions_are_asked_once_and_what_is_not_there_is_remembered(
    name_server: NameServer,
) -> None:
    resolver = resolver_of(name_server)
    uris = [SipUri.parse(f"sip:{n}@grid.test;transport=udp") for n in range(50)]
    answers = await asyncio.gather(*(resolver.locate(uri) for uri in uris))
    assert all(each == answers[0] for each in answers)
    for _ in range(3):
        with pytest.raises(PlatformError):
            await resolver.locate(replace(uris[0], host="nothing.test", port=5060, params={}))
    queries = await name_server.stop()
    assert sorted(queries) == sorted(set(queries))
    assert len(queries) == 1 + 4 + 2


async def test_the_last_answer_serves_while_the_name_server_is_away(
    name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cti.sip.location.resolver._MOST_TTL_S", 0.0)
    monkeypatch.setattr("cti.sip.location.resolver._QUERY_S", 0.6)
    monkeypatch.setattr("cti.sip.location.resolver._STALE_AFTER_S", 0.1)
    resolver = resolver_of(name_server)
    uri = SipUri.parse("sip:95598@grid.test")
    known = await resolver.locate(uri)
    await name_server.stop()
    assert await asyncio.wait_for(resolver.locate(uri), WAIT_S) == known
    with pytest.raises(PlatformError) as caught:
        await asyncio.wait_for(resolver.locate(SipUri.parse("sip:x@b.grid.test")), WAIT_S)
    assert caught.value.code is Code.DNS_FAILED
    await name_server.start()
    assert await resolver.locate(SipUri.parse("sip:x@b.grid.test"))


async def test_without_any_name_server_addresses_still_work() -> None:
    resolver = Resolver(["[::1]:9"])
    assert await resolver.locate(SipUri.parse("sip:x@[::1]")) == [Hop("udp", "::1", 5060)]
    await resolver.aclose()


async def test_the_file_of_hosts_comes_first() -> None:
    hosts = hosts_of("127.0.0.1 LocalHost pbx # ours\n\n::1 localhost\nnonsense here\n127.0.0.9")
    assert hosts == {"localhost": ("127.0.0.1", "::1"), "pbx": ("127.0.0.1",)}
    resolver = Resolver()
    if "localhost" in resolver._hosts:
        # With a port only addresses are looked up (RFC 3263 4.2), and for those no server is asked.
        hops = await resolver.locate(SipUri.parse("sip:x@localhost:5060"))
        assert {hop.host for hop in hops} <= set(resolver._hosts["localhost"])
