"""Stacks of py-spy by part of the platform, and the flame graph of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from loadtest.profile.flame import flame_graph
from loadtest.profile.stacks import OTHER, PARTS, Part, part_of, read_stacks, shares

_START = "<module> (node/cli.py:1);run (uvloop/__init__.py:38);Runner.run (asyncio/runners.py:86)"
_READ = "UdpSocket._read (cti/sip/transports/udp.py:94)"
_SDP = "parse_sdp (cti/sdp/description.py)"


def _named(name: str) -> Part:
    return next(part for part in PARTS if part.en == name)


@pytest.mark.parametrize(
    ("stack", "part"),
    [
        (f";{_READ};{_SDP}", _named("SIP and SDP")),
        (f";{_READ};InboundCall.dial (cti/calls/inbound_call.py)", _named("calls, media control")),
        # A library works for whoever called it, unless it has a part of its own.
        (f";{_SDP};namedtuple (collections/__init__.py)", _named("SIP and SDP")),
        (";RedisAcd.run (routing/redis_acd.py);pack (redis/connection.py)", _named("Redis client")),
        (";FlowRunner.run (ivr/runner.py);timeout (asyncio/timeouts.py)", _named("flows")),
        (";RedisContactStore._work (cti/shared/contacts.py)", _named("ACD and agents")),
        (";strange (somewhere/else.py)", OTHER),
    ],
)
def test_a_stack_belongs_to_the_innermost_part_it_is_in(stack: str, part: Part) -> None:
    (only,) = read_stacks([f"{_START}{stack} 3\n"])
    assert part_of(only) == part


def test_shares_are_by_samples_and_broken_lines_are_passed_over() -> None:
    flow = "FlowRunner.run (ivr/runner.py:49)"
    lines = [f"{_START};{_READ};{_SDP} 30", f"{_START};{flow} 10", "", "no count", "x 1x"]
    assert shares(read_stacks(lines)) == {_named("SIP and SDP"): 0.75, _named("flows"): 0.25}
    assert shares(read_stacks([])) == {}


def test_the_loop_that_waits_is_not_counted() -> None:
    stacks = read_stacks([f"{_START} 90", f"{_START};{_READ} 10"])
    assert shares(stacks) == {_named("SIP and SDP"): 1.0}


def test_the_graph_is_well_formed_and_as_wide_as_its_counts() -> None:
    evil = f"{_START};<lambda> (cti/sip/a&b.py) 1"
    stacks = read_stacks(
        [f"{_START};{_READ};{_SDP} 60", f"{_START};{_READ} 20", f"{_START};other (x.py) 19", evil]
    )
    svg = ET.fromstring(flame_graph(stacks, "a <title> & more"))
    space = "{http://www.w3.org/2000/svg}"
    widths = {
        group.findtext(f"{space}title"): float(group.find(f"{space}rect").get("width"))  # type: ignore[union-attr, arg-type]
        for group in svg.iter(f"{space}g")
    }
    assert widths == {
        f"{_READ.replace(':94', '')} 80.0 %": 960.0,
        f"{_SDP} 60.0 %": 720.0,
        "other (x.py) 19.0 %": 228.0,
        "<lambda> (cti/sip/a&b.py) 1.0 %": 12.0,
    }
    assert "a <title> & more" in [text.text for text in svg.iter(f"{space}text")]


def test_a_graph_of_nothing_is_a_graph() -> None:
    ET.fromstring(flame_graph({}, "nothing"))
