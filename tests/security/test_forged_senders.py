"""Datagrams with forged senders shut no phone out, and fill neither log nor event stream."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from cti.settings import DefenceSettings
from cti.sip.authentication.digest import (
    MD5,
    AuthResult,
    Credentials,
    DigestServer,
    authorization,
    ha1,
)
from cti.sip.authentication.phone_auth import PhoneAccount, PhoneAuthenticator
from cti.sip.defence.guard import PASS
from cti.sip.defence.offences import Ban, Defence, Offence
from cti.sip.messages.message import Request
from cti.sip.transports.transport import Hop
from domain.events import EventStamp
from domain.ids import NodeId, TenantId
from node.defence import SourceDefence
from tests.call_control.conftest import Sink

OFFICE, ATTACKER = "192.0.2.7", "198.51.100.66"
REALM, USER, PASSWORD = "phones", "1001", "right"
STORED = {MD5: ha1(MD5, USER, REALM, PASSWORD)}


def scan() -> Request:
    return Request("OPTIONS", "sip:100@127.0.0.1", [("User-Agent", "friendly-scanner")])


def shut_out(guard: Defence, *, is_forgeable: bool) -> None:
    for _ in range(1000):
        guard.judge(scan(), OFFICE, 10.0, is_forgeable=is_forgeable)
        guard.judge(Request("INVITE", "sip:1"), OFFICE, 10.0, is_forgeable=is_forgeable)
        guard.strike(OFFICE, Offence.MALFORMED, 10.0, is_forgeable=is_forgeable)


def test_datagrams_cannot_shut_out_an_address_whose_phone_has_shown_its_password() -> None:
    guard = Defence(is_trusted=lambda _: False)
    guard.vouch(OFFICE, 0.0)
    shut_out(guard, is_forgeable=True)
    assert not guard.is_banned(OFFICE)
    shut_out(guard, is_forgeable=False)  # over a connection nobody can pretend to be there
    assert guard.is_banned(OFFICE)


def test_the_word_of_a_phone_ends() -> None:
    guard = Defence(is_trusted=lambda _: False)
    guard.vouch(OFFICE, -7201.0)
    guard.expire(0.0)
    shut_out(guard, is_forgeable=True)
    assert guard.is_banned(OFFICE)


def test_one_forged_scan_bans_nobody() -> None:
    bans: list[Ban] = []
    guard = Defence(is_trusted=lambda _: False, on_ban=bans.append)
    for number in range(5000):
        source = str(ip_address(0x0B000000 + number))
        assert guard.judge(scan(), source, 0.0, is_forgeable=True) is Offence.SCANNER
    assert not bans


async def test_bans_by_the_thousand_leave_few_records() -> None:
    sink = Sink()
    defence = SourceDefence(
        DefenceSettings(),
        is_trusted=lambda _: False,
        events=EventStamp(NodeId("node-1"), sink),
        tenant=TenantId("demo"),
    )
    now_s = asyncio.get_running_loop().time()
    for number in range(2000):
        source = str(ip_address(0x0B000000 + number))
        defence.judge(scan(), Hop("tcp", source, 5060), source, now_s)
    assert len(defence.bans()) == 2000
    assert len(sink.events) <= 20


# Passwords: whoever answers a challenge has received it


def answer(challenges: list[str], password: str) -> str:
    value = authorization(
        challenges, method="REGISTER", uri="sip:x", credentials=Credentials(USER, password)
    )
    assert value is not None
    return value


@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
@pytest.mark.parametrize("of", ["elsewhere", "nobody"])
def test_credentials_for_the_challenge_of_another_address_are_not_looked_at(
    password: str, of: str
) -> None:
    server = DigestServer(REALM)
    challenges = (server if of == "elsewhere" else DigestServer(REALM)).challenges(
        10.0, source=ATTACKER
    )
    judged = server.judge(
        [answer(challenges, password)],
        method="REGISTER", user=USER, stored=STORED, now=10.0, source=OFFICE,
    )  # fmt: skip
    assert judged is AuthResult.STALE


class Arrived:
    """A REGISTER from an address."""

    def __init__(self, source: str, authorization: str) -> None:
        self.source = source
        self.request = Request(
            "REGISTER",
            "sip:x",
            [
                ("Via", "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1"),
                ("From", f"<sip:{USER}@x>;tag=1"),
                ("To", f"<sip:{USER}@x>"),
                ("Call-ID", "1"),
                ("CSeq", "1 REGISTER"),
                ("Authorization", authorization),
            ],
        )


class Directory:
    def find(self, user: str, domain: str) -> PhoneAccount | None:
        return PhoneAccount(TenantId("demo"), user, STORED)


def test_only_who_was_challenged_is_blamed_for_a_wrong_password() -> None:
    blamed: list[str] = []
    proved: list[str] = []
    server = DigestServer(REALM)
    phones = PhoneAuthenticator(
        Directory(),
        server,
        on_failure=lambda source, _user: blamed.append(source),
        on_success=proved.append,
        unix_clock=lambda: 10.0,
    )
    seen = server.challenges(10.0, source=ATTACKER)
    made_up = f'Digest username="{USER}", realm="{REALM}", nonce="x", uri="sip:x", response="0"'
    for value in (answer(seen, "guess"), made_up):
        phones.judge(Arrived(OFFICE, value), "REGISTER")
    assert not blamed
    phones.judge(Arrived(ATTACKER, answer(seen, "guess")), "REGISTER")
    assert blamed == [ATTACKER]
    own = server.challenges(10.0, source=OFFICE)
    assert isinstance(
        phones.judge(Arrived(OFFICE, answer(own, PASSWORD)), "REGISTER"), PhoneAccount
    )
    assert proved == [OFFICE]


async def test_who_is_banned_behind_a_proxy_does_not_make_the_node_look_dead() -> None:
    defence = SourceDefence(
        DefenceSettings(),
        is_trusted=lambda address: address == "10.0.0.1",
        events=EventStamp(NodeId("node-1"), Sink()),
        tenant=TenantId("demo"),
    )
    now_s = asyncio.get_running_loop().time()
    proxy = Hop("udp", "10.0.0.1", 5060)
    verdicts = {defence.judge(scan(), proxy, ATTACKER, now_s) for _ in range(20)}
    assert verdicts == {403}
    assert [ban.address for ban in defence.bans()] == [ATTACKER]
    assert defence.judge(Request("INVITE", "sip:1"), proxy, OFFICE, now_s) == PASS


def test_no_web_page_shuts_out_the_office_whose_browsers_it_has_connect() -> None:
    guard = Defence(is_trusted=lambda _: False)
    guard.vouch(OFFICE, 0.0)
    for offence in (Offence.MALFORMED, Offence.BROKEN_STREAM):
        for _ in range(100):
            guard.strike(OFFICE, offence, 10.0)
    assert not guard.is_banned(OFFICE)
    for _ in range(11):
        guard.strike(OFFICE, Offence.GUESSING, 10.0)
    assert guard.is_banned(OFFICE)
