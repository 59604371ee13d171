"""The toolbar on the command line: reads an agent's commands, shows what happens to the agent."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from agents.toolbar_client import ToolbarClient, summary_line
from cti95598.agents.v1 import agents_pb2 as pb

console = Console(highlight=False, soft_wrap=True)

_STATE_WORDS = {
    pb.AGENT_STATE_SIGNED_OUT: "签出 signed out",
    pb.AGENT_STATE_NOT_READY: "示忙 not ready",
    pb.AGENT_STATE_READY: "示闲 ready",
    pb.AGENT_STATE_RINGING: "振铃 ringing",
    pb.AGENT_STATE_TALKING: "通话 talking",
    pb.AGENT_STATE_HELD: "保持 held",
    pb.AGENT_STATE_CONSULTING: "求助 consulting",
    pb.AGENT_STATE_CONFERENCE: "三方 conference",
    pb.AGENT_STATE_AFTER_CALL_WORK: "话后处理 after-call work",
}

_NAMES = {
    "示闲": "ready",
    "示忙": "notready",
    "接听": "answer",
    "挂断": "hangup",
    "保持": "hold",
    "取回": "retrieve",
    "暂停录音": "pause",
    "恢复录音": "resume",
    "求助": "consult",
    "取消求助": "cancel",
    "三方": "conference",
    "转移": "transfer",
    "监听": "listen",
    "耳语": "whisper",
    "插入": "barge",
    "拦截": "intercept",
    "停止监控": "stop",
    "统计": "summary",
    "签出": "signout",
    "帮助": "help",
}
_WORDS = _NAMES | {name: name for name in _NAMES.values()} | {"quit": "signout"}
_RINGING = frozenset({"consult", "listen", "whisper", "barge", "intercept"})
"""Commands that take as long as a phone rings; others are taken meanwhile."""

_HELP = """命令 commands:
  示闲 ready            接受来电 take calls
  示忙 notready [原因]   不接来电 take no calls, with a reason
  接听 answer           让话机接听 let the phone pick up
  挂断 hangup           挂断通话 hang up the call
  保持 hold             客户等待并听音乐 let the caller wait with music
  取回 retrieve         继续与客户通话 talk to the caller again
  暂停录音 pause         客户报卡号等时不录音 record silence
  恢复录音 resume        继续录音 record again
  求助 consult 工号      咨询专家,客户等待 ask an expert: an agent's number,
                        话机 phone NAME, or 外线 outside NUMBER
  取消求助 cancel        专家离开,继续与客户通话 let the expert go
  三方 conference       客户、坐席、专家三方通话 let all three talk
  转移 transfer         将客户转给专家 leave the caller to the expert
班长 supervisors, 示忙时 while not ready:
  监听 listen 工号       听坐席通话 hear an agent's conversation
  耳语 whisper 工号      只对坐席说话 be heard by the agent only
  插入 barge 工号        对双方说话 be heard by both
  拦截 intercept 工号    接替坐席 take the agent's place
  停止监控 stop          离开通话 leave the conversation
其他 others:
  统计 summary          今日统计 today's figures
  签出 signout          签出并退出 sign out and leave
  帮助 help             本页 this page"""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    agent: str
    tenant: str
    device: str
    grpc_address: str
    take_over: bool
    auto_ready: bool
    tone_hz: float | None
    record: Path | None


class Toolbar:
    """Reads commands and shows what happens to the agent."""

    def __init__(self, client: ToolbarClient, options: Options) -> None:
        self._client = client
        self._options = options
        self._state = pb.AGENT_STATE_UNSPECIFIED
        self._shown_call = ""
        self._ringing: set[asyncio.Task[None]] = set()
        self._commands: dict[str, Callable[[str], Awaitable[pb.Result | None]]] = {
            "ready": lambda _: client.ready(),
            "notready": client.not_ready,
            "answer": lambda _: client.answer(),
            "hangup": lambda _: client.hang_up(),
            "hold": lambda _: client.hold(),
            "retrieve": lambda _: client.retrieve(),
            "pause": lambda _: client.pause_recording(),
            "resume": lambda _: client.resume_recording(),
            "consult": lambda whom: client.consult(**expert_of(whom)),
            "cancel": lambda _: client.cancel_consult(),
            "conference": lambda _: client.three_party(),
            "transfer": lambda _: client.complete_transfer(),
            "listen": client.listen,
            "whisper": client.whisper,
            "barge": client.barge,
            "intercept": client.intercept,
            "stop": lambda _: client.stop_supervising(),
            "signout": lambda _: client.sign_out(),
            "summary": self._summary,
            "help": self._help,
        }

    async def work(self, password: str) -> bool:
        """Sign in and work until sign-out; False when the sign-in was refused."""
        options = self._options
        signed_in = await self._client.sign_in(
            options.tenant,
            options.agent,
            password,
            device=options.device,
            take_over=options.take_over,
        )
        if not signed_in.result.accepted:
            self._show_refusal("签入 sign in", signed_in.result)
            return False
        queues = " ".join(signed_in.queues)
        console.print(f"{signed_in.display_name}({options.agent})已签入 · signed in: {queues}")
        tasks = {asyncio.create_task(self._follow()), asyncio.create_task(self._obey())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks | self._ringing:
                task.cancel()
            await self._leave()
        return True

    async def _leave(self) -> None:
        """Sign out unless that has happened."""
        if self._state == pb.AGENT_STATE_SIGNED_OUT:
            return
        try:
            await self._client.sign_out()
        except grpc.aio.AioRpcError:
            return  # the session is gone already
        console.print(_STATE_WORDS[pb.AGENT_STATE_SIGNED_OUT])

    async def _follow(self) -> None:
        # What is automatic ends where the agent, or an unanswered call, says 示忙.
        due = {pb.AGENT_STATE_NOT_READY}
        async for event in self._client.events():
            changed = event.state != self._state
            self._state = event.state
            if event.HasField("call") and event.call.call_id != self._shown_call:
                self._shown_call = event.call.call_id
                console.print(_screen_pop(event.call))
            if changed:
                reason = f"({event.reason})" if event.reason else ""
                console.print(f"状态 state: {_STATE_WORDS.get(event.state, '?')}{reason}")
            if self._options.auto_ready and event.state in due:
                await self._run("ready", "")
            due = {pb.AGENT_STATE_AFTER_CALL_WORK}
            if event.state == pb.AGENT_STATE_SIGNED_OUT:
                return

    async def _obey(self) -> None:
        lines = _standard_input()
        while True:
            line = await lines.get()
            if line is None:
                if self._options.auto_ready:
                    await asyncio.Event().wait()
                return
            word, _, rest = line.strip().partition(" ")
            if not word:
                continue
            name = _WORDS.get(word.lower())
            if name is None:
                console.print(f"没有命令 {word},输入 help · no such command")
                continue
            if name in _RINGING:
                self._begin(name, rest.strip())
                continue
            await self._run(name, rest.strip())
            if name == "signout" and self._state == pb.AGENT_STATE_SIGNED_OUT:
                return

    def _begin(self, name: str, rest: str) -> None:
        task = asyncio.create_task(self._run_while_it_rings(name, rest))
        self._ringing.add(task)
        task.add_done_callback(self._ringing.discard)

    async def _run_while_it_rings(self, name: str, rest: str) -> None:
        try:
            await self._run(name, rest)
        except grpc.aio.AioRpcError as error:  # a lost platform ends the event stream as well
            console.print(f"{name} 失败 failed: {error.details()}", markup=False)

    async def _run(self, name: str, rest: str) -> None:
        result = await self._commands[name](rest)
        if result is None:
            return
        if not result.accepted:
            self._show_refusal(name, result)
        elif name == "signout" and self._state != pb.AGENT_STATE_SIGNED_OUT:
            self._state = pb.AGENT_STATE_SIGNED_OUT
            console.print(_STATE_WORDS[self._state])

    async def _summary(self, _: str) -> None:
        console.print(summary_line(self._options.agent, await self._client.summary()))

    async def _help(self, _: str) -> None:
        console.print(_HELP, markup=False)

    @staticmethod
    def _show_refusal(name: str, result: pb.Result) -> None:
        console.print(
            f"{name} 被拒绝:{result.words_zh} · refused: {result.words_en} ({result.code})"
        )


def expert_of(words: str) -> dict[str, str]:
    """Return whom to consult: `1002`, `话机 1002` or `外线 13900001111`."""
    first, _, rest = words.partition(" ")
    kind = {"话机": "phone", "phone": "phone", "外线": "number", "outside": "number"}.get(first)
    return {kind: rest.strip()} if kind else {"agent": words}


def _screen_pop(call: pb.CallSummary) -> Panel:
    table = Table.grid(padding=(0, 2))
    rows = [
        ("来电 caller", call.caller),
        ("被叫 called", call.called),
        ("队列 queue", call.queue),
        ("等待 waited", f"{call.waited_ms / 1000:.1f} s"),
        ("语言 language", call.language),
        ("路径 path", " → ".join(call.path)),
    ]
    rows += [(name, _plain(value)) for name, value in sorted(call.attached.items())]
    for row in rows:
        table.add_row(*map(escape, row))
    return Panel(table, title="来电弹屏 screen pop", expand=False)


def _plain(value: str) -> str:
    """Show attached data, which comes as JSON, without its quotes."""
    try:
        parsed = json.loads(value)
    except ValueError:
        return value
    return parsed if isinstance(parsed, str) else value


def _standard_input() -> asyncio.Queue[str | None]:
    """Read lines in a thread of their own: files, pipes and terminals alike; None at the end."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        try:
            for line in sys.stdin:
                loop.call_soon_threadsafe(lines.put_nowait, line)
            loop.call_soon_threadsafe(lines.put_nowait, None)
        except RuntimeError:
            return  # the loop is closed: nobody listens any more

    threading.Thread(target=read, daemon=True, name="standard-input").start()
    return lines
