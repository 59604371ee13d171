"""Trunks, access codes, limits, and the settings they come from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cti.admission import Admission, Admitted, Refused, TenantAccess
from cti.numbers import normalised_number
from cti.settings import (
    AccessCodeSettings,
    CallLimitSettings,
    MediaSettings,
    SipSettings,
    TrunkSettings,
)
from domain.failures import Code, PlatformError
from domain.ids import TenantId

DEMO, EAST = TenantId("demo"), TenantId("east")


def trunk(name: str = "loopback", *addresses: str, **limits: int) -> TrunkSettings:
    return TrunkSettings.model_validate(
        {"name": name, "addresses": list(addresses) or ["127.0.0.0/8"], **limits}
    )


def code(number: str = "95598", *aliases: str, flow: str = "main") -> AccessCodeSettings:
    return AccessCodeSettings(code=number, flow=flow, aliases=list(aliases))


def refusal(decision: Admitted | Refused) -> Code:
    assert isinstance(decision, Refused)
    return decision.code


def test_address_and_number_choose_tenant_trunk_and_flow() -> None:
    admission = Admission(
        [
            TenantAccess(DEMO, [trunk("wide", "10.0.0.0/8")], [code(), code("4001", flow="b")]),
            TenantAccess(EAST, [trunk("narrow", "10.1.0.0/16")], [code("95598")]),
        ]
    )
    first = admission.admit("10.2.0.1", "95598", 1.0)
    second = admission.admit("10.1.0.1", "+8695598", 1.0)
    shared = admission.admit("::ffff:10.1.0.1", "4001", 1.0)
    assert isinstance(first, Admitted)
    assert isinstance(second, Admitted)
    assert isinstance(shared, Admitted)
    assert (first.tenant, first.trunk.name, first.access_code.flow) == (DEMO, "wide", "main")
    assert (second.tenant, second.trunk.name) == (EAST, "narrow")
    assert (shared.tenant, shared.access_code.flow) == (DEMO, "b")
    assert admission.calls == 3


def test_refusals() -> None:
    admission = Admission([TenantAccess(DEMO, [trunk()], [code()])])
    assert refusal(admission.admit("192.0.2.1", "95598", 1.0)) is Code.TRUNK_UNKNOWN
    assert refusal(admission.admit("not an address", "95598", 1.0)) is Code.TRUNK_UNKNOWN
    unknown = admission.admit("127.0.0.1", "10086", 1.0)
    assert refusal(unknown) is Code.ACCESS_CODE_UNKNOWN
    assert isinstance(unknown, Refused)
    assert unknown.tenant == DEMO
    assert admission.calls == 0


@pytest.mark.parametrize(
    ("user", "number"),
    [
        ("95598", "95598"),
        ("+8695598", "95598"),
        ("0086-95598", "95598"),
        ("95598;phone-context=+86", "95598"),
        ("(021)95598", "02195598"),
        ("+862195598", "2195598"),
        ("", ""),
    ],
)
def test_number_forms(user: str, number: str) -> None:
    assert normalised_number(user) == number


def test_aliases_are_the_same_access_code() -> None:
    admission = Admission([TenantAccess(DEMO, [trunk()], [code("95598", "02195598")])])
    decision = admission.admit("127.0.0.1", "02195598", 1.0)
    assert isinstance(decision, Admitted)
    assert decision.access_code.code == "95598"


def test_live_calls_are_limited_and_given_back() -> None:
    tenants = [TenantAccess(DEMO, [trunk(max_calls=2)], [code()])]
    admission = Admission(tenants)
    taken = [admission.admit("127.0.0.1", "95598", 1.0) for _ in range(2)]
    assert refusal(admission.admit("127.0.0.1", "95598", 1.0)) is Code.TRUNK_BUSY
    assert isinstance(taken[0], Admitted)
    admission.release(taken[0])
    assert isinstance(admission.admit("127.0.0.1", "95598", 1.0), Admitted)


def test_node_limit_is_over_all_trunks() -> None:
    tenants = [
        TenantAccess(DEMO, [trunk("a", "10.0.0.0/8"), trunk("b", "127.0.0.0/8")], [code()]),
    ]
    admission = Admission(tenants, CallLimitSettings(max_calls=1))
    assert isinstance(admission.admit("10.0.0.1", "95598", 1.0), Admitted)
    assert refusal(admission.admit("127.0.0.1", "95598", 1.0)) is Code.OVERLOADED


@given(st.lists(st.floats(0, 0.5), max_size=60))
def test_calls_a_second_never_exceed_the_bucket(gaps_s: list[float]) -> None:
    admission = Admission([TenantAccess(DEMO, [trunk(max_calls_per_second=5)], [code()])])
    now, admitted_at = 100.0, []
    for gap_s in gaps_s:
        now += gap_s
        if isinstance(admission.admit("127.0.0.1", "95598", now), Admitted):
            admitted_at.append(now)
    for start in admitted_at:
        # one second's calls from the full bucket, and what one second refills
        assert sum(start <= one < start + 1.0 for one in admitted_at) <= 10


def test_ambiguous_configuration_is_refused() -> None:
    for tenants in (
        [TenantAccess(DEMO, [trunk(), trunk()], [])],
        [TenantAccess(DEMO, [trunk()], [code("1", "2"), code("2")])],
        [TenantAccess(DEMO, [trunk()], [code()]), TenantAccess(EAST, [trunk()], [code()])],
    ):
        with pytest.raises(PlatformError) as failure:
            Admission(tenants)
        assert failure.value.code is Code.CONFIG_INVALID


def test_sources_remembered_are_bounded() -> None:
    admission = Admission([TenantAccess(DEMO, [trunk()], [code()])])
    for number in range(5000):
        admission.admit(f"198.18.{number >> 8}.{number & 255}", "95598", 1.0)
    assert len(admission.directory._networks_of_source) <= 4096


def test_settings_name_their_faults() -> None:
    with pytest.raises(ValidationError, match="advertised_host"):
        SipSettings.model_validate({"listen": [{"transport": "udp", "host": "0.0.0.0"}]})
    with pytest.raises(ValidationError, match="port_max"):
        MediaSettings(port_min=3000, port_max=3000)
    with pytest.raises(ValidationError, match="wildcard"):
        MediaSettings(local_ip="0.0.0.0")
    with pytest.raises(ValidationError, match="addresses"):
        TrunkSettings.model_validate({"name": "a", "addresses": ["300.0.0.0/8"]})
    with pytest.raises(ValidationError, match="colour"):
        TrunkSettings.model_validate({"name": "a", "addresses": ["10.0.0.1"], "colour": 1})
    assert {one.transport for one in SipSettings().listen} == {"udp", "tcp"}
