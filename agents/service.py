"""The toolbar's gRPC service, thin over the desk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import Message

from agents.desk import AgentDesk
from agents.line import TalkCommand
from agents.live_agent import LiveAgent
from agents.notices import SLOW, Notice
from agents.state import AgentState
from cti.call import Supervision
from cti95598.agents.v1 import agents_pb2 as pb
from cti95598.agents.v1.agents_pb2_grpc import (
    AgentServiceServicer,
    add_AgentServiceServicer_to_server,
)
from domain.agent_day import AgentDay
from domain.failures import CATALOGUE, PlatformError
from domain.ids import AgentId, TenantId

SummaryOf = Callable[[TenantId, AgentId], Awaitable[AgentDay]]

_STATES: dict[AgentState, pb.AgentState.ValueType] = {
    AgentState.SIGNED_OUT: pb.AGENT_STATE_SIGNED_OUT,
    AgentState.NOT_READY: pb.AGENT_STATE_NOT_READY,
    AgentState.READY: pb.AGENT_STATE_READY,
    AgentState.RINGING: pb.AGENT_STATE_RINGING,
    AgentState.TALKING: pb.AGENT_STATE_TALKING,
    AgentState.HELD: pb.AGENT_STATE_HELD,
    AgentState.CONSULTING: pb.AGENT_STATE_CONSULTING,
    AgentState.CONFERENCE: pb.AGENT_STATE_CONFERENCE,
    AgentState.AFTER_CALL_WORK: pb.AGENT_STATE_AFTER_CALL_WORK,
}
_MAX_TEXT = 200

Context = grpc.aio.ServicerContext[Message, Message]


class AgentService(AgentServiceServicer):
    """Every command answers with a result; only a bad session or argument fails the RPC."""

    def __init__(self, desk: AgentDesk, summary: SummaryOf) -> None:
        self._desk = desk
        self._summary = summary

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        add_AgentServiceServicer_to_server(self, server)

    async def SignIn(self, request: pb.SignInRequest, context: Context) -> pb.SignInResponse:  # noqa: N802 - gRPC name
        """Open a session."""
        if any(
            len(text) > _MAX_TEXT
            for text in (request.tenant, request.agent, request.password, request.device)
        ):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a field is too long")
        try:
            live = await self._desk.sign_in(
                TenantId(request.tenant),
                AgentId(request.agent),
                request.password,
                phone=request.device,
                take_over=request.take_over,
                source=peer_address(context.peer()),
            )
        except PlatformError as error:
            return pb.SignInResponse(result=_refused(error, AgentState.SIGNED_OUT))
        return pb.SignInResponse(
            result=_accepted(live),
            token=live.token,
            display_name=live.settings.name,
            queues=live.settings.queues,
            role=live.settings.role,
        )

    async def SignOut(self, request: pb.SignOutRequest, context: Context) -> pb.SignOutResponse:  # noqa: ARG002, N802
        """End the session."""
        live = await self._live(context)
        return pb.SignOutResponse(result=_result_of(live, live.sign_out))

    async def Ready(self, request: pb.ReadyRequest, context: Context) -> pb.ReadyResponse:  # noqa: ARG002, N802
        """Take calls."""
        live = await self._live(context)
        return pb.ReadyResponse(result=await _result_after(live, self._desk.ready(live)))

    async def NotReady(self, request: pb.NotReadyRequest, context: Context) -> pb.NotReadyResponse:  # noqa: N802
        """Take no calls."""
        live = await self._live(context)
        reason = request.reason[:_MAX_TEXT]
        return pb.NotReadyResponse(result=_result_of(live, lambda: live.not_ready(reason)))

    async def Answer(self, request: pb.AnswerRequest, context: Context) -> pb.AnswerResponse:  # noqa: ARG002, N802
        """Let the phone pick up."""
        live = await self._live(context)
        return pb.AnswerResponse(result=await _result_after(live, live.answer()))

    async def HangUp(self, request: pb.HangUpRequest, context: Context) -> pb.HangUpResponse:  # noqa: ARG002, N802
        """Decline, or end the conversation."""
        live = await self._live(context)
        return pb.HangUpResponse(result=_result_of(live, live.hang_up))

    # In a conversation

    async def Hold(self, request: pb.HoldRequest, context: Context) -> pb.HoldResponse:  # noqa: ARG002, N802
        """Let the caller wait with music."""
        result = await self._on_talk(context, TalkCommand.HOLD)
        return pb.HoldResponse(result=result)

    async def Retrieve(self, request: pb.RetrieveRequest, context: Context) -> pb.RetrieveResponse:  # noqa: ARG002, N802
        """Talk to the caller again."""
        result = await self._on_talk(context, TalkCommand.RETRIEVE)
        return pb.RetrieveResponse(result=result)

    async def PauseRecording(  # noqa: N802
        self,
        request: pb.PauseRecordingRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.PauseRecordingResponse:
        """Record silence."""
        result = await self._on_talk(context, TalkCommand.PAUSE_RECORDING)
        return pb.PauseRecordingResponse(result=result)

    async def ResumeRecording(  # noqa: N802
        self,
        request: pb.ResumeRecordingRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.ResumeRecordingResponse:
        """Record again what is said."""
        result = await self._on_talk(context, TalkCommand.RESUME_RECORDING)
        return pb.ResumeRecordingResponse(result=result)

    async def Consult(self, request: pb.ConsultRequest, context: Context) -> pb.ConsultResponse:  # noqa: N802
        """Ring an expert while the caller waits."""
        live = await self._live(context)
        consulting = self._desk.consult(
            live, agent=request.agent, phone=request.phone, number=request.number
        )
        return pb.ConsultResponse(result=await _result_after(live, consulting))

    async def CancelConsult(  # noqa: N802
        self,
        request: pb.CancelConsultRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.CancelConsultResponse:
        """Let the expert go, and talk to the caller again."""
        result = await self._on_talk(context, TalkCommand.CANCEL_CONSULT)
        return pb.CancelConsultResponse(result=result)

    async def ThreeParty(  # noqa: N802
        self,
        request: pb.ThreePartyRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.ThreePartyResponse:
        """Let caller, agent and expert talk to each other."""
        result = await self._on_talk(context, TalkCommand.THREE_PARTY)
        return pb.ThreePartyResponse(result=result)

    async def CompleteTransfer(  # noqa: N802
        self,
        request: pb.CompleteTransferRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.CompleteTransferResponse:
        """Leave the caller to the expert."""
        result = await self._on_talk(context, TalkCommand.COMPLETE)
        return pb.CompleteTransferResponse(result=result)

    async def _on_talk(self, context: Context, command: TalkCommand) -> pb.Result:
        live = await self._live(context)
        return await _result_after(live, live.command(command))

    # Supervisors

    async def Listen(self, request: pb.ListenRequest, context: Context) -> pb.ListenResponse:  # noqa: N802
        """Hear all."""
        result = await self._supervise(request.agent, Supervision.LISTEN, context)
        return pb.ListenResponse(result=result)

    async def Whisper(self, request: pb.WhisperRequest, context: Context) -> pb.WhisperResponse:  # noqa: N802
        """Be heard by the agent only."""
        result = await self._supervise(request.agent, Supervision.WHISPER, context)
        return pb.WhisperResponse(result=result)

    async def Barge(self, request: pb.BargeRequest, context: Context) -> pb.BargeResponse:  # noqa: N802
        """Be heard by all."""
        result = await self._supervise(request.agent, Supervision.BARGE, context)
        return pb.BargeResponse(result=result)

    async def Intercept(  # noqa: N802
        self, request: pb.InterceptRequest, context: Context
    ) -> pb.InterceptResponse:
        """Take the agent's place."""
        live = await self._live(context)
        intercepting = self._desk.supervisors.intercept(live, AgentId(request.agent))
        return pb.InterceptResponse(result=await _result_after(live, intercepting))

    async def StopSupervising(  # noqa: N802
        self,
        request: pb.StopSupervisingRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.StopSupervisingResponse:
        """Leave the conversation."""
        live = await self._live(context)
        result = _result_of(live, lambda: self._desk.supervisors.stop(live))
        return pb.StopSupervisingResponse(result=result)

    async def _supervise(self, agent: str, mode: Supervision, context: Context) -> pb.Result:
        live = await self._live(context)
        supervising = self._desk.supervisors.supervise(live, AgentId(agent), mode)
        return await _result_after(live, supervising)

    # What is told

    async def Events(  # noqa: N802
        self,
        request: pb.EventsRequest,  # noqa: ARG002
        context: Context,
    ) -> AsyncIterator[pb.AgentEvent]:
        """Follow the agent; ends with the session."""
        live = await self._live(context)
        watching = live.watch()
        try:
            while (notice := await watching.next()) is not None:
                yield _event(notice)
        finally:
            self._desk.unwatch(live, watching)
        if watching.ended == SLOW:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "events were not read in time; open again"
            )

    async def Summary(self, request: pb.SummaryRequest, context: Context) -> pb.SummaryResponse:  # noqa: ARG002, N802
        """The agent's own figures of today."""
        live = await self._live(context)
        try:
            figures = await self._summary(live.tenant, live.settings.agent_id)
        except PlatformError as error:
            return pb.SummaryResponse(result=_refused(error, live.state))
        return pb.SummaryResponse(result=_accepted(live), **asdict(figures))

    async def _live(self, context: Context) -> LiveAgent:
        try:
            return self._desk.session(bearer_token(context))
        except PlatformError as error:
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED, f"{error.failure.zh} / {error.failure.en}"
            )
            raise AssertionError from error  # abort has raised


def bearer_token(context: Context) -> str:
    """Return the token of a request's metadata; empty where there is none."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.startswith("Bearer "):
            return value.removeprefix("Bearer ")
    return ""


def _result_of(live: LiveAgent, command: Callable[[], None]) -> pb.Result:
    try:
        command()
    except PlatformError as error:
        return _refused(error, live.state)
    return _accepted(live)


async def _result_after(live: LiveAgent, command: Awaitable[None]) -> pb.Result:
    try:
        await command
    except PlatformError as error:
        return _refused(error, live.state)
    return _accepted(live)


def _accepted(live: LiveAgent) -> pb.Result:
    return pb.Result(accepted=True, state=_STATES[live.state])


def _refused(error: PlatformError, state: AgentState) -> pb.Result:
    words = CATALOGUE[error.code]
    detail = f" ({error.detail})" if error.detail else ""
    return pb.Result(
        accepted=False,
        code=error.code,
        words_zh=words.zh,
        words_en=words.en + detail,
        state=_STATES[state],
    )


def _event(notice: Notice) -> pb.AgentEvent:
    event = pb.AgentEvent(
        time_unix_ms=notice.time_unix_ms, state=_STATES[notice.state], reason=notice.reason
    )
    if notice.call is not None:
        event.call.CopyFrom(pb.CallSummary(**asdict(notice.call)))
    return event


def peer_address(peer: str) -> str:
    """Return the IP address of a peer that gRPC names `ipv4:1.2.3.4:5` or `ipv6:%5B::1%5D:5`."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in {"ipv4", "ipv6"} else peer
