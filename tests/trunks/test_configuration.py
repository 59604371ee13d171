"""Trunks in the configuration: faults with place and remedy, files of numbers, passwords."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from cti.settings import TrunkSettings
from cti.trunks.directory import TrunkDirectory
from node.config import ConfigError, load_config
from node.credentials import ensure_credentials, read_plain_passwords, set_trunk_password

GOOD = """\
flows: flows
callers:
  lists:
    - {name: spam, kind: black, file: spam.txt}
tenants:
  - id: demo
    access_codes:
      - {code: 95598, flow: hotline, max_calls: 100, max_calls_per_second: 20}
    trunks:
      - {name: in, addresses: [192.0.2.0/24], landing_code: to_user}
      - name: telecom
        addresses: [198.51.100.0/28]
        server: [sip:sbc.example.com;transport=tls, 198.51.100.2:5070]
        outbound_proxy: sip:proxy.example.com
        register:
          {user: 02195598, domain: example.com, registrars: sip:reg.example.com, expires_s: 300}
        auth_user: "4008"
        probe: {interval_s: 15, timeout_s: 3, up_after: 2, down_after: 3}
        priority: 1
        weight: 3
        max_calls: 500
        outbound_reserve: 50
        caller_id: p_asserted_identity
        privacy: false
        trusted: yes
        number_rules:
          called_in: [{match: "021", strip: 3}]
          called_out: [{match: 0x, prefix: 9}]
        landing_code: header
        landing_code_header: X-Region
        landing_code_pattern: city=([0-9]{3,4})
      - {name: roaming, authentication: digest, user: carrier1}
    callers:
      anonymous: refuse
      blocked_status: 403
      lists:
        - {name: staff, kind: white, numbers: [13900000000, 0571*]}
    outbound:
      home_area_codes: ["021"]
      home_mobiles_file: mobiles.txt
      caller_numbers: [95598, 02195598]
      default_caller: 95598
      forbidden_prefixes: ["00"]
      trunks: [telecom]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/hotline.yaml").write_text("")
    (tmp_path / "spam.txt").write_text("# nuisance\n1700*\n13812345678  he called 40 times\n\n")
    (tmp_path / "mobiles.txt").write_text("1380000\n1391234\n")
    return tmp_path / "platform.yaml"


def problems_of(place: Path, text: str) -> list[str]:
    place.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(place)
    return [str(problem) for problem in caught.value.problems]


def test_a_whole_configuration_of_trunks(place: Path) -> None:
    place.write_text(GOOD)
    config = load_config(place)
    (access,) = config.access()
    telecom = access.trunks[1]
    assert telecom.server == ["sip:sbc.example.com;transport=tls", "sip:198.51.100.2:5070"]
    assert telecom.register_ is not None
    assert telecom.register_.registrars == ["sip:reg.example.com"]
    assert access.callers.blocked_status == 403
    assert access.callers.white("05719999") == "staff"
    assert access.home_mobiles is not None
    assert "13912345678" in access.home_mobiles
    assert config.callers.black("17001111111") == "spam"
    assert config.callers.black("13812345678") == "spam"
    assert config.callers.black("13812345679") == ""


@pytest.mark.parametrize(
    ("old", "new", "at", "words"),
    [
        ("addresses: [192.0.2.0/24], ", "", "{name: in,", ["addresses", "server", "既不收也不发"]),
        ("sip:sbc.example.com;transport=tls", "sip:a b", "", ["SIP 服务器", "192.0.2.10:5060"]),
        ("transport=tls", "transport=sctp", "", ["SIP server"]),
        ("authentication: digest, ", "", "", ["digest", "一起写"]),
        (
            "authentication: digest, user: carrier1",
            "authentication: certificate, server: 192.0.2.9",
            "",
            ["certificate_names", "一起写"],
        ),
        ("landing_code_header: X-Region", "max_calls: 1", "", ["max_calls", "given twice"]),
        ("landing_code_header: X-Region", "", "name: telecom", ["landing_code_header", "add"]),
        ('match: "021"', 'match: "(021)"', "", ["号码规则", "1[3-9]x"]),
        ("strip: 3", "strip: -1", "", ["strip", "at least 0"]),
        ("city=([0-9]{3,4})", "(a+)+", "", ["正则", "not nested"]),
        ("outbound_reserve: 50", "outbound_reserve: 500", "name: telecom", ["outbound_reserve"]),
        ("down_after: 3", "down_after: 0", "", ["probe.down_after"]),
        ("kind: white", "kind: grey", "", ["kind", "black", "只能是"]),
        ("13900000000", "bob", "", ["numbers[0]", "0571*"]),
        ("blocked_status: 403", "blocked_status: 404", "", ["blocked_status"]),
        ("anonymous: refuse", "anonymous: maybe", "", ["anonymous"]),
        ("default_caller: 95598", "default_caller: 110", "outbound:\n", ["caller_numbers"]),
        ("trunks: [telecom]", "trunks: [in]", "", ["trunk 'in'", "use one of: telecom"]),
        ("mobiles.txt", "gone.txt", "", ["gone.txt", "correct the path"]),
        ("spam.txt", "gone.txt", "", ["gone.txt"]),
        ("name: staff", "name: 'a b'", "", ["name"]),
        ("expires_s: 300", "expires_s: 1", "", ["expires_s", "at least 10"]),
        ("max_calls: 100", "landing_flows: {0571: gone}", "", ["landing_flows", "no flow 'gone'"]),
    ],
)
def test_a_fault_is_named(place: Path, old: str, new: str, at: str, words: list[str]) -> None:
    """`at` stands in the line that is named, which is that of the change unless given."""
    line = GOOD[: GOOD.index(at or old)].count("\n") + 1
    found = problems_of(place, GOOD.replace(old, new, 1))
    assert any(
        f"platform.yaml:{line}:" in problem and all(word in problem for word in words)
        for problem in found
    ), found


def test_a_fault_in_a_file_of_numbers_is_named_there(place: Path) -> None:
    (place.parent / "spam.txt").write_text("1700*\nnobody\n")
    (problem,) = problems_of(place, GOOD)
    assert "spam.txt:2:" in problem
    assert "0571*" in problem
    (place.parent / "spam.txt").write_bytes(b"\xff\xff\n")
    assert any("not UTF-8" in problem for problem in problems_of(place, GOOD))


def test_the_same_list_twice_or_the_same_digest_user_is_refused(place: Path) -> None:
    twice = GOOD.replace(
        "        - {name: staff", "        - {name: staff, kind: black}\n        - {name: staff"
    )
    assert any("'staff' is there already" in problem for problem in problems_of(place, twice))
    roaming = "      - {name: roaming, authentication: digest, user: carrier1}\n"
    other = roaming.replace("name: roaming", "name: other")
    (problem,) = problems_of(place, GOOD.replace(roaming, roaming + other))
    assert "carrier1" in problem


EAST = """\
  - id: east
    access_codes:
      - {code: 5598, flow: hotline}
      - {code: 95500, flow: hotline}
    trunks:
      - name: in
        addresses: [192.0.2.0/24]
"""


@pytest.mark.parametrize(
    ("east", "words"),
    [
        (EAST.replace("5598,", "95598,"), ["demo 和 east 都有号码 95598", "192.0.2.0/24"]),
        (
            EAST + '        number_rules: {called_in: [{match: "9xxxx", strip: 1}]}\n',
            ["a call to 95598", "租户 east 的 5598", "demo (trunk in)"],
        ),
        (
            EAST + '        number_rules: {called_in: [{match: "9", strip: 32, prefix: 5598}]}\n',
            ["a call to 95598", "租户 east 的 5598"],
        ),
    ],
)
def test_two_tenants_that_want_the_same_calls_are_named(
    place: Path, east: str, words: list[str]
) -> None:
    (problem,) = problems_of(place, GOOD + east)
    line = (GOOD + east[: east.index("- {code")]).count("\n") + 1
    other = GOOD[: GOOD.index("- {code: 95598")].count("\n") + 1
    assert f"platform.yaml:{line}:" in problem
    assert "[tenants[1].access_codes[0]]" in problem
    assert all(word in problem for word in [*words, f"第 {other} 行", f"at line {other}"])
    place.write_text(GOOD + EAST + "        number_rules: {called_in: [{match: 0, strip: 1}]}\n")
    assert len(load_config(place).access()) == 2


def test_a_trunk_or_a_number_that_is_there_twice_is_named_with_both_places(place: Path) -> None:
    text = GOOD.replace("- name: telecom", "- name: in")
    (problem, *_) = problems_of(place, text.replace("trunks: [telecom]", "trunks: [in]"))
    assert "[tenants[0].trunks[1]]" in problem
    assert all(word in problem for word in ["写了两次", "there twice", "第 10 行", "at line 10"])
    text = GOOD.replace(
        "    trunks:\n      -", "      - {code: +8695598, flow: hotline}\n    trunks:\n      -"
    )
    (problem,) = problems_of(place, text)
    assert "[tenants[0].access_codes[1]]" in problem
    assert all(word in problem for word in ["号码 95598", "第 8 行", "at line 8"])


def test_passwords_of_trunks(place: Path, tmp_path: Path) -> None:
    place.write_text(GOOD)
    settings = load_config(place).settings
    files = tmp_path / "secrets.yaml", tmp_path / "plain.yaml"
    credentials = ensure_credentials(settings, *files)
    made = credentials.trunk_ha1("demo", "carrier1")
    assert made is not None
    plain = yaml.safe_load(files[1].read_text())["tenants"]["demo"]["trunks"]
    assert len(plain["carrier1"]) >= 16
    assert credentials.carrier_password("demo", "telecom") is None
    assert not read_plain_passwords(files[1]).agents["demo"]
    roaming, telecom = settings.tenants[0].trunks[2], settings.tenants[0].trunks[1]
    for trunk in (roaming, telecom):
        set_trunk_password(files[0], "cti95598", "demo", trunk, "agreed")
    credentials = ensure_credentials(settings, *files)
    assert credentials.carrier_password("demo", "telecom") == "agreed"
    assert credentials.carrier_password("demo", "roaming") is None
    assert credentials.trunk_ha1("demo", "carrier1") != made
    assert "agreed" not in files[1].read_text()
    assert files[0].stat().st_mode & 0o077 == 0


def test_the_old_keys_still_mean_the_same() -> None:
    old = {"name": "a", "addresses": ["10.0.0.1"], "max_calls": 5, "landing_code": "diversion"}
    trunk = TrunkSettings.model_validate(old)
    assert (trunk.max_calls, trunk.max_calls_per_second, trunk.server) == (5, 200, [])


def test_thousands_of_tenants_are_read_in_seconds(place: Path) -> None:
    tenants = "".join(
        f"  - id: t{at}\n"
        "    access_codes:\n"
        f"      - {{code: 4{at:05}, flow: hotline}}\n"
        f"      - {{code: 5{at:05}, flow: hotline}}\n"
        "    trunks:\n"
        f"      - {{name: own, addresses: [10.{at >> 8}.{at & 255}.0/24]}}\n"
        "      - {name: shared, addresses: [192.0.2.0/24], server: 192.0.2.1}\n"
        for at in range(2000)
    )
    place.write_text(f"flows: flows\ntenants:\n{tenants}")
    began = time.process_time()
    assert len(load_config(place).access()) == 2000
    assert time.process_time() - began < 8


def test_thousands_of_tenants_may_tell_their_calls_apart_by_rules(place: Path) -> None:
    tenants = "".join(
        f"  - id: t{at}\n"
        "    access_codes:\n"
        "      - {code: 95598, flow: hotline}\n"
        "    trunks:\n"
        "      - name: shared\n"
        "        addresses: [192.0.2.0/24]\n"
        f'        number_rules: {{called_in: [{{match: "7{at:04}", strip: 5}}, {{prefix: "1"}}]}}\n'
        for at in range(2000)
    )
    place.write_text(f"flows: flows\ntenants:\n{tenants}")
    began = time.process_time()
    directory = TrunkDirectory(load_config(place).access())
    loaded_s = time.process_time() - began
    assert loaded_s < 8
    began = time.process_time()
    for at in range(2000):
        found = directory.find("192.0.2.7", f"7{at:04}95598")
        assert found is not None
        assert found[0].tenant == f"t{at}"
    assert directory.find("192.0.2.7", "95598") is None
    assert time.process_time() - began < 1
