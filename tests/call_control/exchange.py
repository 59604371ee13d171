"""A platform with registered phones and carriers on real SIP; it tells who talks to whom."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from cti.admission import Admission, TenantAccess
from cti.calls.call_control import CallControl, PhoneAccess
from cti.identity import UserToUser
from cti.media_engine import RtpEngine
from cti.media_policy import MediaAddress, MediaAddresses
from cti.sdp import Direction
from cti.settings import AccessCodeSettings, TrunkSettings
from cti.shared.contacts import Binding, Way
from cti.sip.authentication.digest import MD5, Credentials, DigestServer, ha1
from cti.sip.authentication.phone_auth import PhoneAccount, PhoneAuthenticator
from cti.sip.endpoint import ServerTransaction
from cti.sip.events.refer import ReferService
from cti.sip.messages.message import Response, response_to
from cti.sip.messages.uri import NameAddr, SipUri
from cti.sip.sessions.session import InviteSession
from cti.sip.transports.transport import Hop
from cti.trunks.outbound import OutboundTrunks, TrunkAttempt
from cti95598.events.v1.events_pb2 import CallArrived
from domain.events import EventStamp
from domain.failures import Code
from domain.ids import NodeId, TenantId
from tests.call_control.conftest import TENANT
from tests.call_control.party import Party, PartyCall
from tests.call_control.platform import Platform, until
from tests.fakes.descriptions import build_offer
from tests.fakes.media import FakeMedia

REALM = "cti95598"
OTHER_TENANT = TenantId("other")
HOLD_MUSIC = Path("hold.wav")
_rtp_ports = itertools.count(45000, 2)


class Directory:
    """Phones 1001 to 1009 of one tenant, 2001 to 2009 of another."""

    def find(self, user: str, domain: str) -> PhoneAccount | None:
        tenant = {"100": TENANT, "200": OTHER_TENANT}.get(user[:3])
        if tenant is None or len(user) != 4:
            return None
        return PhoneAccount(tenant, user, {MD5: ha1(MD5, user, REALM, f"secret-{user}")})

    def is_phone(self, tenant: TenantId, user: str) -> bool:
        account = self.find(user, "")
        return account is not None and account.tenant == tenant


class Trunks:
    """Sends outside numbers to carriers, one after the other."""

    def __init__(self) -> None:
        self.carriers: list[Party] = []
        self.taken: list[str] = []
        self.released: list[str] = []
        self.reports: list[tuple[str, int]] = []
        self.passed: UserToUser | None = None
        self.asked_to_wait_s: list[float] = []
        self.full: set[str] = set()

    async def attempts(
        self,
        tenant: TenantId,
        number: str,
        *,
        caller: str = "",
        privacy: bool = False,
        user_to_user: UserToUser | None = None,
    ) -> Sequence[TrunkAttempt]:
        self.passed = user_to_user
        return [
            TrunkAttempt(
                trunk=f"carrier-{index}",
                tenant=tenant,
                uri=f"sip:{number}@{carrier.hop.host}:{carrier.hop.port}",
                from_=NameAddr(SipUri(user="95598", host="carrier.example")),
                to=NameAddr(SipUri(user=number, host="carrier.example")),
                hop=carrier.hop,
                route=(),
                headers=(),
                credentials=None,
                answer_within_s=0.2,
                progress_within_s=0.3,
                server=f"sip:{index}",
                key=index,
            )
            for index, carrier in enumerate(self.carriers)
        ]

    def take(self, attempt: TrunkAttempt, now_s: float) -> bool:
        if attempt.trunk in self.full:
            return False
        self.taken.append(attempt.trunk)
        return True

    def release(self, attempt: TrunkAttempt) -> None:
        self.released.append(attempt.trunk)

    def report(
        self,
        attempt: TrunkAttempt,
        status: int,
        code: Code,
        *,
        retry_after_s: float = 0,
        was_heard: bool = False,
    ) -> bool:
        self.reports.append((attempt.trunk, status))
        self.asked_to_wait_s.append(retry_after_s)
        if was_heard:
            return False
        return status in {408, 503} or code in {Code.SIP_TIMEOUT, Code.SIP_TRANSPORT}


class Exchange(Platform):
    """A platform whose phones may call and transfer."""

    def __init__(self, recordings: Path, media: FakeMedia | RtpEngine) -> None:
        super().__init__(_admission(), recordings, media)
        self.trunks = Trunks()
        self.directory = Directory()
        self.phones: dict[str, Phone] = {}
        self.ways_before: dict[str, Way] = {}
        self.hold_music: list[Path] = [HOLD_MUSIC]
        self.failed_sign_ins: list[str] = []
        self.strangers: list[str] = []
        authenticator = PhoneAuthenticator(
            self.directory,
            DigestServer(REALM),
            on_failure=lambda _source, user: self.failed_sign_ins.append(user),
        )
        ReferService(self.user_agent)
        self.control = CallControl(
            user_agent=self.user_agent,
            media=media,
            admission=self.admission,
            contacts=self,
            events=EventStamp(NodeId("node-1"), self.sink),
            handler=self._run,
            recording_path=lambda _, recording: recordings / f"{recording}.wav",
            addresses=MediaAddresses(MediaAddress("127.0.0.1")),
            domain=REALM,
            phones=PhoneAccess(self.directory, authenticator, self.directory.is_phone),
            outbound=cast("OutboundTrunks", self.trunks),
            hold_music=lambda: self.hold_music,
            on_stranger=self.strangers.append,
        )
        self.media.on_event = self.control.on_media

    async def lookup(self, tenant: TenantId, user: str) -> list[Binding]:
        phone = self.phones.get(user)
        if phone is None or not self.directory.is_phone(tenant, user):
            return []
        way = Way(phone.hop, (), phone.contact(user))
        before = self.ways_before.get(user)
        return [Binding((way,) if before is None else (before, way), 2_000_000_000)]

    def arrived(self) -> list[CallArrived]:
        """The calls so far, refused ones too."""
        return [e.call_arrived for e in self.sink.events if e.HasField("call_arrived")]

    async def phone(self, user: str) -> Phone:
        phone = Phone(user)
        await phone.listen()
        self.phones[user] = phone
        phone.platform = self.hop
        return phone

    async def carrier(self) -> Party:
        carrier = Party()
        carrier.sdp = _offer(next(_rtp_ports))
        return await carrier.listen()

    def may_trunks_transfer(self, allowed: bool) -> None:
        context = self.control._context
        object.__setattr__(context, "may_trunk_transfer", lambda _tenant, _trunk: allowed)

    def talks_to(self, call: PartyCall) -> bytes:
        """The SDP of whom this party hears, empty for nobody."""
        media = cast("FakeMedia", self.media)
        for port in media.ports.values():
            if port.connected and port.connected.remote_port == _port_of(call.sdp):
                for source in port.hears:
                    other = media.ports.get(source)
                    if other is not None and other.connected and not port.play:
                        return b"%d" % other.connected.remote_port
        return b""

    def are_talking(self, one: PartyCall, two: PartyCall) -> bool:
        return self.talks_to(one) == b"%d" % _port_of(two.sdp)

    def media_timeout_ms(self, call: PartyCall) -> int:
        """After how long a silence of this party its call would end; 0 for never."""
        media = cast("FakeMedia", self.media)
        (found,) = (
            port.connected.media_timeout_ms
            for port in media.ports.values()
            if port.connected and port.connected.remote_port == _port_of(call.sdp)
        )
        return int(found)

    def hears(self, call: PartyCall) -> list[str]:
        """The clips that this party is played."""
        media = cast("FakeMedia", self.media)
        return [
            Path(path).name
            for port in media.ports.values()
            if port.connected and port.connected.remote_port == _port_of(call.sdp) and port.play
            for path in port.paths
        ]


class Phone(Party):
    """A phone with a password."""

    def __init__(self, user: str) -> None:
        super().__init__()
        self.user = user
        self.platform = Hop("udp", "127.0.0.1", 0)
        self.password = f"secret-{user}"
        self.next_sdp = b""
        """What the next call offers or answers; else a port that nobody listens at."""

    def dial(self, number: str, *, headers: Sequence[tuple[str, str]] = ()) -> PartyCall:
        call = PartyCall(self.next_sdp or _offer(next(_rtp_ports)))
        self.next_sdp = b""
        self.calls.append(call)
        call.session = self.user_agent.invite(
            f"sip:{number}@{self.platform.host}:{self.platform.port}",
            from_=f"sip:{self.user}@{REALM}",
            hop=self.platform,
            sdp=call.sdp,
            observer=call,
            headers=headers,
            credentials=Credentials(self.user, self.password),
        )
        return call

    def _on_invite(self, session: InviteSession) -> None:
        self.sdp = self.next_sdp or _offer(next(_rtp_ports))
        self.next_sdp = b""
        super()._on_invite(session)


class Transferor:
    """Asks for transfers in a call, and hears how they go."""

    def __init__(self, phone: Party, call: PartyCall) -> None:
        self.call = call
        self.status = 0
        self.fragments: list[bytes] = []
        phone.user_agent.serve("NOTIFY", in_dialog=self._on_notify)

    def refer(
        self,
        target: str,
        *,
        attended: PartyCall | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        session = self.call.session
        assert session is not None
        if attended is not None:
            other = attended.session
            assert other is not None
            target += (
                f"?Replaces={other.call_id}%3Bto-tag%3D{other.remote_tag}"
                f"%3Bfrom-tag%3D{other.local_tag}"
            )
        headers = [("Refer-To", f"<{target}>"), *headers]
        session.send("REFER", headers, on_response=self._on_response)

    def _on_response(self, response: Response) -> None:
        self.status = response.status

    def _on_notify(self, _session: object, server: ServerTransaction, _dialog: object) -> None:
        request = server.request
        self.fragments.append(request.body.split(b"\r\n")[0])
        server.respond(response_to(request, 200))

    async def told(self, status: int) -> None:
        await until(lambda: any(b" %d " % status in each for each in self.fragments))


def replaces(call: PartyCall) -> tuple[str, str]:
    """The header that names a call as the platform knows it, from its phone's own view."""
    session = call.session
    assert session is not None
    value = f"{session.call_id};to-tag={session.remote_tag};from-tag={session.local_tag}"
    return "Replaces", value


def held(call: PartyCall, direction: Direction, ip: str = "127.0.0.1") -> bytes:
    return build_offer(ip, _port_of(call.sdp), session_id=1, version=2, direction=direction)


@asynccontextmanager
async def exchange_on(recordings: Path, media: FakeMedia) -> AsyncIterator[Exchange]:
    """Run an exchange; afterwards nothing of its calls may be left."""
    exchange = Exchange(recordings, media)
    await exchange.listen()
    yield exchange
    await exchange.control.aclose()
    await until(lambda: exchange.user_agent.session_count == 0)
    assert not media.ports
    assert not media.recordings
    assert exchange.admission.calls == 0
    assert sorted(exchange.trunks.taken) == sorted(exchange.trunks.released)
    for party in (*exchange.phones.values(), *exchange.trunks.carriers):
        await party.endpoint.aclose()
    await exchange.endpoint.aclose()


def _admission() -> Admission:
    trunk = TrunkSettings.model_validate({"name": "carrier", "addresses": ["127.0.0.0/8"]})
    codes = [
        AccessCodeSettings(code="95598", flow="main"),
        AccessCodeSettings(code="4001", flow="b"),
    ]
    return Admission([TenantAccess(TENANT, [trunk], codes)])


def _offer(rtp_port: int) -> bytes:
    return build_offer("127.0.0.1", rtp_port, session_id=1, version=1)


def _port_of(sdp: bytes) -> int:
    return int(sdp.split(b"m=audio ")[1].split()[0])
