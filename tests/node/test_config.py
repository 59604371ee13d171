"""Every fault of a configuration names its line, its place, its reason and what to do."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from node.config import DEMO_CONFIG, ConfigError, load_config

GOOD = """\
node: n1
flows: flows
tenants:
  - id: demo
    access_codes:
      - {code: 95598, flow: hotline}
    trunks:
      - {name: carrier, addresses: [192.0.2.0/24]}
    business:
      url: http://127.0.0.1:8096
    queues:
      - {id: bill}
      - {id: fault}
    agents:
      - {id: 1001, phone: 0571, queues: [bill]}
      - {id: 1002, phone: 1002, queues: [bill, fault]}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/hotline.yaml").write_text("")
    return tmp_path / "platform.yaml"


def problems_of(place: Path, text: str) -> list[str]:
    place.write_text(dedent(text))
    with pytest.raises(ConfigError) as caught:
        load_config(place)
    return [str(problem) for problem in caught.value.problems]


def test_numbers_need_no_quotes_and_keep_their_zeros(place: Path) -> None:
    place.write_text(GOOD)
    tenant = load_config(place).settings.tenants[0]
    assert tenant.access_codes[0].code == "95598"
    assert [agent.id for agent in tenant.agents] == ["1001", "1002"]
    assert tenant.agents[0].phone == "0571"
    assert tenant.business is not None
    assert tenant.business.timeout_ms == 3000


def test_the_demo_configuration_is_good() -> None:
    settings = load_config(DEMO_CONFIG).settings
    assert [one.port for one in settings.sip.listen] == [5060, 5060]
    assert {agent.id for agent in settings.tenants[0].agents} == {
        "1001", "1002", "1003", "1004", "1005",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("node: n1", "nodes: n1", 1, ["nodes", "no such field", "spelling"]),
        ("node: n1", "node: 'a b'", 1, ["node"]),
        ("flows: flows", "flows: elsewhere", 2, ["flows", "not a directory"]),
        ("  - id: demo\n", "  - name: x\n", 4, ["tenants[0].id", "missing", "add it"]),
        ("code: 95598", "code: nine", 6, ["access_codes[0].code"]),
        ("flow: hotline", "flow: coldline", 6, ["no flow 'coldline'", "coldline.yaml"]),
        ("192.0.2.0/24", "192.0.2.0/99", 8, ["addresses[0]]", "不是 IP 地址", "192.0.2.0/28"]),
        ("node: n1", "grpc: {port: http}", 1, ["grpc.port", "应为整数", "whole number"]),
        ("node: n1", "node：n1", 1, ["中文冒号", "Chinese one"]),
        ("http://127.0.0.1:8096", "ftp://x", 10, ["business.url", "网址"]),
        ("{id: fault}", "{id: bill}", 13, ["'bill' is there already, at line 12", "rename"]),
        ("phone: 1002", "phone: 0571", 16, ["phone '0571' is used already, at line 15"]),
        ("id: 1002", "id: 1001", 16, ["'1001' is there already, at line 15"]),
        ("[bill, fault]", "[bill, flaut]", 16, ["queues[1]", "no queue 'flaut'", "bill, fault"]),
        ("queues: [bill]}", "queues: bill}", 15, ["queues"]),
        ("node: n1", "node: n1\nnode: n2", 2, ["given twice"]),
        ("node: n1", "node: !!python/object:os.system x", 1, ["tag"]),
        ("node: n1", "node: n1\ngrpc: {port: 70000}", 2, ["grpc.port"]),
        ("node: n1", "grpc: {port: 8095}", 1, ["8095", "2 times"]),
        ("node: n1", "sip: {listen: [{transport: udp, host: 0.0.0.0}]}", 1, ["advertised_host"]),
        ("node: n1", "media: {local_ip: 0.0.0.0}", 1, ["media.local_ip", "wildcard"]),
        ("node: n1", "media: {local_ip6: 192.0.2.1}", 1, ["media", "IPv6", "in their places"]),
        ("node: n1", "media: {advertised_ip: '::1'}", 1, ["advertised_ip", "IP version"]),
        ("node: n1", "media: {advertised_ip6: '::1'}", 1, ["advertised_ip6", "补上本地地址"]),
        ("id: demo", "id: demo\n    codecs: [PCMA, PCMA]", 5, ["codecs", "PCMA is there twice"]),
        ("id: demo", "id: demo\n    codecs: [G726]", 5, ["codecs[0]", "'G722'"]),
        ("id: demo", "id: demo\n    srtp: yes", 5, ["srtp", "'optional'"]),
        ("name: carrier", "name: carrier, codecs: [x]", 8, ["trunks[0].codecs[0]", "'opus'"]),
    ],
)
def test_a_fault_is_named(place: Path, old: str, new: str, line: int, words: list[str]) -> None:
    assert old in GOOD
    found = problems_of(place, GOOD.replace(old, new, 1))
    assert any(
        f"platform.yaml:{line}:" in problem and all(word in problem for word in words)
        for problem in found
    ), found


def test_all_faults_are_told_at_once(place: Path) -> None:
    text = GOOD.replace("flow: hotline", "flow: x").replace("[bill, fault]", "[a, b]")
    assert len(problems_of(place, text)) == 3


def test_a_missing_or_empty_file_is_a_problem_and_no_traceback(place: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(place)
    assert problems_of(place, "")
    assert problems_of(place, "- a list")
    place.write_bytes(b"node: n1\nname: \xff\n")
    with pytest.raises(ConfigError, match=r":2: .*UTF-8"):
        load_config(place)


def test_the_same_phone_may_be_in_two_tenants_with_domains(place: Path) -> None:
    head, _, tenant = GOOD.partition("tenants:\n")
    second = tenant.replace("id: demo", "id: two").replace("95598", "95599")
    place.write_text(f"{head}tenants:\n{tenant}{second}")
    with pytest.raises(ConfigError, match="used already"):
        load_config(place)
    with_domain = second.replace("id: two", "id: two\n    sip_domain: two.example")
    place.write_text(f"{head}tenants:\n{tenant}{with_domain}")
    assert len(load_config(place).settings.tenants) == 2
