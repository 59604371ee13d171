"""Who calls, as the headers tell it, and what our own INVITEs tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cti.identity import UserToUser, identity_of, outgoing_identity, user_to_user_header
from cti.sip.messages.message import Request, parse_message
from cti.trunks.settings import CallerIdStyle


def invite(from_: str = "<sip:13812345678@carrier>;tag=a", **headers: str) -> Request:
    lines = [
        "INVITE sip:95598@127.0.0.1 SIP/2.0",
        "Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1",
        f"From: {from_}",
        "To: <sip:95598@127.0.0.1>",
        "Call-ID: a",
        "CSeq: 1 INVITE",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    request = parse_message("\r\n".join([*lines, "", ""]).encode())
    assert isinstance(request, Request)
    return request


def test_the_trunks_word_counts_before_the_callers() -> None:
    request = invite(P_Asserted_Identity='"Bureau" <sip:+862161234567@c>, <tel:+862169999999>')
    assert identity_of(request).number == "2161234567"
    assert identity_of(request).name == "Bureau"
    assert identity_of(request, is_trusted=False).number == "13812345678"


def test_the_other_headers_in_their_order() -> None:
    assert identity_of(invite(P_Preferred_Identity="<tel:+8613900000000>")).number == "13900000000"
    asked = invite(Remote_Party_ID="<sip:13700000000@c>;party=calling;privacy=off")
    assert (identity_of(asked).number, identity_of(asked).withheld) == ("13700000000", False)
    assert identity_of(invite()).number == "13812345678"


@pytest.mark.parametrize(
    ("from_", "headers", "number", "withheld"),
    [
        ("<sip:13812345678@c>;tag=a", {"Privacy": "id"}, "13812345678", True),
        ("<sip:13812345678@c>;tag=a", {"Privacy": "header;session"}, "13812345678", True),
        ("<sip:13812345678@c>;tag=a", {"Privacy": "user; critical"}, "13812345678", True),
        ("<sip:13812345678@c>;tag=a", {"Privacy": "none"}, "13812345678", False),
        ("<sip:13812345678@c>;tag=a", {"Privacy": "history"}, "13812345678", False),
        ('"Anonymous" <sip:anonymous@anonymous.invalid>;tag=a', {}, "", True),
        ("<sip:x@anonymous.invalid>;tag=a", {}, "", True),
        ("<sip:unknown@c>;tag=a", {}, "", True),
        ("<sip:c>;tag=a", {}, "", True),
        (
            '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=a',
            {"P-Asserted-Identity": "<sip:13812345678@c>", "Privacy": "id"},
            "13812345678",
            True,
        ),
        (
            "<sip:13812345678@c>;tag=a",
            {"Remote-Party-ID": "<sip:13812345678@c>;privacy=full"},
            "13812345678",
            True,
        ),
    ],
)
def test_withheld_numbers_route_and_are_not_shown(
    from_: str, headers: dict[str, str], number: str, withheld: bool
) -> None:
    identity = identity_of(invite(from_, **headers))
    assert (identity.number, identity.withheld) == (number, withheld)
    assert identity.shown_number == ("anonymous" if withheld else number)


def test_diversions() -> None:
    identity = identity_of(invite(Diversion="<sip:0571@c>;reason=unknown, <tel:95598>;counter=1"))
    assert (identity.diverted_from, identity.first_called) == ("0571", "95598")
    history = "<sip:3@c>;index=1.2, <sip:1@c?Reason=SIP%3Bcause%3D302>;index=1, <sip:2@c>;index=1.1"
    identity = identity_of(invite(History_Info=history))
    assert identity.history == ("1", "2", "3")
    assert (identity.diverted_from, identity.first_called) == ("2", "1")
    assert identity_of(invite(P_Called_Party_ID="<sip:02195598@c>")).called_party == "02195598"
    assert identity_of(invite(Reason="Q.850;cause=17")).reason == "Q.850;cause=17"
    assert identity_of(invite(Call_Info="<http://x>;purpose=icon")).call_info == (
        "<http://x>;purpose=icon",
    )


def test_user_to_user() -> None:
    found = identity_of(
        invite(User_To_User='04323334;encoding=hex, "order 7";purpose=x')
    ).user_to_user
    assert [(one.text, one.purpose) for one in found] == [("234", ""), ("order 7", "x")]
    assert identity_of(invite(User_To_User="0g;encoding=hex")).user_to_user == ()
    assert identity_of(invite(User_To_User="f" * 5000)).user_to_user == ()
    assert user_to_user_header(found[0]) == ("User-To-User", "04323334;encoding=hex")
    assert (
        user_to_user_header(UserToUser('a"b', "text", "x"))[1] == '"a\'b";encoding=text;purpose=x'
    )


@given(
    st.dictionaries(
        st.sampled_from([
            "P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Privacy",
            "Diversion", "History-Info", "User-To-User", "P-Called-Party-ID", "Reason",
            "Call-Info",
        ]),
        st.text('<>"\\;,:@=?%.sip0189azé ', max_size=40),
        max_size=5,
    )
)  # fmt: skip
def test_no_header_value_raises(headers: dict[str, str]) -> None:
    identity = identity_of(invite(**headers))
    assert len(identity.number) <= 64
    assert identity.name.isprintable()


def told(style: CallerIdStyle, **options: bool) -> tuple[str, dict[str, str]]:
    identity = outgoing_identity("95598", "carrier.example", style=style, **options)
    return str(identity.from_), dict(identity.headers)


def test_what_carriers_are_told() -> None:
    plain = '"95598" <sip:95598@carrier.example>'
    assert told(CallerIdStyle.FROM) == (plain, {})
    assert told(CallerIdStyle.P_ASSERTED_IDENTITY) == (plain, {"P-Asserted-Identity": plain})
    assert told(CallerIdStyle.P_PREFERRED_IDENTITY) == (plain, {"P-Preferred-Identity": plain})
    _, headers = told(CallerIdStyle.REMOTE_PARTY_ID)
    assert headers["Remote-Party-ID"] == f"{plain};party=calling;privacy=off;screen=yes"


def test_a_withheld_number_is_told_to_none_but_the_carrier() -> None:
    from_, headers = told(CallerIdStyle.P_ASSERTED_IDENTITY, privacy=True)
    assert from_ == '"Anonymous" <sip:anonymous@anonymous.invalid>'
    assert headers["Privacy"] == "id"
    assert "95598" in headers["P-Asserted-Identity"]
    from_, headers = told(CallerIdStyle.P_ASSERTED_IDENTITY, privacy=True, knows_privacy=False)
    assert "95598" not in from_
    assert headers == {}
