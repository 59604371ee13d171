"""What baresip and linphone do with the services for phones: transfers, and texts."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cti.sdp import parse_sdp
from cti.shared.contacts import Binding, Way
from cti.sip.endpoint import ServerTransaction, SipEndpoint
from cti.sip.events.message_relay import MessageRelay
from cti.sip.events.page_message import MessageService, PageMessage
from cti.sip.events.refer import ReferService
from cti.sip.messages.message import Response, response_to
from cti.sip.messages.uri import NameAddr
from cti.sip.sessions.session import InviteSession
from tests.fakes.descriptions import answer
from tests.peers.baresip import Baresip
from tests.peers.linphone import Linphone
from tests.peers.waiting import wait_until
from tests.sip_session.conftest import Node
from tests.sip_session.peer import PATIENCE_S
from tests.sip_session.phones import PASSWORD, REALM, TENANT, Directory, authenticator
from tests.sip_session.test_message import Contacts
from tests.sip_session.test_refer import Desk

pytestmark = pytest.mark.peer


class PhoneSystem(Node):
    """A node with the timers of the real world that serves all that phones ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoint = SipEndpoint(user_agent="test")
        self.agent = type(self.agent)(self.endpoint, on_invite=self._take)
        self.desks: asyncio.Queue[tuple[InviteSession, Desk]] = asyncio.Queue()
        self.authenticator = authenticator()
        self.contacts = Contacts()
        ReferService(self.agent)
        self.relay = MessageRelay(self.agent, Directory(), self.contacts)
        self.messages = MessageService(
            self.agent, phones=self.authenticator, on_message=self._deliver
        )
        self.delivered: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self.agent.serve("REGISTER", out_of_dialog=self._register)

    def _take(self, session: InviteSession) -> None:
        session.observer = desk = Desk()
        session.accept(
            answer(parse_sdp(session.offer), "127.0.0.1", 20000, session_id=1, version=1)[0]
        )
        self.desks.put_nowait((session, desk))

    async def _deliver(self, message: PageMessage) -> int:
        status = await self.relay.deliver(message)
        self.delivered.put_nowait((message.text, status))
        return status

    def _register(self, server: ServerTransaction) -> None:
        """Bind the contact: registrars have tests of their own."""
        account = self.authenticator.judge(server, "REGISTER")
        if isinstance(account, Response):
            server.respond(account)
            return
        contact = server.request.headers.get("Contact") or ""
        uri = NameAddr.parse(contact).uri_text
        self.contacts.bindings[TENANT, account.user] = [Binding((Way(server.hop, (), uri),), 0)]
        headers = [("Contact", contact), ("Expires", "60")]
        server.respond(response_to(server.request, 200, headers=headers))

    async def aclose(self) -> None:
        await self.messages.aclose()
        await self.relay.aclose()
        await self.agent.aclose()
        await self.endpoint.aclose()

    async def next_call(self) -> tuple[InviteSession, Desk]:
        """Return the call that came in and was answered."""
        return await asyncio.wait_for(self.desks.get(), PATIENCE_S)

    def is_registered(self, user: str) -> bool:
        return (TENANT, user) in self.contacts.bindings


@pytest.fixture
async def system() -> AsyncIterator[PhoneSystem]:
    system = PhoneSystem()
    await system.listen()
    yield system
    await system.aclose()


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    path = tmp_path / "voice.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16_000))
    return path


@pytest.fixture
async def baresip(system: PhoneSystem, tmp_path: Path, voice: Path) -> AsyncIterator[Baresip]:
    baresip = Baresip(tmp_path / "baresip", user="1001", voice=voice)
    await baresip.start("{}:{}".format(*system.address), password=PASSWORD)
    yield baresip
    await baresip.stop()


@pytest.fixture
async def linphone(system: PhoneSystem, tmp_path: Path, voice: Path) -> AsyncIterator[Linphone]:
    linphone = Linphone(tmp_path / "linphone", user="1002", voice=voice)
    server = "{}:{}".format(*system.address)
    await linphone.start(server, password=PASSWORD, realm=REALM)
    yield linphone
    await linphone.stop()


async def transferred(system: PhoneSystem, target: str) -> None:
    """Take the transfer of the latest call, and tell of its success until the phone hangs up."""
    session, desk = await system.next_call()
    referral = await desk.referral()
    assert referral.target == target
    referral.accept()
    referral.progress(180)
    referral.finish(200)
    await desk.expect("acknowledged", b"")
    event = await desk.next()
    while event[0] != "ended":
        event = await desk.next()
    assert event[1].by_peer
    assert session.state == "terminated"


async def test_baresip(system: PhoneSystem, baresip: Baresip) -> None:
    server = "{}:{}".format(*system.address)
    await wait_until(lambda: system.is_registered("1001"), 10, "baresip registered")
    baresip.command("dial", f"sip:95598@{server}")
    await baresip.event("CALL_ESTABLISHED")
    baresip.command("transfer", f"sip:1002@{server}")
    await transferred(system, f"sip:1002@{server}")


async def test_linphone(system: PhoneSystem, baresip: Baresip, linphone: Linphone) -> None:
    server = "{}:{}".format(*system.address)
    await wait_until(lambda: system.is_registered("1001"), 10, "baresip registered")
    linphone.type(f"chat sip:1001@{server} Text of linphone")  # baresip takes it
    delivered = await asyncio.wait_for(system.delivered.get(), PATIENCE_S)
    assert delivered == ("Text of linphone", 200)
    await linphone.dial(f"sip:95598@{server}")
    linphone.type(f"transfer sip:1001@{server}")
    await transferred(system, f"sip:1001@{server}")
