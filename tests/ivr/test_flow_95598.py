"""The 95598 flow as callers meet it, with the real business system behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from cti95598.events.v1.events_pb2 import Rated
from demo.business import running_business, sample_ledger
from domain.failures import Code
from ivr.business import BusinessClient
from ivr.queueing import QueueOutcome, QueueResult
from tests.fakes.call import SILENCE, FakeCall
from tests.ivr.desk import SERVED, Desk, ScriptedQueues

NOW = datetime.fromisoformat("2026-11-21T10:00:00+08:00")
ONE_ACCOUNT = "13800138000"
TWO_ACCOUNTS = "13900139000"
PLANNED_OUTAGE = "053288886666"
STRANGER = "15500000000"


class Hotline(Desk):
    async def dial(self, *keys: str, caller: str = ONE_ACCOUNT) -> FakeCall:
        return await self.call(*keys, flow="95598", caller=caller)

    def text(self, call: FakeCall) -> str:
        return "".join(self.said(call))


@pytest.fixture
async def hotline(tmp_path: Path) -> AsyncIterator[Hotline]:
    async with running_business(sample_ledger(NOW)) as url:
        client = BusinessClient(url, timeout_ms=5000)
        yield Hotline(tmp_path, Path("flows"), queries=client)
        await client.aclose()


async def test_bill_then_agent_then_rating(hotline: Hotline) -> None:
    call = await hotline.dial("1", "0", "5")
    heard = hotline.text(call)
    assert heard.startswith("您好，欢迎致电九五五九八供电服务热线。")
    assert "您二零二六年十月用电二百三十六度，电费一百二十八元五角六分您的电费已经缴清。" in heard
    assert "请输入您的户号" not in heard  # the number is bound to one account
    assert heard.endswith("感谢您的评价。本次服务结束，感谢您的来电，再见。")
    assert [request.queue for request in hotline.queues.requests] == ["bill"]
    assert hotline.queues.requests[0].music
    assert hotline.sink.bodies("rated") == [Rated(agent="1001", score=5, language="zh")]
    assert call.data["customer_number"] == "3701004512"
    assert call.ended is Code.FLOW_ENDED


async def test_a_number_with_two_accounts_is_asked_for_one(hotline: Hotline) -> None:
    call = await hotline.dial("1", "3701008823#", "*", "0", "4", caller=TWO_ACCOUNTS)
    heard = hotline.text(call)
    assert "请输入您的户号" in heard
    assert "您目前欠费九十八元零二分请在二零二六年十二月一日之前缴纳。" in heard
    assert [request.queue for request in hotline.queues.requests] == ["general"]


async def test_a_stranger_enters_a_wrong_number_and_returns(hotline: Hotline) -> None:
    call = await hotline.dial("1", "12#", "9999999999#", "*", "*", "0", caller=STRANGER)
    heard = hotline.text(call)
    assert "您输入的户号有误" in heard
    assert "没有查到这个户号。" in heard
    assert call.path[-3:] == ["queue_general", "rate", "goodbye"]


async def test_nobody_presses_anything(hotline: Hotline) -> None:
    call = await hotline.dial()
    heard = hotline.said(call)
    assert sum(text.startswith("电费查询请按一") for text in heard) == 3
    assert heard[-1] == "本次服务结束，感谢您的来电，再见。"
    assert call.ended is Code.FLOW_ENDED


async def test_wrong_keys_lead_to_an_agent(hotline: Hotline) -> None:
    call = await hotline.dial("7", "8", "#")
    assert "您的按键有误" in hotline.text(call)
    assert call.path[:3] == ["greeting", "main_menu", "queue_general"]


async def test_planned_outage_then_fault_report(hotline: Hotline) -> None:
    call = await hotline.dial("2", "3", "1", "*", SILENCE, caller=PLANNED_OUTAGE)
    heard = hotline.text(call)
    assert (
        "市南区香港中路因线路检修计划停电，时间从二零二六年十一月二十二日八点三十分到"
        "二零二六年十一月二十二日十七点整" in heard
    )
    assert "您的报修已经受理，工单编号一零零零零零二零抢修人员会尽快与您联系。" in heard


async def test_no_outage(hotline: Hotline) -> None:
    call = await hotline.dial("2", "0", "3")
    assert "您所在的区域目前没有停电信息。" in hotline.text(call)
    assert [request.queue for request in hotline.queues.requests] == ["fault"]
    assert hotline.queues.requests[0].priority == 120


async def test_progress_of_a_request(hotline: Hotline) -> None:
    call = await hotline.dial("4", "10000016#", "1", "10000017#", "1", "1#", "10000099#", "*", "5")
    heard = hotline.text(call)
    assert "您的工单已经派发" in heard
    assert "您的工单已经办结" in heard
    assert "您输入的工单编号有误" in heard
    assert "没有查到这个工单" in heard
    assert [request.queue for request in hotline.queues.requests] == ["complaint"]


async def test_english_is_equal(hotline: Hotline) -> None:
    call = await hotline.dial("9", "1", "0", "5")
    heard = " ".join(hotline.said(call)[3:])
    assert "In October twenty twenty-six you used two hundred and thirty-six kilowatt" in heard
    assert "one hundred and twenty-eight point five six yuan" in heard
    assert heard.endswith("Thank you for calling, and goodbye.")
    assert hotline.sink.bodies("rated") == [Rated(agent="1001", score=5, language="en")]
    back = await hotline.dial("9", "9")
    assert back.language == "zh"


async def test_agents_busy_leads_back_to_self_service(hotline: Hotline) -> None:
    hotline.queues.results = [
        QueueResult(QueueOutcome.TIMEOUT),
        QueueResult(QueueOutcome.CALLER_KEY),
        QueueResult(QueueOutcome.NO_AGENTS),
        SERVED,
    ]
    call = await hotline.dial("0", "0", "0", "0", "1")
    assert "坐席全忙" in hotline.text(call)
    assert "人工服务暂时无法接通" in hotline.text(call)
    assert call.path.count("main_menu") == 4
    assert len(hotline.sink.bodies("rated")) == 1


async def test_a_business_system_that_is_down_leads_to_an_agent(tmp_path: Path) -> None:
    client = BusinessClient("http://127.0.0.1:9")
    desk = Hotline(tmp_path, Path("flows"), queues=ScriptedQueues(), queries=client)
    for keys in (["1"], ["2"], ["3", "1"], ["4", "10000016#"]):
        call = await desk.dial(*keys)
        assert "系统繁忙，暂时无法查询。" in desk.text(call)
        assert call.path[-3:] == ["queue_general", "rate", "goodbye"]
    await client.aclose()
