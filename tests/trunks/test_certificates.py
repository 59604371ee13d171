"""Trunks known by the certificate of their connection, over mutual TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from cti.admission import Admission, Admitted, Refused
from cti.settings import AccessCodeSettings, TrunkSettings
from cti.sip.endpoint import SipEndpoint
from cti.sip.sessions.session import InviteSession
from cti.sip.transports.tls_files import VerifyClient
from cti.sip.transports.transport import Hop
from cti.sip.user_agent import UserAgent
from cti.trunks.tenant_access import TenantAccess
from domain.failures import Code
from domain.ids import TenantId
from tests.sip_core.certificates import Authority
from tests.sip_session.observer import Recorder
from tests.sip_session.peer import FAST

Ask = Callable[..., Awaitable[Admitted | Refused]]
NAME = "sbc.carrier.example"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def access(tenant: str, code: str, **fields: Any) -> TenantAccess:
    trunk = {"name": "sbc", "authentication": "certificate", "certificate_names": [NAME.upper()]}
    settings = TrunkSettings.model_validate({**trunk, **fields})
    codes = [AccessCodeSettings(code=code, flow="main")]
    return TenantAccess(TenantId(tenant), [settings], codes)


@pytest.fixture
async def ask(authority: Authority) -> AsyncIterator[Ask]:
    """Call a number with a certificate of these names, and tell the decision on it."""
    endpoint = SipEndpoint(
        user_agent="test",
        timers=FAST,
        tls=authority.tls("127.0.0.1", verify_client=VerifyClient.OPTIONAL),
    )
    incoming: asyncio.Queue[InviteSession] = asyncio.Queue()
    agent = UserAgent(endpoint, on_invite=incoming.put_nowait)
    host, port = await endpoint.listen("tls", "127.0.0.1", 0)
    callers: list[SipEndpoint] = []

    async def decision(*names: str, called: str = "95598", **fields: Any) -> Admitted | Refused:
        caller = SipEndpoint(user_agent="carrier", timers=FAST, tls=authority.tls(*names))
        callers.append(caller)
        await caller.listen("tcp", "127.0.0.1", 0)
        told = Recorder()
        UserAgent(caller, on_invite=incoming.put_nowait).invite(
            f"sip:{called}@{host}",
            from_="sip:13812345678@carrier.example",
            hop=Hop("tls", host, port),
            sdp=b"v=0\r\n",
            observer=told,
        )
        session = await asyncio.wait_for(incoming.get(), 5)
        admission = Admission([access("demo", "95598", **fields), access("east", "4001", **fields)])
        admission.identities_of = endpoint.identities_of
        decision = admission.admit_invite(session.request, session.source, 1.0, session.hop)
        session.reject(Code.FLOW_ENDED)
        await told.end()
        return decision

    yield decision
    for each in (*callers, endpoint):
        await each.aclose()
    await agent.aclose()


async def test_a_certificate_names_the_trunk(ask: Ask) -> None:
    for called, tenant in (("95598", "demo"), ("+864001", "east")):
        decision = await ask("other.example", NAME, called=called)
        assert isinstance(decision, Admitted)
        assert (decision.tenant, decision.trunk.name) == (tenant, "sbc")
    decision = await ask(NAME, called="10086")
    assert isinstance(decision, Refused)
    assert decision.code is Code.ACCESS_CODE_UNKNOWN


@pytest.mark.parametrize("names", [(), ("carrier.example",), ("127.0.0.1",)])
async def test_no_other_proves_anything(ask: Ask, names: tuple[str, ...]) -> None:
    for addresses in ([], ["127.0.0.0/8"]):
        decision = await ask(*names, addresses=addresses)
        assert isinstance(decision, Refused)
        assert decision.code is Code.TRUNK_UNKNOWN


async def test_with_addresses_both_must_be_right(ask: Ask) -> None:
    assert isinstance(await ask(NAME, addresses=["127.0.0.0/8"]), Admitted)
    assert isinstance(await ask(NAME, addresses=["192.0.2.0/28"]), Refused)


def test_a_certified_trunk_hides_no_other_of_its_network() -> None:
    own = access("demo", "95598", addresses=["127.0.0.0/8"])
    plain = TrunkSettings.model_validate({"name": "plain", "addresses": ["127.0.0.0/8"]})
    admission = Admission([TenantAccess(own.tenant, [*own.trunks, plain], own.access_codes)])
    decision = admission.admit("127.0.0.1", "95598", 1.0)
    assert isinstance(decision, Admitted)
    assert decision.trunk.name == "plain"
    only = Admission([own])
    assert only.knows("127.0.0.1")
    assert isinstance(only.admit("127.0.0.1", "95598", 1.0), Refused)
