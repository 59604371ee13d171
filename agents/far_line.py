"""Calls of one node for agents signed in at another: the line's steps as messages between the two.

The node of the call rings the phone and bridges; the node of the agent shows it on the toolbar and
sends back what the toolbar asks. Messages are not stored: what a dead or cut-off node should have
said is made good by the lease of the reservation, and by the toolbar's hang-up, which ends a call
that its node does not answer for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any

from agents.line import AgentLine, Handling, TalkCommand
from agents.live_agent import LiveAgent
from agents.summary import CallSummary
from cti.call import DialTarget, Leg, RingingLeg, Talk, TalkState
from domain.failures import Code, PlatformError
from domain.ids import AgentId, CallId, LegId, NodeId, QueueId, TenantId
from routing.acd import Acd, Offer

_REPLY_S = 2.0
_CONSULT, _GIVE_UP = "consult", "give_up"
_COMMANDS = frozenset({"answer", "hang_up", _CONSULT, _GIVE_UP, *TalkCommand})

Message = dict[str, Any]


class FarLines:
    """Both ends of the lines between this node and others."""

    def __init__(
        self,
        acd: Acd,
        find: Callable[[TenantId, AgentId], LiveAgent | None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._acd = acd
        self._find = find
        self._spawn = spawn
        self._calls: dict[str, _FarAgent] = {}
        self._agents: dict[str, _FarCall] = {}
        self._replies: dict[tuple[str, int], asyncio.Future[Message]] = {}
        self._asked = 0
        acd.on_post = self.take

    # The node of the call

    async def offer(self, offer: Offer, call: CallSummary) -> AgentLine | None:
        """Offer a call to an agent of another node."""
        line = _FarAgent(self, f"{offer.ticket}:{offer.fence}", offer.agent_node)
        self._calls[line.id] = line
        accepted = False
        try:
            reply = await self._ask(
                line, "offer", tenant=offer.tenant, agent=offer.agent, call=asdict(call)
            )
            line.phone = reply.get("phone", "")
            accepted = bool(line.phone)
        finally:
            if not accepted:  # also when the caller left meanwhile
                line.withdrawn(confirmed=True)
        return line if accepted else None

    def post(self, line: _FarAgent | _FarCall, step: str, **more: object) -> None:
        """Send a step to the other end."""
        message = {"line": line.id, "step": step, "from": self._acd.node, **more}
        self._acd.post(line.node, message)

    def forget(self, line: _FarAgent) -> None:
        """The line is over on the node of the call."""
        self._calls.pop(line.id, None)

    # The node of the agent

    async def answer(self, line: _FarCall) -> bool:
        """Have the phone asked to pick up."""
        return bool((await self._ask(line, "answer")).get("done"))

    def hang_up(self, line: _FarCall, code: Code) -> None:
        """Have the phone hung up; without a reply the call's node is gone, and so is the call."""

        async def work() -> None:
            reply = await self._ask(line, "hang_up", code=code)
            if not reply.get("done") and line.id in self._agents:
                self._finish(line)

        self._spawn(work())

    async def command(self, line: _FarCall, command: TalkCommand) -> None:
        """Have something done in the conversation; raises what it raises there."""
        _check(await self._ask(line, command))

    async def consult(self, line: _FarCall, target: DialTarget, timeout_ms: int) -> None:
        """Have an expert rung; raises what it raises there."""
        within_s = timeout_ms / 1000 + _REPLY_S
        asked = {"target": asdict(target), "timeout_ms": timeout_ms}
        try:
            reply = await self._ask(line, _CONSULT, within_s, **asked)
        except asyncio.CancelledError:
            self.post(line, _GIVE_UP)
            raise
        _check(reply)

    def _finish(self, line: _FarCall) -> None:
        self._agents.pop(line.id, None)
        if line.answered:
            line.live.ended()
        elif line.live.in_call:
            line.live.failed("node_lost", ready=False)

    # Messages

    async def _ask(
        self,
        line: _FarAgent | _FarCall,
        step: str,
        within_s: float | None = None,
        **more: object,
    ) -> Message:
        """Return the reply; empty without one. One to what was asked before comes too late."""
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked += 1
        key = line.id, self._asked
        self._replies[key] = future
        self.post(line, step, ask=self._asked, **more)
        try:
            return await asyncio.wait_for(future, within_s or _REPLY_S)
        except TimeoutError:
            return {}
        finally:
            self._replies.pop(key, None)

    def take(self, message: Message) -> None:
        """Act on a message of another node."""
        line, step = message["line"], message["step"]
        if step == "reply":
            future = self._replies.get((line, message["to"]))
            if future is not None and not future.done():
                future.set_result(message)
        elif step == "offer":
            self._offered(message)
        elif step in _COMMANDS:
            self._spawn(self._command(message))
        elif line in self._agents:
            self._follow(self._agents[line], message)

    def _reply(self, message: Message, **more: object) -> None:
        if "ask" not in message:
            return
        reply = {"line": message["line"], "step": "reply", "to": message["ask"], **more}
        self._acd.post(NodeId(message["from"]), reply)

    def _offered(self, message: Message) -> None:
        live = self._find(TenantId(message["tenant"]), AgentId(message["agent"]))
        if live is None or not live.offer(_summary(message["call"])):
            self._reply(message)
            return
        line = _FarCall(self, message["line"], NodeId(message["from"]), live)
        self._agents[line.id] = line
        self._reply(message, phone=live.phone)

    def _follow(self, line: _FarCall, message: Message) -> None:
        live, step = line.live, message["step"]
        if step == "ringing":
            live.ringing(line)
        elif step == "answered":
            line.answered = True
            live.answered(line)
        elif step == "talking":
            live.talking_elsewhere(line)
        elif step == "state":
            live.talk_changed_elsewhere(TalkState(message["state"]))
        else:
            del self._agents[line.id]
            if step == "failed":
                live.failed(message["reason"], ready=message["ready"])
            elif step == "withdrawn":
                live.withdrawn(confirmed=message["confirmed"])
            elif step == "ended":
                live.ended()

    async def _command(self, message: Message) -> None:
        line = self._calls.get(message["line"])
        try:
            done = line is not None and await _carry_out(line, message)
        except PlatformError as error:
            self._reply(message, done=False, code=error.code, detail=error.detail)
        else:
            self._reply(message, done=done)


async def _carry_out(line: _FarAgent, message: Message) -> bool:
    """Do what the agent asks; raises PlatformError, False where there is nothing to do it to."""
    step = message["step"]
    leg = line.leg or line.rings
    if step == "hang_up":
        if leg is not None:
            leg.hang_up(Code(message["code"]))
        return leg is not None
    if step == "answer":
        return line.rings is not None and await line.rings.answer_remotely()
    if step == _GIVE_UP:
        if line.consulting is not None:
            line.consulting.cancel()
        return line.consulting is not None
    if line.handling is None:
        raise PlatformError(Code.NO_CALL, "the conversation has not begun")
    talk = line.handling.talk
    if step == _CONSULT:
        await line.consult(talk, DialTarget(**message["target"]), message["timeout_ms"])
    else:
        TalkCommand(step).carry_out(talk)
    return True


async def _ring(talk: Talk, target: DialTarget, timeout_ms: int) -> None:
    await talk.consult(target, timeout_ms=timeout_ms)


def _check(reply: Message) -> None:
    """Raise what a command was answered with at the other node."""
    if not reply.get("done"):
        code = Code(reply["code"]) if "code" in reply else Code.CALL_AT_OTHER_NODE
        raise PlatformError(code, reply.get("detail", "its node does not answer"))


class _FarAgent:
    """On the node of the call: an agent elsewhere. Implements `AgentLine`."""

    def __init__(self, lines: FarLines, line: str, node: NodeId) -> None:
        self._lines = lines
        self.id = line
        self.node = node
        self.phone = ""
        self.rings: RingingLeg | None = None
        self.leg: Leg | None = None
        self.handling: Handling | None = None
        self.consulting: asyncio.Task[None] | None = None
        """The ringing of an expert, which the agent may give up."""

    async def consult(self, talk: Talk, target: DialTarget, timeout_ms: int) -> None:
        """Ring an expert until the agent gives up."""
        if self.consulting is not None:
            raise PlatformError(Code.STATE_FORBIDS, "an expert is asked already")
        self.consulting = asyncio.create_task(_ring(talk, target, timeout_ms))
        try:
            await self.consulting
        finally:
            self.consulting = None

    def ringing(self, leg: RingingLeg) -> None:
        """The phone rings."""
        self.rings = leg
        self._lines.post(self, "ringing")

    def answered(self, leg: Leg) -> None:
        """The agent has the call."""
        self.rings, self.leg = None, leg
        self._lines.post(self, "answered")

    def talking(self, handling: Handling) -> None:
        """The toolbar may command it, and hears what comes of it."""
        self.handling = handling
        handling.talk.watch(lambda state: self._lines.post(self, "state", state=state))
        self._lines.post(self, "talking")

    def failed(self, reason: str, *, ready: bool) -> None:
        """The agent did not take the call."""
        self._end("failed", reason=reason, ready=ready)

    def withdrawn(self, *, confirmed: bool) -> None:
        """The caller left first."""
        self._end("withdrawn", confirmed=confirmed)

    def ended(self) -> None:
        """The conversation is over."""
        self._end("ended")

    def _end(self, step: str, **more: object) -> None:
        self._lines.post(self, step, **more)
        self._lines.forget(self)


class _FarCall:
    """On the node of the agent: the phone's leg, which is elsewhere.

    A `RingingLeg`, a `Leg` and a `FarTalk`.
    """

    def __init__(self, lines: FarLines, line: str, node: NodeId, live: LiveAgent) -> None:
        self._lines = lines
        self.id = line
        self.node = node
        self.live = live
        self.answered = False

    @property
    def leg_id(self) -> LegId:
        """The line's id: the leg itself is known at its own node."""
        return LegId(self.id)

    async def answer_remotely(self) -> bool:
        """Have the phone asked to pick up."""
        return await self._lines.answer(self)

    def hang_up(self, code: Code = Code.FLOW_ENDED) -> None:
        """Have the phone hung up."""
        self._lines.hang_up(self, code)

    async def command(self, command: TalkCommand) -> None:
        """See FarTalk."""
        await self._lines.command(self, command)

    async def consult(self, target: DialTarget, *, timeout_ms: int) -> None:
        """See FarTalk."""
        await self._lines.consult(self, target, timeout_ms)


def _summary(record: Message) -> CallSummary:
    return CallSummary(
        call_id=CallId(record["call_id"]),
        queue=QueueId(record["queue"]),
        caller=record["caller"],
        called=record["called"],
        language=record["language"],
        waited_ms=record["waited_ms"],
        attached=dict(record["attached"]),
        path=tuple(record["path"]),
    )
