"""The agent's side of the gRPC toolbar: what a client program sends and follows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Protocol, TypeVar

import grpc
import grpc.aio

from cti95598.agents.v1 import agents_pb2 as pb
from cti95598.agents.v1.agents_pb2_grpc import AgentServiceStub

_COMMAND_TIMEOUT_S = 10.0
_RING_TIMEOUT_S = 40.0  # of commands that ring somebody for up to 30 s

_RequestT_contra = TypeVar("_RequestT_contra", contravariant=True)


class _Response(Protocol):
    @property
    def result(self) -> pb.Result: ...


class _Method(Protocol[_RequestT_contra]):
    def __call__(
        self, request: _RequestT_contra, /, *, timeout: float, metadata: tuple[tuple[str, str], ...]
    ) -> Awaitable[_Response]: ...


class ToolbarClient:
    """One agent's session. A refused command is a result; grpc.aio.AioRpcError is a lost server."""

    def __init__(self, target: str | grpc.aio.Channel) -> None:
        """Connect to host:port when the first command is sent, or share a channel with others."""
        self._is_shared = not isinstance(target, str)
        self._channel = grpc.aio.insecure_channel(target) if isinstance(target, str) else target
        self._stub = AgentServiceStub(self._channel)
        self._metadata: tuple[tuple[str, str], ...] = ()

    async def sign_in(
        self, tenant: str, agent: str, password: str, *, device: str = "", take_over: bool = False
    ) -> pb.SignInResponse:
        """Sign in; later commands belong to the session that this opens."""
        response = await self._stub.SignIn(
            pb.SignInRequest(
                tenant=tenant, agent=agent, password=password, device=device, take_over=take_over
            ),
            timeout=_COMMAND_TIMEOUT_S,
        )
        if response.result.accepted:
            self._metadata = (("authorization", f"Bearer {response.token}"),)
        return response

    async def sign_out(self) -> pb.Result:
        """Sign out; the event stream ends."""
        return await self._command(self._stub.SignOut, pb.SignOutRequest())

    async def ready(self) -> pb.Result:
        """Take calls (示闲)."""
        return await self._command(self._stub.Ready, pb.ReadyRequest())

    async def not_ready(self, reason: str = "") -> pb.Result:
        """Take no calls (示忙)."""
        return await self._command(self._stub.NotReady, pb.NotReadyRequest(reason=reason))

    async def answer(self) -> pb.Result:
        """Let the phone pick up (接听)."""
        return await self._command(self._stub.Answer, pb.AnswerRequest())

    async def hang_up(self) -> pb.Result:
        """Hang up the phone (挂断)."""
        return await self._command(self._stub.HangUp, pb.HangUpRequest())

    async def hold(self) -> pb.Result:
        """Let the caller wait with music (保持)."""
        return await self._command(self._stub.Hold, pb.HoldRequest())

    async def retrieve(self) -> pb.Result:
        """Talk to the caller again (取保持)."""
        return await self._command(self._stub.Retrieve, pb.RetrieveRequest())

    async def pause_recording(self) -> pb.Result:
        """Record silence (暂停录音)."""
        return await self._command(self._stub.PauseRecording, pb.PauseRecordingRequest())

    async def resume_recording(self) -> pb.Result:
        """Record again what is said (恢复录音)."""
        return await self._command(self._stub.ResumeRecording, pb.ResumeRecordingRequest())

    async def consult(self, *, agent: str = "", phone: str = "", number: str = "") -> pb.Result:
        """Ring an expert (求助): an agent's number, a phone or an outside number."""
        request = pb.ConsultRequest(agent=agent)
        if phone:
            request = pb.ConsultRequest(phone=phone)
        elif number:
            request = pb.ConsultRequest(number=number)
        return await self._command(self._stub.Consult, request, _RING_TIMEOUT_S)

    async def cancel_consult(self) -> pb.Result:
        """Let the expert go (取消求助)."""
        return await self._command(self._stub.CancelConsult, pb.CancelConsultRequest())

    async def three_party(self) -> pb.Result:
        """Let caller, agent and expert talk to each other (三方)."""
        return await self._command(self._stub.ThreeParty, pb.ThreePartyRequest())

    async def complete_transfer(self) -> pb.Result:
        """Leave the caller to the expert (转移)."""
        return await self._command(self._stub.CompleteTransfer, pb.CompleteTransferRequest())

    async def listen(self, agent: str) -> pb.Result:
        """Hear an agent's conversation (监听)."""
        return await self._command(
            self._stub.Listen, pb.ListenRequest(agent=agent), _RING_TIMEOUT_S
        )

    async def whisper(self, agent: str) -> pb.Result:
        """Be heard by the agent only (耳语)."""
        return await self._command(
            self._stub.Whisper, pb.WhisperRequest(agent=agent), _RING_TIMEOUT_S
        )

    async def barge(self, agent: str) -> pb.Result:
        """Be heard by both (插入)."""
        return await self._command(self._stub.Barge, pb.BargeRequest(agent=agent), _RING_TIMEOUT_S)

    async def intercept(self, agent: str) -> pb.Result:
        """Take the agent's place (拦截)."""
        return await self._command(
            self._stub.Intercept, pb.InterceptRequest(agent=agent), _RING_TIMEOUT_S
        )

    async def stop_supervising(self) -> pb.Result:
        """Leave the agent's conversation (停止监控)."""
        return await self._command(self._stub.StopSupervising, pb.StopSupervisingRequest())

    async def summary(self) -> pb.SummaryResponse:
        """Return the agent's figures of today."""
        return await self._stub.Summary(
            pb.SummaryRequest(), metadata=self._metadata, timeout=_COMMAND_TIMEOUT_S
        )

    async def events(self) -> AsyncIterator[pb.AgentEvent]:
        """Follow the agent's state, the present one first, until sign-out."""
        async for event in self._stub.Events(pb.EventsRequest(), metadata=self._metadata):
            yield event

    async def _command(
        self,
        method: _Method[_RequestT_contra],
        request: _RequestT_contra,
        timeout_s: float = _COMMAND_TIMEOUT_S,
    ) -> pb.Result:
        response = await method(request, metadata=self._metadata, timeout=timeout_s)
        return response.result

    async def aclose(self) -> None:
        """Close the connection, unless it is shared."""
        if not self._is_shared:
            await self._channel.close(None)


def summary_line(agent: str, summary: pb.SummaryResponse) -> str:
    """Say an agent's day in one line."""
    mean = f"{summary.rating_sum / summary.ratings:.1f}" if summary.ratings else "-"
    return (
        f"坐席 agent {agent}:呼入 offered {summary.calls_offered},"
        f"接听 answered {summary.calls_answered},"
        f"通话 talk {summary.talk_ms / 1000:.1f} s,"
        f"话后 after-call work {summary.after_call_work_ms / 1000:.1f} s,"
        f"示闲 ready {summary.ready_ms / 1000:.1f} s,"
        f"签入 signed in {summary.signed_in_ms / 1000:.1f} s,"
        f"评价 rating {mean} ({summary.ratings})"
    )
