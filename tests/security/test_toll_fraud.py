"""Who may not call at the tenant's cost does not, and learns nothing of those who may."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from cti.admission import TenantAccess
from cti.settings import AccessCodeSettings, TrunkSettings
from cti.sip.authentication.digest import Credentials, authorization
from cti.sip.messages.message import Response
from tests.call_control.conftest import TENANT
from tests.call_control.exchange import Exchange, exchange_on
from tests.call_control.platform import until
from tests.fakes.media import FakeMedia
from tests.sip_session.peer import RawPeer

SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    b"m=audio 40000 RTP/AVP 8\r\n"
)
OUTSIDE = "sip:13900001111@127.0.0.1"


class Attacker(RawPeer):
    """Sends INVITEs, and answers challenges as whoever it wants to be."""

    async def invite(
        self,
        uri: str = OUTSIDE,
        *,
        from_: str = "<sip:1001@cti95598>",
        credentials: Credentials | None = None,
        method: str = "INVITE",
        headers: Iterable[tuple[str, str]] = (),
    ) -> Response:
        named = [*headers, ("From", f"{from_};tag={self.tag}")]
        challenged = await self._final(method, uri, named)
        if credentials is None or challenged.status != 401:
            return challenged
        value = authorization(
            challenged.headers.get_all("WWW-Authenticate"),
            method=method,
            uri=uri,
            credentials=credentials,
        )
        assert value is not None
        return await self._final(method, uri, [*named, ("Authorization", value)])

    async def _final(self, method: str, uri: str, headers: list[tuple[str, str]]) -> Response:
        request = self.ask(method, uri=uri, headers=headers, body=SDP)
        while True:
            response = await self.next()
            if isinstance(response, Response) and response.status >= 200:
                if method == "INVITE" and response.status >= 300:
                    self.follow(request, "ACK")
                return response


@pytest.fixture
async def exchange(tmp_path: Path) -> AsyncIterator[Exchange]:
    """A platform whose trunk is elsewhere: here are phones and strangers only."""
    async with exchange_on(tmp_path, FakeMedia()) as running:
        trunk = TrunkSettings.model_validate({"name": "carrier", "addresses": ["192.0.2.0/24"]})
        code = AccessCodeSettings(code="95598", flow="main")
        running.admission.load([TenantAccess(TENANT, [trunk], [code])])
        running.trunks.carriers = [await running.carrier()]
        yield running


@pytest.fixture
async def attacker(exchange: Exchange) -> AsyncIterator[Attacker]:
    peer = await Attacker.create((exchange.hop.host, exchange.hop.port))
    assert isinstance(peer, Attacker)
    yield peer
    peer.close()


def looks(response: Response) -> str:
    """A response without what differs between any two."""
    text = response.to_bytes().decode()
    return re.sub(r'nonce="[^"]*"|tag=[^\r;]*|branch=[^\r;]*|CSeq: \d+|To: .*|From: .*', "", text)


@pytest.mark.parametrize("replaces", ["", "a@b;to-tag=1;from-tag=2"])
@pytest.mark.parametrize("password", [None, "guess"])
async def test_a_stranger_does_not_learn_which_users_there_are(
    exchange: Exchange, attacker: Attacker, replaces: str, password: str | None
) -> None:
    seen = set()
    headers = [("Replaces", replaces)] if replaces else []
    for user in ("1001", "1999x", "admin"):
        credentials = None if password is None else Credentials(user, password)
        response = await attacker.invite(
            from_=f"<sip:{user}@cti95598>", credentials=credentials, headers=headers
        )
        seen.add(looks(response))
    assert len(seen) == 1, seen
    assert " 401 " in seen.pop()


@pytest.mark.parametrize(
    ("from_", "credentials"),
    [
        ("<sip:1001@cti95598>", None),
        ("<sip:1001@cti95598>", Credentials("1001", "guess")),
        ("<sip:1001@cti95598>", Credentials("1002", "secret-1002")),  # another phone's right
        ("<sip:1001@cti95598>", Credentials("2001", "secret-2001")),  # of another tenant
        ("<sip:13800000000@127.0.0.1>", Credentials("1001", "secret-1001")),
        ("<sip:@127.0.0.1>", None),
        ("<tel:1001>", None),
    ],
)
@pytest.mark.parametrize("uri", [OUTSIDE, "tel:13900001111", "sip:1002@127.0.0.1", "sip:95598@x"])
async def test_nobody_calls_without_the_right_password(
    exchange: Exchange, attacker: Attacker, from_: str, credentials: Credentials | None, uri: str
) -> None:
    response = await attacker.invite(uri, from_=from_, credentials=credentials)
    assert response.status in {401, 403}
    assert not exchange.trunks.taken
    assert not exchange.control.calls


async def overheard(attacker: Attacker, uri: str) -> str:
    """What a phone would answer a challenge with, to call somebody."""
    challenged = await attacker.invite()
    value = authorization(
        challenged.headers.get_all("WWW-Authenticate"),
        method="INVITE",
        uri=uri,
        credentials=Credentials("1001", "secret-1001"),
    )
    assert value is not None
    return value


async def test_overheard_credentials_are_not_good_again(
    exchange: Exchange, attacker: Attacker
) -> None:
    nobody = "sip:nobody@x"
    value = await overheard(attacker, nobody)
    first = await attacker.invite(nobody, headers=[("Authorization", value)])
    again = await attacker.invite(nobody, headers=[("Authorization", value)])
    assert (first.status, again.status) == (404, 401)


@pytest.mark.parametrize("uri", [OUTSIDE, "tel:13900001111", "sip:1002@x"])
async def test_overheard_credentials_are_good_for_no_other_number(
    exchange: Exchange, attacker: Attacker, uri: str
) -> None:
    value = await overheard(attacker, "sip:nobody@x")
    assert (await attacker.invite(uri, headers=[("Authorization", value)])).status == 400
    assert not exchange.control.calls


@pytest.mark.parametrize(
    "uri", ["sip:1@{victim}", "sip:13900001111@{victim};maddr={host}", "sips:x@{victim}"]
)
@pytest.mark.parametrize("with_route", [False, True])
async def test_the_platform_is_no_relay(
    exchange: Exchange, attacker: Attacker, uri: str, with_route: bool
) -> None:
    victim = await RawPeer.create(attacker.remote)
    address = f"{victim.host}:{victim.port}"
    headers = [("Route", f"<sip:{address};lr>")] if with_route else []
    target = uri.format(victim=address, host=victim.host)
    for method in ("INVITE", "OPTIONS", "MESSAGE", "SUBSCRIBE", "NOTIFY", "REFER", "BYE"):
        response = await attacker.invite(target, method=method, headers=headers)
        assert response.status < 300 or response.status >= 400
    assert victim.inbox.empty()
    victim.close()


async def test_a_phone_has_so_many_calls_and_no_more(exchange: Exchange) -> None:
    phone = await exchange.phone("1001")
    calls = [phone.dial("13900001111") for _ in range(10)]
    rung = [await exchange.trunks.carriers[0].next_call() for _ in calls]
    one_more = phone.dial("13900001111")
    assert (await one_more.until_ended()).status == 486
    calls[0].hang_up()
    await rung[0].until_ended()
    await until(lambda: exchange.control.calls == 9)
    phone.dial("13900001111")
    await exchange.trunks.carriers[0].next_call()
    for call in phone.calls:
        call.hang_up()
    await until(lambda: exchange.control.calls == 0)
    assert not exchange.control._calls_of_phones._calls
