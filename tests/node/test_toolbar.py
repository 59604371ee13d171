"""The words of the command-line toolbar, and that it takes commands while a phone rings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, cast

import pytest

from agents.toolbar_client import ToolbarClient
from cti95598.agents.v1 import agents_pb2 as pb
from node.commands import toolbar
from node.commands.toolbar import Options, Toolbar, expert_of
from tests.call_control.platform import until

OPTIONS = Options("1001", "demo", "1001", "127.0.0.1:1", False, False, None, None)


class Client:
    """Notes what is asked; a consultation rings until it is cancelled."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.given_up = asyncio.Event()

    def __getattr__(self, name: str) -> Callable[..., Awaitable[pb.Result]]:
        async def command(*words: str, **more: str) -> pb.Result:
            self.asked.append(" ".join([name, *words, *(f"{k}={v}" for k, v in more.items())]))
            if name == "consult":
                await self.given_up.wait()
                return pb.Result(code="no_call", words_zh="当前没有通话", words_en="no call")
            if name == "cancel_consult":
                self.given_up.set()
            return pb.Result(accepted=True)

        return command

    async def sign_in(self, *_: str, **_more: object) -> pb.SignInResponse:
        return pb.SignInResponse(result=pb.Result(accepted=True))

    async def events(self) -> AsyncIterator[pb.AgentEvent]:
        yield pb.AgentEvent(state=pb.AGENT_STATE_HELD)
        await asyncio.Event().wait()


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[str | None]:
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    monkeypatch.setattr(toolbar, "_standard_input", lambda: lines)
    return lines


async def test_the_commands_of_a_conversation(
    lines: asyncio.Queue[str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client()
    working = asyncio.create_task(Toolbar(cast("ToolbarClient", client), OPTIONS).work("secret"))
    typed = ["保持", "取回", "求助 1002", "取消求助", "三方", "transfer", "监听 1002", "耳语 1002"]
    for line in (*typed, "BARGE 1002", "拦截 1002", "停止监控", "帮助", "签出"):
        due = len(client.asked) + (line != "帮助")
        await lines.put(line)
        await until(partial(lambda due: len(client.asked) == due, due))
    assert await asyncio.wait_for(working, 5)
    assert client.asked == [
        "hold",
        "retrieve",
        "consult agent=1002",
        "cancel_consult",
        "three_party",
        "complete_transfer",
        "listen 1002",
        "whisper 1002",
        "barge 1002",
        "intercept 1002",
        "stop_supervising",
        "sign_out",
    ]
    shown = capsys.readouterr().out
    assert "状态 state: 保持 held" in shown
    assert "consult 被拒绝:当前没有通话" in shown
    assert "求助 consult 工号" in shown


@pytest.mark.parametrize(
    ("words", "expert"),
    [
        ("1002", {"agent": "1002"}),
        ("话机 desk.7", {"phone": "desk.7"}),
        ("外线 13900001111", {"number": "13900001111"}),
        ("outside 95598", {"number": "95598"}),
        ("", {"agent": ""}),
    ],
)
def test_whom_a_consultation_is_for(words: str, expert: dict[str, Any]) -> None:
    assert expert_of(words) == expert
