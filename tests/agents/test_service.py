"""The toolbar over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from agents.service import AgentService, peer_address
from cti95598.agents.v1 import agents_pb2 as pb
from cti95598.agents.v1.agents_pb2_grpc import AgentServiceStub
from domain.agent_day import AgentDay
from domain.failures import Code, PlatformError
from domain.ids import AgentId, TenantId
from tests.agents.conftest import Centre
from tests.routing.redis_process import until

END = grpc.aio.EOF  # type: ignore[attr-defined]

pytestmark = pytest.mark.stores


class Toolbar:
    """Commands of one session."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub
        self.metadata: tuple[tuple[str, str], ...] = ()

    async def sign_in(self, password: str = "right", **more: Any) -> Any:
        request = pb.SignInRequest(tenant="demo", agent="1001", password=password, **more)
        response = await self.stub.SignIn(request, timeout=5)
        if response.result.accepted:
            self.metadata = (("authorization", f"Bearer {response.token}"),)
        return response

    async def do(self, command: str, **fields: Any) -> Any:
        request = getattr(pb, f"{command}Request")(**fields)
        method = getattr(self.stub, command)
        return (await method(request, metadata=self.metadata, timeout=5)).result

    def events(self) -> Any:
        return self.stub.Events(pb.EventsRequest(), metadata=self.metadata, timeout=20)


async def figures(tenant: TenantId, agent: AgentId) -> AgentDay:
    if agent == "1002":
        raise PlatformError(Code.STORE_UNAVAILABLE)
    return AgentDay(calls_offered=3, calls_answered=2, ratings=1, rating_sum=5)


@pytest.fixture
async def toolbar(centre: Centre) -> AsyncIterator[Toolbar]:
    server = grpc.aio.server()
    AgentService(centre.desk, figures).add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Toolbar(AgentServiceStub(channel))
    await server.stop(None)


async def next_event(stream: Any) -> Any:
    return await asyncio.wait_for(stream.read(), 5)


async def test_a_shift(centre: Centre, toolbar: Toolbar) -> None:
    signed_in = await toolbar.sign_in()
    assert signed_in.result.accepted
    assert signed_in.display_name == "agent 1001"
    assert list(signed_in.queues) == ["billing"]
    stream = toolbar.events()
    assert (await next_event(stream)).state == pb.AGENT_STATE_NOT_READY
    assert (await toolbar.do("Ready")).state == pb.AGENT_STATE_READY
    assert (await next_event(stream)).state == pb.AGENT_STATE_READY

    call = centre.caller()
    call.data["户号"] = "3301"
    call.path += ["main", "queue"]
    ringing = await next_event(stream)
    assert ringing.state == pb.AGENT_STATE_RINGING
    assert ringing.call.caller == call.info.caller
    assert ringing.call.attached["户号"] == '"3301"'
    assert list(ringing.call.path) == ["main", "queue"]
    await asyncio.wait_for(centre.phones["1001"].rang.wait(), 5)
    assert (await toolbar.do("Answer")).accepted
    assert (await next_event(stream)).state == pb.AGENT_STATE_TALKING
    refused = await toolbar.do("SignOut")
    assert not refused.accepted
    assert refused.code == Code.STATE_FORBIDS
    assert refused.words_zh
    assert refused.state == pb.AGENT_STATE_TALKING
    assert (await toolbar.do("HangUp")).accepted
    assert (await next_event(stream)).state == pb.AGENT_STATE_AFTER_CALL_WORK
    assert (await toolbar.do("NotReady", reason="小休")).state == pb.AGENT_STATE_NOT_READY
    assert (await next_event(stream)).reason == "小休"
    assert (await toolbar.do("SignOut")).state == pb.AGENT_STATE_SIGNED_OUT
    assert (await next_event(stream)).state == pb.AGENT_STATE_SIGNED_OUT
    assert await next_event(stream) is END


async def test_wrong_password_is_a_result(toolbar: Toolbar) -> None:
    response = await toolbar.sign_in("wrong")
    assert not response.result.accepted
    assert response.result.code == Code.PASSWORD_WRONG
    assert response.token == ""


async def test_refusals_say_why_in_both_languages(toolbar: Toolbar, centre: Centre) -> None:
    centre.unregistered.add("1001")
    await toolbar.sign_in()
    refused = await toolbar.do("Ready")
    assert refused.code == Code.PHONE_NOT_REGISTERED
    assert "话机" in refused.words_zh
    assert "1001" in refused.words_en
    assert (await toolbar.do("Answer")).code == Code.NO_CALL


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer nobody"),)])
async def test_a_bad_session_fails_the_rpc(
    toolbar: Toolbar, metadata: tuple[tuple[str, str], ...]
) -> None:
    toolbar.metadata = metadata
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await toolbar.do("Ready")
    assert failed.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await next_event(toolbar.events())
    assert failed.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_long_fields_are_bad_arguments(toolbar: Toolbar) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await toolbar.sign_in(device="9" * 10_000)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_summary(toolbar: Toolbar) -> None:
    await toolbar.sign_in()
    request = pb.SummaryRequest()
    summary = await toolbar.stub.Summary(request, metadata=toolbar.metadata, timeout=5)
    assert (summary.calls_offered, summary.calls_answered, summary.rating_sum) == (3, 2, 5)
    assert summary.result.accepted


async def test_a_toolbar_that_vanishes_starts_the_grace(centre: Centre, toolbar: Toolbar) -> None:
    response = await toolbar.sign_in()
    stream = toolbar.events()
    await next_event(stream)
    live = centre.desk.session(response.token)
    stream.cancel()
    await until(lambda: live._grace_timer is not None)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:4711", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:4711", "2001:db8::1"),
        ("unix:/run/toolbar.sock", "unix:/run/toolbar.sock"),
    ],
)
def test_security_events_name_the_address_of_a_toolbar(peer: str, address: str) -> None:
    assert peer_address(peer) == address
