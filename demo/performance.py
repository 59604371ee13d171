"""The call of the demo, from dialling to the rating, as caller and agent live it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import aiohttp

from agents.toolbar_client import ToolbarClient
from cti import audio
from cti.call import JsonValue
from cti.phone import Phone, PhoneCall, PhoneSettings
from cti.rtp_port import MediaRouter
from cti95598.agents.v1 import agents_pb2 as pb
from demo.platform import RunningPlatform
from demo.prompts import ExpectedPrompts
from demo.story import Story
from domain.masking import mask_number

TENANT = "demo"
ACCESS_CODE = "95598"
CALLER = "13800138000"
CUSTOMER_NUMBER = "3701004512"
AGENT = "1001"
CALLER_HZ, AGENT_HZ = 440, 1000
TALK_MS = 5000
RATING = 5

_LIKENESS = 0.9
_MENU_MS = 3000  # of the menu are listened to
_MUSIC_MS = 3000
_TRAILING_SILENCE_MS = 60
_RING_S = 1.5
_PATIENCE_S = 20.0


class DemoStoppedError(Exception):
    """What should have come did not; the checks tell."""


@dataclass(slots=True)
class Evidence:
    """What the call has left behind for the report."""

    caller_heard: Path
    agent_heard: Path
    sip_call_id: str = ""
    bill: dict[str, JsonValue] = field(default_factory=dict)
    summary_before: pb.SummaryResponse | None = None
    summary: pb.SummaryResponse | None = None


class Performance:
    """Plays the caller and the agent, once."""

    def __init__(
        self,
        platform: RunningPlatform,
        media: MediaRouter,
        prompts: ExpectedPrompts,
        story: Story,
        directory: Path,
    ) -> None:
        self._platform = platform
        self._media = media
        self._prompts = prompts
        self._story = story
        self._caller_tone = audio.write_tone(directory / "caller-tone.wav", CALLER_HZ, TALK_MS)
        self._agent_tone = audio.write_tone(directory / "agent-tone.wav", AGENT_HZ, TALK_MS)
        self.evidence = Evidence(directory / "caller-heard.wav", directory / "agent-heard.wav")

    async def run(self) -> None:
        """Make the call; DemoStoppedError when it cannot go on."""
        story, evidence = self._story, self.evidence
        async with AsyncExitStack() as leaving:
            agent_phone = await self._agent_phone(leaving)
            caller_phone = Phone(PhoneSettings(user=CALLER), self._media)
            leaving.push_async_callback(caller_phone.aclose)
            await caller_phone.open()
            story.tell(
                f"客户 {mask_number(CALLER)} 经中继拨打 {ACCESS_CODE}",
                f"the caller dials {ACCESS_CODE} through the trunk",
            )
            call = caller_phone.dial(
                self._platform.access_url(ACCESS_CODE),
                self._platform.sip,
                record=evidence.caller_heard,
            )
            evidence.sip_call_id = call.sip_call_id
            await call.wait_answered(_PATIENCE_S)
            await self._self_service(call)
            async with self._toolbar() as (toolbar, events):
                evidence.summary_before = await toolbar.summary()
                await self._reach_agent(call, agent_phone, toolbar, events)
                await self._rate(call)
                evidence.summary = await self._day(toolbar, evidence.summary_before.ratings)
                story.tell("坐席签出", "the agent signs out")

    async def _agent_phone(self, leaving: AsyncExitStack) -> Phone:
        phone = Phone(PhoneSettings(user=AGENT), self._media)
        leaving.push_async_callback(phone.aclose)
        await phone.open()
        phone.record_to = self.evidence.agent_heard
        password = self._platform.passwords().phones[TENANT][AGENT]
        granted_s = await phone.register(self._platform.sip, password)
        self._story.tell(
            f"坐席话机 {AGENT} 注册(摘要认证)", f"the agent's phone registers for {granted_s} s"
        )
        return phone

    async def _self_service(self, call: PhoneCall) -> None:
        story, prompts = self._story, self._prompts
        end_ms = await self._hear(call, "问候语", "greeting", await prompts.sound("greeting"), 0)
        menu = await prompts.sound("main_menu")
        start_of_menu = menu.between(0, _MENU_MS)
        await self._hear(call, "主菜单", "main menu", start_of_menu, end_ms)
        story.tell("客户按 1 查电费", "the caller presses 1 for the bill")
        await call.press("1")
        pressed_ms = call.heard().duration_ms
        self.evidence.bill = await self._ask_bill()
        bill = await prompts.sound("bill_read", {"bill": self.evidence.bill})
        words = f"{self.evidence.bill['usage_kwh']} kWh, ¥{self.evidence.bill['amount']}"
        end_ms = await self._hear(call, f"电费播报 {words}", "bill read", bill, pressed_ms)
        end_ms = await self._hear(
            call, "已缴清", "bill is paid", await prompts.sound("bill_paid"), end_ms
        )
        story.tell("客户按 0 转人工", "the caller presses 0 for an agent")
        await call.press("0")
        end_ms = await self._hear(
            call, "转接提示", "transfer announced", await prompts.sound("queue_bill"), end_ms
        )
        music = prompts.music().between(0, _MUSIC_MS)
        await self._hear(call, "排队音乐", "music while waiting", music, end_ms)

    async def _reach_agent(
        self,
        call: PhoneCall,
        phone: Phone,
        toolbar: ToolbarClient,
        events: asyncio.Queue[pb.AgentEvent],
    ) -> None:
        story = self._story
        result = await toolbar.ready()
        story.check(
            result.accepted,
            "坐席示闲",
            "agent ready",
            pb.AgentState.Name(result.state),
            str(result),
        )
        agent_call = await phone.next_call(_PATIENCE_S)
        ringing = await _event(events, pb.AGENT_STATE_RINGING)
        popped = ringing.call
        story.tell(
            f"坐席话机振铃,弹屏:客户 {mask_number(popped.caller)},队列 {popped.queue},"
            f"已等 {popped.waited_ms / 1000:.1f} 秒",
            f"the agent's phone rings, screen pop shows caller, queue {popped.queue} and path",
        )
        story.check(
            popped.caller == CALLER
            and CUSTOMER_NUMBER in popped.attached.get("customer_number", ""),
            "来电弹屏",
            "screen pop",
            f"{mask_number(popped.caller)}, {len(popped.attached)} attached data, "
            f"{len(popped.path)} nodes",
            str(self._platform.log),
        )
        await asyncio.sleep(_RING_S)
        result = await toolbar.answer()
        story.check(
            result.accepted,
            "工具条接听",
            "answered from the toolbar",
            result.words_en or "accepted",
        )
        await agent_call.wait_answered(_PATIENCE_S)
        await _event(events, pb.AGENT_STATE_TALKING)
        story.tell("坐席接听,双方通话五秒", "the agent answers; they talk for five seconds")
        async with asyncio.timeout(_PATIENCE_S):
            await asyncio.gather(call.play(self._caller_tone), agent_call.play(self._agent_tone))
        story.tell("坐席挂机", "the agent hangs up")
        agent_call.hang_up()
        await agent_call.wait_closed(_PATIENCE_S)

    async def _rate(self, call: PhoneCall) -> None:
        story, prompts = self._story, self._prompts
        since_ms = call.heard().duration_ms - 1000
        invitation = (await prompts.sound("rate")).between(0, _MENU_MS)
        await self._hear(call, "评价邀请", "rating asked", invitation, since_ms)
        story.tell(f"客户按 {RATING} 评价", f"the caller rates the service with {RATING}")
        await call.press(str(RATING))
        end = await call.wait_ended(_PATIENCE_S)
        await call.wait_closed(_PATIENCE_S)
        story.check(
            end.by_peer, "流程结束挂机", "the platform ends the call", end.reason or str(end.code)
        )
        goodbye = await prompts.sound("goodbye")
        # The silence at its end may be cut off by the BYE.
        spoken = goodbye.between(0, goodbye.duration_ms - _TRAILING_SILENCE_MS)
        self._liked("结束语", "goodbye", audio.find(call.heard().between(since_ms), spoken))
        story.tell("通话结束", "the call is over")

    async def _hear(
        self, call: PhoneCall, zh: str, en: str, wanted: audio.Sound, since_ms: int
    ) -> int:
        """Wait until a prompt has been heard; return when it ended, in ms of the recording."""
        best = audio.Match(0, 0.0)
        searched_ms = 0

        def heard(sound: audio.Sound) -> bool:
            nonlocal best, searched_ms
            news = sound.between(since_ms)
            if news.duration_ms < wanted.duration_ms or news.duration_ms == searched_ms:
                return False
            searched_ms = news.duration_ms
            best = max(best, audio.find(news, wanted), key=lambda match: match.likeness)
            return best.likeness >= _LIKENESS

        try:
            await call.wait_heard(heard, wanted.duration_ms / 1000 + _PATIENCE_S)
        except TimeoutError:
            pass
        finally:
            self._liked(zh, en, best)
        if best.likeness < _LIKENESS:
            raise DemoStoppedError
        self._story.tell(f"客户听到{zh}", f"the caller hears: {en}")
        return since_ms + best.offset_ms + wanted.duration_ms

    def _liked(self, zh: str, en: str, match: audio.Match) -> None:
        self._story.check(
            match.likeness >= _LIKENESS,
            f"客户听到{zh}",
            f"the caller hears: {en}",
            f"likeness {match.likeness:.2f} to the prompt's own file",
            f"{self.evidence.caller_heard} and {self._platform.log}",
        )

    async def _ask_bill(self) -> dict[str, JsonValue]:
        """Ask the business system ourselves, to know what has to be heard."""
        path = f"/accounts/{CUSTOMER_NUMBER}/bill"
        async with (
            aiohttp.ClientSession(self._platform.business_url) as client,
            client.get(path) as response,
        ):
            return cast("dict[str, JsonValue]", await response.json())

    @asynccontextmanager
    async def _toolbar(self) -> AsyncIterator[tuple[ToolbarClient, asyncio.Queue[pb.AgentEvent]]]:
        client = ToolbarClient(self._platform.grpc)
        events: asyncio.Queue[pb.AgentEvent] = asyncio.Queue()

        async def follow() -> None:
            async for event in client.events():
                events.put_nowait(event)

        async with AsyncExitStack() as leaving:
            leaving.push_async_callback(client.aclose)
            password = self._platform.passwords().agents[TENANT][AGENT]
            signed_in = await client.sign_in(TENANT, AGENT, password)
            accepted = self._story.check(
                signed_in.result.accepted,
                "坐席经 gRPC 签入",
                "agent signed in over gRPC",
                signed_in.display_name or str(signed_in.result.words_en),
                str(self._platform.log),
            )
            if not accepted:
                raise DemoStoppedError
            self._story.tell(
                f"坐席 {signed_in.display_name} 经 gRPC 签入并示闲",
                "an agent signs in over gRPC and gets ready, while the caller waits",
            )
            leaving.push_async_callback(client.sign_out)
            following = asyncio.create_task(follow())
            leaving.callback(following.cancel)
            yield client, events

    async def _day(self, toolbar: ToolbarClient, ratings_before: int) -> pb.SummaryResponse:
        """Return the agent's figures once the rating is among them, or as they are at last."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + _PATIENCE_S / 2
        while True:
            summary = await toolbar.summary()
            if summary.ratings > ratings_before or loop.time() > deadline_s:
                return summary
            await asyncio.sleep(0.3)


async def _event(
    events: asyncio.Queue[pb.AgentEvent], state: pb.AgentState.ValueType
) -> pb.AgentEvent:
    """Wait for a state; earlier ones are passed over."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            event = await events.get()
            if event.state == state:
                return event
