"""Phones on TLS: reached by their connection, later by a new one where they prove who they are."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from cti.shared.ways import Binding
from cti.sip.transports.tls_files import Tls, VerifyClient
from cti.sip.transports.transport import Hop
from domain.failures import Code
from tests.routing.redis_process import until
from tests.sip_core.certificates import Authority
from tests.sip_edge.platform import Phone, PlatformNode, known_to_each_other
from tests.sip_edge.test_calls import answered

pytestmark = pytest.mark.stores

NAME = "phone.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


class Site:
    """Two nodes that look at the certificates of phones, and such a phone."""

    def __init__(self, redis: Redis, authority: Authority) -> None:
        def tls() -> Tls:
            return authority.tls("127.0.0.1", verify_client=VerifyClient.OPTIONAL)

        self.authority = authority
        self.main = PlatformNode("main", redis, tls())
        self.standby = PlatformNode("standby", redis, tls())
        self.phones: list[Phone] = []

    async def phone(self, certificate: Tls, *, named: str | None = None) -> Phone:
        phone = Phone(tls=certificate)
        self.phones.append(phone)
        if named is not None:
            await phone.endpoint.listen("tls", "127.0.0.1", 0, advertised_host=named)
        await phone.register(self.main, "tls")
        return phone

    async def known(self, node: PlatformNode) -> Binding:
        (binding,) = await node.phones()
        return binding

    async def hang_up_connections(self) -> None:
        pool = self.main.endpoint._transports._pool
        for connection in list(pool._connections.values()):
            connection.abort()
        await until(lambda: not pool._connections)


@pytest.fixture
async def site(redis: Redis, authority: Authority) -> AsyncIterator[Site]:
    site = Site(redis, authority)
    nodes = (site.main, site.standby)
    for node in nodes:
        await node.start()
    await known_to_each_other(*nodes)
    yield site
    for each in (*site.phones, *nodes):
        await each.aclose()


async def test_a_phone_that_proved_its_name_is_reached_by_new_connections(
    site: Site, authority: Authority
) -> None:
    phone = await site.phone(authority.tls(NAME), named=NAME)
    (listening,) = [each for each in phone.endpoint._transports._listeners if each[0] == "tls"]
    at_main, at_standby = [await site.known(each) for each in (site.main, site.standby)]
    assert at_main.hop.name == NAME
    assert at_main.hop.port == listening.address[1]
    assert len(at_standby.ways[0].route) == 1
    await site.hang_up_connections()
    for node in (site.main, site.standby):
        talk = await answered(phone, node)
        talk.caller.end(Code.FLOW_ENDED)
        await talk.told_callee.end()
    # Its node is gone: the other one connects by itself, and verifies the name.
    site.standby.contacts.is_alive = lambda node: node == site.standby.name
    afresh = await site.known(site.standby)
    assert afresh.ways[0].route == ()
    assert afresh.hop == Hop("tls", "127.0.0.1", listening.address[1], 0, NAME)
    talk = await answered(phone, site.standby)
    talk.callee.end(Code.FLOW_ENDED)
    await talk.told_caller.end()


async def test_another_than_the_phone_is_not_reached(site: Site, authority: Authority) -> None:
    phone = await site.phone(authority.tls(NAME), named=NAME)
    binding = await site.known(site.main)
    await phone.aclose()
    site.phones.remove(phone)
    await site.hang_up_connections()
    impostor = Phone(tls=authority.tls("other.example"))
    site.phones.append(impostor)
    await impostor.endpoint.listen("tls", "127.0.0.1", binding.hop.port)
    _, told = site.main.ring(binding.ways[0])
    assert (await told.end()).code is Code.SIP_TRANSPORT
    assert impostor.incoming.empty()


@pytest.mark.parametrize("names", [("other.example",), ()])
async def test_a_phone_that_proved_nothing_goes_with_its_connection(
    site: Site, authority: Authority, names: tuple[str, ...]
) -> None:
    """Also one whose certificate is for another name than its Contact's."""
    phone = await site.phone(authority.tls(*names), named=NAME if names else None)
    assert (await site.known(site.main)).hop.name == ""
    talk = await answered(phone, site.standby)
    talk.caller.end(Code.FLOW_ENDED)
    await talk.told_callee.end()
    await site.hang_up_connections()
    while await site.main.phones():
        pass
