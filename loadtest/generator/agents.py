"""Agents: each signs in by the toolbar and has a phone, all phones on one socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
import grpc.aio

from agents.toolbar_client import ToolbarClient
from domain.failures import PlatformError
from loadtest.figures.tally import Tally
from loadtest.generator.callers import AnsweredCallers
from loadtest.generator.dialogs import IncomingCall
from loadtest.generator.media import Leg, Media
from loadtest.generator.sip_line import SipLine
from loadtest.generator.sip_text import Address, Message, response, tag_of, user_of
from loadtest.scenario.model import Agents

_CHANNELS = 4
"""gRPC connections for all toolbars: one each would cost more than what is measured."""
_ANSWERED_WITHOUT_DIALOG = frozenset({"OPTIONS", "NOTIFY", "MESSAGE"})


class AgentPhones:
    """The phones of all agents: ring, answer, talk and hang up as the scenario says."""

    def __init__(
        self,
        line: SipLine,
        media: Media,
        plan: Agents,
        voice: Path,
        answered: AnsweredCallers,
        tally: Tally,
    ) -> None:
        """`voice` is what agents speak, looped."""
        self.line, self.media, self.plan, self.voice = line, media, plan, voice
        self.answered = answered
        self.tally = tally
        """Where their legs and messages count from now on."""
        self.loop = asyncio.get_running_loop()
        self.calls: set[AgentCall] = set()
        line.on_request = self._take

    def _take(self, request: Message, source: Address) -> None:
        line = self.line
        if request.method == "INVITE" and not tag_of(request.headers.get("to", "")):
            AgentCall(self, request, source)
        elif request.method in _ANSWERED_WITHOUT_DIALOG:
            line.send(response(request, "200 OK", tag=line.run), source)
        else:
            status = "481 Call/Transaction Does Not Exist"
            line.send(response(request, status, tag=line.run), source)

    def hang_up_all(self) -> None:
        """End all conversations."""
        for call in list(self.calls):
            call.hang_up()


class AgentCall:
    """One call at an agent's phone; observes its own signalling."""

    __slots__ = ("_call", "_caller", "_invite_body", "_leg", "_offered_s", "_phones", "_timer")

    def __init__(self, phones: AgentPhones, invite: Message, source: Address) -> None:
        self._phones = phones
        self._offered_s = phones.tally.clock_s() - phones.line.waited_s
        self._caller = user_of(
            invite.headers.get("p-asserted-identity") or invite.headers.get("from", "")
        )
        self._invite_body = invite.body
        self._leg: Leg | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._call = IncomingCall(phones.line, invite, source, phones.tally, self)
        phones.calls.add(self)
        self._call.ring()
        if phones.plan.answer_after_s:
            self._timer = phones.loop.call_later(phones.plan.answer_after_s, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        phones = self._phones
        try:
            leg = self._leg = phones.media.open(phones.tally)
        except PlatformError:
            return  # it rings on: the platform takes the call back
        if self._invite_body:
            leg.connect(self._invite_body)
            leg.play_on(phones.voice)
        self._call.accept(leg.description())
        phones.answered.tell(self._caller, self._offered_s, phones.tally.clock_s())
        if phones.plan.talk_s:
            self._timer = phones.loop.call_later(phones.plan.talk_s, self._call.hang_up)

    def hang_up(self) -> None:
        """End the conversation."""
        self._call.hang_up()

    def on_progress(self, status: int, body: bytes) -> None:
        """Nothing of this comes to who is called."""

    def on_answer(self, body: bytes) -> None:
        """Nor this."""

    def on_refused(self, status: int) -> None:
        """Nor this."""

    def on_media(self, body: bytes) -> bytes:
        """The platform moves its media."""
        return b"" if self._leg is None else self._leg.take_offer(body)

    def on_far_hang_up(self) -> None:
        """The caller has gone."""
        self._finish()

    def on_gone(self, *, is_answered: bool) -> None:
        """The platform has taken our BYE, or not."""
        if not is_answered:
            self._phones.tally.failed["agent_bye_unanswered"] += 1
        self._finish()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._leg is not None:
            self._leg.close()
        self._phones.calls.discard(self)


class Toolbars:
    """The toolbars of all agents over few connections."""

    def __init__(self, targets: Sequence[str]) -> None:
        """Connect to each host:port when an agent signs in there."""
        # Options that differ keep gRPC from sharing one connection among the channels.
        self._channels = [
            grpc.aio.insecure_channel(target, options=(("cti95598.channel", at),))
            for at in range(_CHANNELS)
            for target in targets
        ]

    async def sign_in_all(
        self, tenant: str, passwords: Mapping[str, str], tally: Tally, per_s: float
    ) -> None:
        """Have all sign in and be ready, `per_s` a second."""
        begin_s = tally.clock_s()
        async with asyncio.TaskGroup() as group:
            for at, (agent, password) in enumerate(passwords.items()):
                ahead_s = begin_s + at / per_s - tally.clock_s()
                if ahead_s > 0:
                    await asyncio.sleep(ahead_s)
                channel = self._channels[at % len(self._channels)]
                group.create_task(self._sign_in(channel, tenant, agent, password, tally))

    async def _sign_in(
        self, channel: grpc.aio.Channel, tenant: str, agent: str, password: str, tally: Tally
    ) -> None:
        toolbar = ToolbarClient(channel)
        began_s = tally.clock_s()
        try:
            result = (await toolbar.sign_in(tenant, agent, password)).result
            if result.accepted:
                result = await toolbar.ready()
        except grpc.aio.AioRpcError as error:
            tally.end_sign_in(began_s, error.code().name.lower())
            return
        tally.end_sign_in(began_s, "" if result.accepted else result.code)

    async def aclose(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close(None)
