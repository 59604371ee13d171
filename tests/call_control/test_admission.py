"""Trunks, access codes, limits, and the settings they come from."""

from __future__ import annotations

import time
from ipaddress import ip_network
from typing import Any

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
from cti.sip.authentication.digest import Credentials, DigestServer, authorization, ha1
from cti.sip.messages.message import Request
from cti.trunks.authentication import TrunkAuthenticator
from cti.trunks.number_lists import (
    AnonymousPolicy,
    CallerPolicy,
    ListKind,
    NumberList,
    NumberTable,
)
from domain.failures import Code, PlatformError
from domain.ids import TenantId
from tests.fakes.session import make_invite

DEMO, EAST = TenantId("demo"), TenantId("east")


def trunk(name: str = "loopback", *addresses: str, **fields: Any) -> TrunkSettings:
    return TrunkSettings.model_validate(
        {"name": name, "addresses": list(addresses) or ["127.0.0.0/8"], **fields}
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


# What an INVITE tells besides


def access(**fields: Any) -> TenantAccess:
    return TenantAccess(
        fields.pop("tenant", DEMO),
        fields.pop("trunks", [trunk()]),
        fields.pop("codes", [code()]),
        **fields,
    )


def black(*entries: str, kind: ListKind = ListKind.BLACK, name: str = "nuisance") -> NumberList:
    return NumberList(name, kind, NumberTable(entries))


def policy(*lists: NumberList, **fields: Any) -> CallerPolicy:
    return CallerPolicy(lists, **fields)


def admitted(decision: Admitted | Refused) -> Admitted:
    assert isinstance(decision, Admitted), decision
    return decision


def refused(decision: Admitted | Refused) -> Refused:
    assert isinstance(decision, Refused), decision
    return decision


def test_an_invite_gives_caller_called_and_landing_code() -> None:
    rules = {
        "called_in": [{"match": "021", "strip": 3}],
        "caller_in": [{"match": "0", "strip": 1}],
    }
    own = trunk(
        number_rules=rules,
        landing_code="header",
        landing_code_header="X-Region",
        landing_code_pattern="city=([0-9]{3,4})",
    )
    admission = Admission([access(trunks=[own])])
    request = make_invite("02195598", "013812345678", headers=[("X-Region", "a=b;city=0571;c")])
    decision = admitted(admission.admit_invite(request, "127.0.0.1", 1.0))
    assert decision.caller.number == "13812345678"
    assert (decision.called, decision.landing_code) == ("95598", "0571")
    silent = admission.admit_invite(make_invite("02195598"), "127.0.0.1", 1.0)
    assert admitted(silent).landing_code == ""
    unknown = refused(admission.admit_invite(make_invite("10086"), "127.0.0.1", 1.0))
    assert (unknown.code, unknown.called) == (Code.ACCESS_CODE_UNKNOWN, "10086")


@pytest.mark.parametrize(
    ("source", "headers", "expected"),
    [
        ("none", [], ""),
        ("to_user", [], "95598"),
        ("diversion", [("Diversion", "<sip:0571@c>;reason=unknown")], "0571"),
        ("diversion", [("Diversion", "<<<")], ""),
        ("history_info", [("History-Info", "<sip:0572@c>;index=1, <sip:1@c>;index=1.1")], "0572"),
        ("history_info", [], ""),
        ("p_called_party_id", [("P-Called-Party-ID", "<sip:0573@c>")], "0573"),
    ],
)
def test_landing_codes(source: str, headers: list[tuple[str, str]], expected: str) -> None:
    admission = Admission([access(trunks=[trunk(landing_code=source)])])
    decision = admission.admit_invite(make_invite(headers=headers), "127.0.0.1", 1.0)
    assert admitted(decision).landing_code == expected


def test_a_landing_code_may_choose_the_flow() -> None:
    flows = {"057": "zhejiang", "0571": "hangzhou"}
    own = AccessCodeSettings(code="95598", flow="main", landing_flows=flows)
    admission = Admission([access(trunks=[trunk(landing_code="diversion")], codes=[own])])
    for landing, flow in (("0571", "hangzhou"), ("0572", "zhejiang"), ("021", "main")):
        request = make_invite(headers=[("Diversion", f"<sip:{landing}@c>")])
        assert admitted(admission.admit_invite(request, "127.0.0.1", 1.0)).flow == flow
    plain = admission.admit_invite(make_invite(), "127.0.0.1", 1.0)
    assert admitted(plain).flow == "main"


def test_lists_of_numbers() -> None:
    tenant = policy(
        black("13812345678", "1700*"), black("17001111111", kind=ListKind.WHITE, name="friends")
    )
    everybody = policy(black("1700*", name="spam"), blocked_status=403)
    admission = Admission(
        [access(callers=tenant), access(tenant=EAST, trunks=[trunk("e", "10.0.0.1")])],
        callers=everybody,
    )

    def judged(caller: str, source: str = "127.0.0.1") -> tuple[Code | None, str, int | None]:
        decision = admission.admit_invite(make_invite(caller=caller), source, 1.0)
        if isinstance(decision, Admitted):
            return None, decision.number_list, None
        return decision.code, decision.number_list, decision.status

    assert judged("13812345678") == (Code.NUMBER_BLOCKED, "nuisance", 603)
    assert judged("+8613812345678") == (Code.NUMBER_BLOCKED, "nuisance", 603)
    assert judged("13812345679") == (None, "", None)
    assert judged("17001234567") == (Code.NUMBER_BLOCKED, "nuisance", 603)
    assert judged("17001111111") == (None, "friends", None)  # the white list wins
    assert judged("17001111111", "10.0.0.1") == (Code.NUMBER_BLOCKED, "spam", 403)
    assert admission.calls == 2


def test_callers_without_a_number_may_be_unwelcome() -> None:
    strict = policy(
        black("13900000000", kind=ListKind.WHITE, name="staff"),
        anonymous=AnonymousPolicy.REFUSE,
    )
    admission = Admission([access(callers=strict)])
    private = [("Privacy", "id")]
    for request, name in (
        (make_invite(caller="anonymous"), "anonymous"),
        (make_invite(headers=private), "anonymous"),
    ):
        decision = refused(admission.admit_invite(request, "127.0.0.1", 1.0))
        assert (decision.code, decision.number_list) == (Code.NUMBER_BLOCKED, name)
    staff = make_invite(caller="13900000000", headers=private)
    assert admitted(admission.admit_invite(staff, "127.0.0.1", 1.0)).number_list == "staff"


def test_an_access_code_may_have_limits_of_its_own() -> None:
    own = AccessCodeSettings(code="95598", flow="main", max_calls=1)
    admission = Admission([access(codes=[own, code("4001")])])
    first = admitted(admission.admit("127.0.0.1", "95598", 1.0))
    assert refusal(admission.admit("127.0.0.1", "95598", 1.0)) is Code.ACCESS_CODE_BUSY
    assert isinstance(admission.admit("127.0.0.1", "4001", 1.0), Admitted)
    admission.load([access(codes=[own, code("4001")])])
    assert refusal(admission.admit("127.0.0.1", "95598", 1.0)) is Code.ACCESS_CODE_BUSY
    admission.release(first)
    assert isinstance(admission.admit("127.0.0.1", "95598", 1.0), Admitted)


def test_a_failed_reload_changes_nothing() -> None:
    admission = Admission([access()])
    with pytest.raises(PlatformError):
        admission.load([access(trunks=[trunk(), trunk()])])
    assert isinstance(admission.admit("127.0.0.1", "95598", 1.0), Admitted)


class Phonebook:
    """The passwords of trunks that send by digest."""

    def __init__(self, admission: Admission) -> None:
        self.server = DigestServer("cti95598")
        stored = {"MD5": ha1("MD5", "carrier1", "cti95598", "secret")}
        admission.authenticator = TrunkAuthenticator(
            self.server, lambda tenant, user: stored if user == "carrier1" else None
        )

    def answer(self, refused: Refused, password: str = "secret") -> Request:
        challenges = [value for name, value in refused.headers if name == "WWW-Authenticate"]
        value = authorization(
            challenges,
            method="INVITE",
            uri="sip:95598@127.0.0.1:5060",
            credentials=Credentials("carrier1", password),
        )
        assert value is not None
        return make_invite(headers=[("Authorization", value)])


DIGEST = TrunkSettings.model_validate(
    {"name": "roaming", "authentication": "digest", "user": "carrier1"}
)


def test_a_trunk_that_sends_by_digest() -> None:
    admission = Admission([access(trunks=[DIGEST])])
    book = Phonebook(admission)
    asked = refused(admission.admit_invite(make_invite(), "198.51.100.7", 1.0))
    assert asked.is_challenge
    request = book.answer(asked)
    decision = admitted(admission.admit_invite(request, "198.51.100.7", 1.0))
    assert (decision.tenant, decision.trunk.name) == (DEMO, "roaming")
    # A replay of the same credentials is asked again, a wrong password is recorded.
    replay = refused(admission.admit_invite(request, "198.51.100.7", 1.0))
    assert replay.is_challenge
    assert "stale=true" in replay.headers[0][1]
    wrong = refused(admission.admit_invite(book.answer(asked, "guess"), "198.51.100.7", 1.0))
    assert (wrong.code, wrong.is_challenge) == (Code.AUTHENTICATION_FAILED, False)


def test_a_digest_trunk_with_addresses_needs_both() -> None:
    placed = DIGEST.model_copy(update={"addresses": [ip_network("10.0.0.0/8")]})
    admission = Admission([access(trunks=[placed])])
    book = Phonebook(admission)
    elsewhere = refused(admission.admit_invite(make_invite(), "198.51.100.7", 1.0))
    assert elsewhere.code is Code.TRUNK_UNKNOWN
    asked = refused(admission.admit_invite(make_invite(), "10.0.0.1", 1.0))
    assert asked.is_challenge
    request = book.answer(asked)
    assert refused(admission.admit_invite(request, "198.51.100.7", 1.0)).trunk is None
    assert isinstance(admission.admit_invite(request, "10.0.0.1", 1.0), Admitted)
    admission.authenticator = None
    assert refused(admission.admit_invite(make_invite(), "10.0.0.1", 1.0)).trunk is None


def test_calls_to_a_contact_that_we_registered() -> None:
    own = TrunkSettings.model_validate(
        {"name": "sip-account", "server": "192.0.2.1", "register": {"user": "02195598"}}
    )
    admission = Admission([access(trunks=[own], codes=[code("95598", "02195598")])])
    (registered,) = admission.directory.trunks.values()
    contact = registered.contact_user
    assert "demo" not in contact
    request = make_invite(contact)
    request.headers.set("To", "<sip:02195598@carrier.example>")
    assert refusal(admission.admit_invite(request, "192.0.2.1", 1.0)) is Code.TRUNK_UNKNOWN
    admission.learn(contact, "sip:192.0.2.1", {"192.0.2.1"})
    decision = admitted(admission.admit_invite(request, "192.0.2.1", 1.0))
    assert (decision.trunk.name, decision.called) == ("sip-account", "02195598")
    assert admission.trunks_of("192.0.2.1") == (registered,)
    assert refusal(admission.admit_invite(request, "192.0.2.2", 1.0)) is Code.TRUNK_UNKNOWN
    request.headers.set("To", "<sip:nobody@carrier.example>")
    assert refusal(admission.admit_invite(request, "192.0.2.1", 1.0)) is Code.ACCESS_CODE_UNKNOWN
    request.headers.set("P-Called-Party-ID", "<sip:95598@carrier.example>")
    assert isinstance(admission.admit_invite(request, "192.0.2.1", 1.0), Admitted)


def test_thousands_of_tenants_load_and_decide_quickly() -> None:
    """5,000 tenants, 10,000 trunks, 10,000 codes; half of the trunks share a carrier's network."""
    tenants = [
        access(
            tenant=TenantId(f"t{at}"),
            trunks=[
                trunk("own", f"10.{at >> 8}.{at & 255}.0/24"),
                trunk("shared", "192.0.2.0/24"),
            ],
            codes=[code(f"4{at:05}"), code(f"5{at:05}")],
        )
        for at in range(5000)
    ]
    began = time.process_time()
    admission = Admission(tenants, CallLimitSettings(max_calls_per_second=100_000))
    loaded_s = time.process_time() - began
    for source, called in (("192.0.2.9", "404999"), ("10.19.135.1", "504999")):
        decision = admitted(admission.admit(source, called, 1.0))
        assert decision.tenant == "t4999"
        admission.release(decision)
    began = time.process_time()
    for at in range(5000):
        admission.release(admitted(admission.admit("192.0.2.9", f"4{at:05}", float(at))))
    each_us = (time.process_time() - began) / 5000 * 1e6
    assert loaded_s < 3, loaded_s
    assert each_us < 60, each_us


def test_a_rival_is_found_among_thousands() -> None:
    tenants = [access(tenant=TenantId(f"t{at}"), codes=[code(f"4{at:05}")]) for at in range(2000)]
    with pytest.raises(PlatformError, match="number 401999 "):
        Admission([*tenants, access(tenant=EAST, codes=[code("401999")])])
