"""Every kind of node, and every exit of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cti95598.events.v1.events_pb2 import Rated
from domain.failures import Code
from domain.ids import AgentId
from ivr.business import Reply
from ivr.queueing import QueueOutcome, QueueResult
from tests.fakes.call import SILENCE
from tests.ivr.desk import SERVED, Desk, ScriptedQueries, ScriptedQueues


def flow(nodes: str, *, languages: str = "[zh]", inputs: str = "[]") -> str:
    """A flow that starts at `start`; `end` hangs up."""
    return (
        f"flow: test\nlanguages: {languages}\ninputs: {inputs}\nstart: start\nnodes:\n{nodes}\n"
        "  end: {kind: hangup}\n"
    )


MENU = flow("""
  start:
    kind: menu
    text: 请选择
    no_input_text: 没有按键
    invalid_text: 按键有误
    repeats: 2
    choices: {"1": one, "*": start}
    exits: {no_input: nothing, invalid: wrong}
  one: {kind: play, text: 一号, next: end}
  nothing: {kind: play, text: 无人, next: end}
  wrong: {kind: play, text: 有误, next: end}
""")


@pytest.mark.parametrize(
    ("keys", "said", "exit_name", "digits"),
    [
        (["1"], ["请选择", "一号"], "1", "1"),
        (["*", "1"], ["请选择", "请选择", "一号"], "1", "1"),
        ([SILENCE, "1"], ["请选择", "没有按键", "请选择", "一号"], "1", "1"),
        (["7", "1"], ["请选择", "按键有误", "请选择", "一号"], "1", "71"),
        (["7", "8"], ["请选择", "按键有误", "请选择", "按键有误", "有误"], "invalid", "78"),
        ([], ["请选择", "没有按键", "请选择", "没有按键", "无人"], "no_input", ""),
        (["7"], ["请选择", "按键有误", "请选择", "没有按键", "无人"], "no_input", "7"),
    ],
)
async def test_menu(
    tmp_path: Path, keys: list[str], said: list[str], exit_name: str, digits: str
) -> None:
    desk = Desk(tmp_path, MENU)
    call = await desk.call(*keys)
    assert desk.said(call) == said
    left = desk.left("start")
    assert (left.exit, left.digits, left.kind) == (exit_name, digits, "menu")
    assert call.ended is Code.FLOW_ENDED


async def test_menu_takes_keys_typed_ahead(tmp_path: Path) -> None:
    nodes = """
  start: {kind: play, text: 您好, next: first}
  first:
    kind: menu
    text: 第一层
    choices: {"1": second}
    exits: {no_input: end, invalid: end}
  second:
    kind: menu
    text: 第二层
    choices: {"2": end}
    exits: {no_input: end, invalid: end}
"""
    desk = Desk(tmp_path, flow(nodes))
    call = await desk.call("12")
    assert desk.left("second").exit == "2"
    assert "第二层" not in desk.said(call)


COLLECT = """
  start:
    kind: collect
    text: 请输入户号
    no_input_text: 没有按键
    invalid_text: 位数不对
    into: number
    min_digits: 3
    max_digits: 5
    cancel_key: "*"
    repeats: 2
    %s
    exits: {ok: good, timeout: late, invalid: wrong, cancelled: back}
  good: {kind: play, text: "{{ number | digits }}", next: end}
  late: {kind: play, text: 超时, next: end}
  wrong: {kind: play, text: 有误, next: end}
  back: {kind: play, text: 返回, next: end}
"""


@pytest.mark.parametrize(
    ("keys", "exit_name", "number", "last"),
    [
        (["123#"], "ok", "123", "三"),
        (["12345"], "ok", "12345", "五"),
        (["12345#"], "ok", "12345", "五"),
        (["123456#", "123#"], "ok", "123", "三"),  # too long
        (["1234"], "ok", "1234", "四"),  # ended by the inter-digit timeout
        (["12#", "123#"], "ok", "123", "三"),
        (["12#", "1*"], "cancelled", None, "返回"),
        (["*"], "cancelled", None, "返回"),
        (["#", SILENCE], "timeout", None, "超时"),
        ([], "timeout", None, "超时"),
        (["12#", "1#"], "invalid", None, "有误"),
    ],
)
async def test_collect(
    tmp_path: Path, keys: list[str], exit_name: str, number: str | None, last: str
) -> None:
    desk = Desk(tmp_path, flow(COLLECT % ""))
    call = await desk.call(*keys)
    assert desk.left("start").exit == exit_name
    assert call.data.get("number") == number
    assert desk.said(call)[-1] == last


async def test_collect_checks_a_condition(tmp_path: Path) -> None:
    desk = Desk(tmp_path, flow(COLLECT % "valid_when: number > 200"))
    call = await desk.call("123#", "300#")
    assert desk.left("start").exit == "ok"
    assert call.data["number"] == "300"
    refused = await desk.call("123#", "124#")
    assert desk.left("start").exit == "invalid"
    assert refused.data.get("number") is None


async def test_the_terminator_after_the_last_digit_does_not_choose_in_the_next_menu(
    tmp_path: Path,
) -> None:
    nodes = (
        COLLECT.replace("ok: good", "ok: menu") % ""
        + """
  menu:
    kind: menu
    text: 请选择
    choices: {"1": end, "#": back}
    exits: {no_input: end, invalid: back}
"""
    )
    desk = Desk(tmp_path, flow(nodes))
    call = await desk.call("12345#", "1")
    assert desk.left("menu").exit == "1"
    assert "请选择" in desk.said(call)


async def test_secret_digits_stay_in_the_flow(tmp_path: Path) -> None:
    desk = Desk(tmp_path, flow(COLLECT % "secret: true"))
    call = await desk.call("824#")
    assert desk.said(call)[1:] == ["八", "二", "四"]
    assert "number" not in call.data
    assert desk.left("start").digits == ""
    # Ids and times of events hold any digits by chance; what events tell is their body.
    bodies = [str(getattr(event, event.WhichOneof("body") or "")) for event in desk.sink.events]
    assert bodies
    assert not any("824" in body for body in bodies)


async def test_collect_of_one_digit(tmp_path: Path) -> None:
    nodes = """
  start:
    kind: collect
    text: 请输入
    into: digit
    max_digits: 1
    exits: {ok: end, timeout: end, invalid: end}
"""
    desk = Desk(tmp_path, flow(nodes))
    assert (await desk.call("7")).data == {"digit": "7"}
    await desk.call("*", "*", "*")
    assert desk.left("start").exit == "invalid"


QUERY = """
  start:
    kind: query
    path: /accounts/{{ call.caller }}/bill
    params: {month: "{{ month }}", all: true, limit: 3}
    into: bill
    exits: {ok: end, not_found: none, timeout: late, error: broken}
  none: {kind: play, text: 没有, next: end}
  late: {kind: play, text: 超时, next: end}
  broken: {kind: play, text: 出错, next: end}
"""


@pytest.mark.parametrize(
    ("outcome", "exit_name", "cause"),
    [
        (Reply(200, {"amount": "1.00"}), "ok", ""),
        (Reply(404, None), "not_found", ""),
        (Code.QUERY_TIMEOUT, "timeout", Code.QUERY_TIMEOUT),
        (Code.QUERY_FAILED, "error", Code.QUERY_FAILED),
    ],
)
async def test_query(tmp_path: Path, outcome: Reply | Code, exit_name: str, cause: str) -> None:
    queries = ScriptedQueries(outcome)
    desk = Desk(tmp_path, flow(QUERY, inputs="[month]"), queries=queries)
    call = await desk.call()
    assert desk.left("start").exit == exit_name
    assert desk.cause("start") == cause
    assert call.ended is Code.FLOW_ENDED
    assert call.data == ({"bill": {"amount": "1.00"}} if exit_name == "ok" else {})
    asked = queries.asked[0]
    assert (asked.method, asked.path) == ("GET", "/accounts/13800138000/bill")
    assert asked.params == {"all": "true", "limit": "3"}
    assert "13800138000" not in desk.left("start").note


@pytest.mark.parametrize("outcome", [Reply(404, None), Code.QUERY_TIMEOUT, Code.QUERY_FAILED])
async def test_query_takes_the_way_of_error_where_no_other_is_given(
    tmp_path: Path, outcome: Reply | Code
) -> None:
    nodes = """
  start: {kind: query, path: /x, exits: {ok: end, error: broken}}
  broken: {kind: play, text: 出错, next: end}
"""
    desk = Desk(tmp_path, flow(nodes), queries=ScriptedQueries(outcome))
    assert (await desk.call()).path == ["start", "broken", "end"]


@pytest.mark.parametrize("caller", ["", "..", "."])
async def test_a_strange_caller_number_reaches_no_other_resource(
    tmp_path: Path, caller: str
) -> None:
    queries = ScriptedQueries()
    desk = Desk(tmp_path, flow(QUERY, inputs="[month]"), queries=queries)
    await desk.call(caller=caller)
    assert desk.left("start").exit == "error"
    assert queries.asked == []


async def test_values_are_quoted_in_paths(tmp_path: Path) -> None:
    queries = ScriptedQueries(Reply(200, None))
    desk = Desk(tmp_path, flow(QUERY, inputs="[month]"), queries=queries)
    await desk.call(caller="a/../b?c")
    assert queries.asked[0].path == "/accounts/a%2F..%2Fb%3Fc/bill"


async def test_query_posts_values_with_their_types(tmp_path: Path) -> None:
    nodes = """
  start:
    kind: set
    values:
      {count: 3, name: "{{ call.caller }}", ready: true, both: "{{ call.caller }}-{{ count }}"}
    next: post
  post:
    kind: query
    method: POST
    path: /orders
    body: {count: "{{ count }}", name: "{{ name }}", none: "{{ missing }}", fixed: 1.5, ok: true,
           both: "{{ both }}"}
    exits: {ok: end, error: end}
"""
    queries = ScriptedQueries(Reply(201, {}))
    desk = Desk(tmp_path, flow(nodes, inputs="[missing]"), queries=queries)
    await desk.call(caller="138")
    assert queries.asked[0].body == {
        "count": 3, "name": "138", "none": None, "fixed": 1.5, "ok": True, "both": "138-3",
    }  # fmt: skip


SAY = """
  start:
    kind: say
    before: 金额
    value: amount
    as: money
    after: 谢谢
    next: end
"""


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("128.50", ["金额", "一百", "二十八", "元", "五角", "谢谢"]),
        (None, ["金额", "谢谢"]),
        ("很多", ["金额", "很多", "谢谢"]),
    ],
)
async def test_say(tmp_path: Path, amount: str | None, said: list[str]) -> None:
    queries = ScriptedQueries(Reply(200, amount))
    ask = "  start: {kind: query, path: /x, into: amount, exits: {ok: say, error: end}}"
    nodes = ask + SAY.replace("start:", "say:")
    desk = Desk(tmp_path, flow(nodes), queries=queries)
    assert desk.said(await desk.call()) == said


async def test_branch_takes_the_first_case_that_is_true(tmp_path: Path) -> None:
    nodes = """
  start:
    kind: branch
    cases:
      - {when: call.caller == "138", next: first}
      - {when: 'call.caller in ["139", "138"]', next: second}
    otherwise: third
  first: {kind: play, text: 一, next: end}
  second: {kind: play, text: 二, next: end}
  third: {kind: play, text: 三, next: end}
"""
    desk = Desk(tmp_path, flow(nodes))
    taken = [(await desk.call(caller=caller)).path[1] for caller in ("138", "139", "137")]
    assert taken == ["first", "second", "third"]
    assert desk.left("start").exit == "otherwise"


async def test_set_changes_the_language(tmp_path: Path) -> None:
    nodes = """
  start: {kind: set, language: en, values: {vip: true}, next: hello}
  hello:
    kind: play
    text: {zh: 您好, en: Hello}
    next: where
  where:
    kind: branch
    cases: [{when: vip and language == "en", next: yes_english}]
    otherwise: end
  yes_english: {kind: play, text: {zh: 好, en: Fine}, next: end}
"""
    desk = Desk(tmp_path, flow(nodes, languages="[zh, en]"))
    call = await desk.call()
    assert desk.said(call) == ["Hello", "Fine"]
    assert (call.language, call.data) == ("en", {"vip": True})


QUEUE = """
  start: {kind: set, values: {level: "200", wanted: bill}, next: wait}
  wait:
    kind: queue
    text: 请稍候
    queue: "{{ wanted }}"
    priority: "{{ level }}"
    skills: [english, "{{ wanted }}"]
    max_wait_ms: 60000
    release_key: "*"
    exits:
      {served: rate, timeout: late, full: full, no_agents: none, error: broken, caller_key: back}
  rate:
    kind: rate
    text: 请评价
    thanks: 感谢
    invalid_text: 有误
    next: end
  late: {kind: play, text: 超时, next: rate}
  full: {kind: play, text: 已满, next: rate}
  none: {kind: play, text: 无人, next: rate}
  broken: {kind: play, text: 出错, next: rate}
  back: {kind: play, text: 返回, next: rate}
"""


@pytest.mark.parametrize(
    ("outcome", "node", "cause"),
    [
        (QueueOutcome.TIMEOUT, "late", Code.QUEUE_TIMEOUT),
        (QueueOutcome.FULL, "full", Code.QUEUE_FULL),
        (QueueOutcome.NO_AGENTS, "none", Code.QUEUE_NO_AGENTS),
        (QueueOutcome.ERROR, "broken", Code.QUEUE_UNAVAILABLE),
        (QueueOutcome.CALLER_KEY, "back", ""),
    ],
)
async def test_queue_that_does_not_serve(
    tmp_path: Path, outcome: QueueOutcome, node: str, cause: str
) -> None:
    desk = Desk(tmp_path, flow(QUEUE), queues=ScriptedQueues(QueueResult(outcome)))
    call = await desk.call()
    assert call.path == ["start", "wait", node, "rate", "end"]
    assert desk.left("wait").exit == outcome.value
    assert desk.cause("wait") == cause
    assert desk.left("rate").exit == "no_agent"
    assert desk.sink.bodies("rated") == []


async def test_queue_that_serves_and_rating(tmp_path: Path) -> None:
    desk = Desk(tmp_path, flow(QUEUE))
    call = await desk.call("7", "4")
    request = desk.queues.requests[0]
    assert (request.queue, request.priority, request.skills) == ("bill", 200, ("english", "bill"))
    assert (request.max_wait_ms, request.release_key) == (60_000, "*")
    assert [clip.name for clip in request.music] == ["waiting.wav"]
    assert desk.said(call) == ["请稍候", "请评价", "有误", "请评价", "感谢"]
    assert call.data["rating"] == 4
    assert desk.sink.bodies("rated") == [Rated(agent="1001", score=4, language="zh")]
    assert "talked 5000 ms" in desk.left("wait").note


@pytest.mark.parametrize("keys", [[], ["9", "0"], ["#"]])
async def test_no_rating(tmp_path: Path, keys: list[str]) -> None:
    desk = Desk(tmp_path, flow(QUEUE))
    call = await desk.call(*keys)
    assert desk.left("rate").exit == "no_rating"
    assert desk.sink.bodies("rated") == []
    assert "rating" not in call.data
    assert call.ended is Code.FLOW_ENDED


@pytest.mark.parametrize(("level", "priority"), [("0", 100), ("255", 100), ("vip", 100), ("1", 1)])
async def test_a_priority_that_makes_no_sense_is_the_usual_one(
    tmp_path: Path, level: str, priority: int
) -> None:
    desk = Desk(tmp_path, flow(QUEUE.replace('"200"', f'"{level}"')))
    await desk.call("5")
    assert desk.queues.requests[0].priority == priority


async def test_the_last_agent_is_rated(tmp_path: Path) -> None:
    second = QueueResult(QueueOutcome.SERVED, AgentId("1002"))
    nodes = QUEUE.replace("served: rate", "served: again") + (
        "  again: {kind: queue, queue: bill, exits: {served: rate, timeout: end, full: end,"
        " no_agents: end, error: end}}\n"
    )
    desk = Desk(tmp_path, flow(nodes), queues=ScriptedQueues(SERVED, second))
    await desk.call("5")
    assert desk.sink.bodies("rated") == [Rated(agent="1002", score=5, language="zh")]
