"""A SIP phone: registers, calls, answers, plays, presses keys and records what it hears.

It stands on the platform's own SIP stack and media engine, so no packet passes through Python. The
command line, the demo and the tests use it; to the platform it is a phone like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cti import audio
from cti.media import (
    DigitReceived,
    DigitsSent,
    MediaEvent,
    PlayEnded,
    PortClosed,
    PortFigures,
    RecordingEnded,
    RecordingId,
)
from cti.media_engine import RtpEngine
from cti.media_policy import MediaAddress, PortPlan
from cti.rtp_port import MediaRouter, RtpPort
from cti.sip.authentication.digest import Credentials
from cti.sip.endpoint import SipEndpoint
from cti.sip.messages.uri import NameAddr, SipUri
from cti.sip.sessions.session import InviteSession, SessionEnd, SessionObserverBase
from cti.sip.transactions.timers import Timers
from cti.sip.transports.transport import Hop
from cti.sip.user_agent import UserAgent
from domain.failures import Code, PlatformError

T1_S = Timers().t1_s

_TONE_MS = 120
_GAP_MS = 80
_LISTEN_INTERVAL_S = 0.1
_REGISTER_AGAIN_AT = 0.7  # of the time granted
_RTP_PORTS = (30_000, 39_999)  # beside the platform's


@asynccontextmanager
async def phone_media(
    port_min: int = _RTP_PORTS[0], port_max: int = _RTP_PORTS[1]
) -> AsyncIterator[MediaRouter]:
    """Run a media engine for phones of this process."""
    engine = RtpEngine(port_min=port_min, port_max=port_max)
    router = MediaRouter(engine)
    engine.on_event = router.on_event
    try:
        yield router
    finally:
        await engine.aclose()


@dataclass(frozen=True, slots=True)
class PhoneSettings:
    """Who the phone is and where it listens."""

    user: str
    display: str = ""
    local_ip: str = "127.0.0.1"
    local_port: int = 0
    transport: str = "udp"
    auto_answer: bool = False
    t1_s: float = T1_S
    """RFC 3261 timer T1, the round trip that is reckoned with."""


class PhoneCall(SessionObserverBase):
    """One call of a phone, incoming or outgoing. Observes its session and its RTP port."""

    def __init__(self, router: MediaRouter, local_ip: str, record_path: Path | None) -> None:
        """Open the RTP port; PlatformError MEDIA_PORTS_EXHAUSTED."""
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._router = router
        self._port = RtpPort(router, PortPlan(MediaAddress(local_ip)), 0)
        self._port.listen(self._on_media)
        self._recording: RecordingId | None = None
        self._record_path = record_path
        self._session: InviteSession | None = None
        self._keys_sent: list[asyncio.Future[None]] = []
        self._play_ended: asyncio.Future[None] | None = None
        self._ringing: asyncio.Future[bool] = loop.create_future()
        self._answered: asyncio.Future[bool] = loop.create_future()
        self._recorded: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[PortFigures] = loop.create_future()
        self.ended: asyncio.Future[SessionEnd] = loop.create_future()
        self.connected_at_s: float | None = None
        self.keys_heard = ""
        self.far_number = ""
        self.on_change: Callable[[], None] = _nobody_cares

    # What the person at the phone does

    def answer(self) -> None:
        """Pick up; does nothing when answered or over."""
        session = self._session
        if session is None or self._answered.done():
            return
        try:
            body = self._port.answer(session.offer) if session.offer else self._port.offer()
            if session.offer:
                self._connect()
        except PlatformError as error:
            session.reject(error.code)
            return
        session.accept(body)
        self._set_answered()

    def hang_up(self, code: Code = Code.FLOW_ENDED) -> None:
        """End the call from any state: decline, give up or hang up."""
        if self._session is not None:
            self._session.end(code)

    def play(self, path: Path, *, loop: bool = False) -> asyncio.Future[None]:
        """Play a file to the far end; the future is done when it has been played or replaced."""
        self._play_done()
        self._play_ended = asyncio.get_running_loop().create_future()
        self._router.engine.play(self._port.port_id, [str(path)], loop=loop)
        return self._play_ended

    def stop_play(self) -> None:
        """Fall silent."""
        self._router.engine.stop_play(self._port.port_id)

    async def press(self, keys: str) -> None:
        """Press keys (RFC 4733), and wait until they have been sent."""
        if self._closed.done():
            return
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keys_sent.append(sent)
        self._router.engine.send_digits(self._port.port_id, keys, tone_ms=_TONE_MS, gap_ms=_GAP_MS)
        await sent

    # What the person waits for

    @property
    def sip_call_id(self) -> str:
        """The Call-ID, which the platform's records know as well."""
        return "" if self._session is None else self._session.call_id

    @property
    def is_answered(self) -> bool:
        """Whether someone picked up, though the call may be over by now."""
        return self._answered.done() and self._answered.result()

    @property
    def is_over(self) -> bool:
        """Whether the call has ended."""
        return self.ended.done()

    @property
    def talk_s(self) -> float:
        """Time since media could flow, which is the time of the recording."""
        return 0.0 if self.connected_at_s is None else self._clock() - self.connected_at_s

    async def wait_ringing(self, timeout_s: float) -> bool:
        """Wait for 18x or an answer; False when the call ended without."""
        async with asyncio.timeout(timeout_s):
            return await asyncio.shield(self._ringing)

    async def wait_answered(self, timeout_s: float) -> None:
        """Wait for the answer; PlatformError with the far end's reason when there is none."""
        async with asyncio.timeout(timeout_s):
            if not await asyncio.shield(self._answered):
                end = self.ended.result()
                raise PlatformError(end.code, f"{end.status} {end.reason}".strip())

    async def wait_ended(self, timeout_s: float) -> SessionEnd:
        """Wait until either side has hung up."""
        async with asyncio.timeout(timeout_s):
            return await asyncio.shield(self.ended)

    async def wait_closed(self, timeout_s: float) -> PortFigures:
        """Wait until the port is closed and the recording complete; return what was counted."""
        async with asyncio.timeout(timeout_s):
            figures = await asyncio.shield(self._closed)
            if self._recording is not None:
                await asyncio.shield(self._recorded)
        return figures

    def heard(self) -> audio.Sound:
        """Return what was heard so far, from the answer on; needs a recording."""
        path = self._record_path
        if path is None or not path.exists() or path.stat().st_size == 0:
            return audio.silence(0)
        return audio.read_wav(path)[0]

    async def wait_heard(
        self, condition: Callable[[audio.Sound], bool], timeout_s: float
    ) -> audio.Sound:
        """Listen until `condition` holds for what was heard so far.

        TimeoutError after `timeout_s`; PlatformError when the call ends before.
        """
        async with asyncio.timeout(timeout_s):
            while not condition(sound := self.heard()):
                await asyncio.wait([self.ended], timeout=_LISTEN_INTERVAL_S)
                if self.ended.done():
                    raise PlatformError(self.ended.result().code, "call ended while listening")
        return sound

    async def wait_pause(self, timeout_s: float, *, since_ms: int = 0, quiet_ms: int = 900) -> None:
        """Wait for the end of a prompt: something heard since `since_ms`, then silence."""

        def paused(sound: audio.Sound) -> bool:
            news = sound.between(since_ms)
            quiet = audio.quiet_at_end_ms(news)
            return quiet_ms <= quiet < news.duration_ms - 200

        await self.wait_heard(paused, timeout_s)

    # SessionObserver

    def on_progress(self, status: int, sdp: bytes) -> None:
        """The far end rings, or plays before it answers (RFC 3960)."""
        if status >= 180 and not self._ringing.done():
            self._ringing.set_result(True)
        if sdp:
            self._take_answer(sdp)
        self.on_change()

    def on_answered(self, sdp: bytes) -> None:
        """The far end picked up."""
        if sdp:
            self._take_answer(sdp)
        self._set_answered()

    def on_acknowledged(self, sdp: bytes) -> None:
        """The answer to the offer in our 200, after an INVITE without one."""
        if sdp:
            self._take_answer(sdp)

    def on_reoffer(self, sdp: bytes) -> bytes | Code:
        """The far end holds, resumes, or moves its media."""
        if not sdp:
            return self._port.offer()
        try:
            body = self._port.answer(sdp)
            self._connect()
        except PlatformError as error:
            return error.code
        return body

    def on_talk(self) -> None:
        """The platform asks us to pick up (NOTIFY, event `talk`)."""
        self.answer()

    def on_ended(self, end: SessionEnd) -> None:
        """Either side hung up, or the call never came about."""
        for future in (self._ringing, self._answered):
            if not future.done():
                future.set_result(False)
        if not self.ended.done():
            self.ended.set_result(end)
        if self._recording is not None:
            self._router.engine.stop_recording(self._recording)
        self._port.close()
        self.on_change()

    # Inside

    def attach(self, session: InviteSession) -> None:
        """Take the session that this call observes."""
        self._session = session
        session.observer = self
        if session.direction == "in":
            address = NameAddr.parse(session.request.headers.get("From") or "")
            uri = address.uri
            self.far_number = uri.user if isinstance(uri, SipUri) else str(uri)

    def offer(self) -> bytes:
        """Return the SDP to dial with."""
        return self._port.offer()

    def _take_answer(self, sdp: bytes) -> None:
        try:
            self._port.take_answer(sdp)
            self._connect()
        except PlatformError as error:
            self.hang_up(error.code)

    def _connect(self) -> None:
        self._port.connect()
        if self.connected_at_s is not None:
            return
        self.connected_at_s = self._clock()
        if self._record_path is not None:
            self._record_path.parent.mkdir(parents=True, exist_ok=True)
            engine = self._router.engine
            recording = engine.start_recording(str(self._record_path), [self._port.port_id], None)
            self._recording = recording
            self._router.recordings[recording] = self._on_recorded

    def _set_answered(self) -> None:
        for future in (self._ringing, self._answered):
            if not future.done():
                future.set_result(True)
        self.on_change()

    def _on_recorded(self, event: RecordingEnded) -> None:
        if event.error:
            self._recorded.set_exception(PlatformError(Code.RECORDING_FAILED, event.error))
        else:
            self._recorded.set_result(None)

    def _on_media(self, event: MediaEvent) -> None:
        if isinstance(event, DigitReceived):
            self.keys_heard += event.digit
        elif isinstance(event, DigitsSent):
            self._keys_done()
        elif isinstance(event, PlayEnded):
            self._play_done()
        elif isinstance(event, PortClosed):
            self._closed.set_result(event.figures)
            self._play_done()
            while self._keys_sent:
                self._keys_done()

    def _keys_done(self) -> None:
        if self._keys_sent:
            sent = self._keys_sent.pop(0)
            if not sent.done():
                sent.set_result(None)

    def _play_done(self) -> None:
        if self._play_ended is not None and not self._play_ended.done():
            self._play_ended.set_result(None)


class Phone:
    """A phone with one socket of its own."""

    def __init__(self, settings: PhoneSettings, router: MediaRouter) -> None:
        """Make a phone; `open` gives it its socket."""
        self.settings = settings
        self.calls: set[PhoneCall] = set()
        self.record_to: Path | None = None
        self.on_call: Callable[[PhoneCall], None] | None = None
        self._router = router
        self._incoming: asyncio.Queue[PhoneCall] = asyncio.Queue()
        self._endpoint = SipEndpoint(user_agent="cti95598 phone", timers=Timers(t1_s=settings.t1_s))
        self._user_agent = UserAgent(self._endpoint, on_invite=self._on_invite)
        self._registered: tuple[Hop, Credentials] | None = None
        self._refresh: asyncio.Task[None] | None = None

    async def open(self) -> tuple[str, int]:
        """Bind the phone's socket and return its address; PlatformError where it cannot."""
        settings = self.settings
        return await self._endpoint.listen(
            settings.transport, settings.local_ip, settings.local_port
        )

    async def register(self, server: Hop, password: str, *, expires_s: int = 120) -> int:
        """Register and stay registered; return the seconds granted.

        PlatformError AUTHENTICATION_FAILED, SIP_TIMEOUT and others say why not.
        """
        self._registered = (server, Credentials(self.settings.user, password))
        granted_s = await self._register(expires_s)
        self._refresh = asyncio.create_task(self._stay_registered(granted_s))
        return granted_s

    def dial(self, uri: str, server: Hop, *, record: Path | None = None) -> PhoneCall:
        """Call `uri` by way of `server`."""
        call = PhoneCall(self._router, self.settings.local_ip, record)
        self._keep(call)
        own = NameAddr(
            SipUri(user=self.settings.user, host=self.settings.local_ip), self.settings.display
        )
        call.attach(
            self._user_agent.invite(uri, from_=own, hop=server, sdp=call.offer(), observer=call)
        )
        return call

    async def next_call(self, timeout_s: float) -> PhoneCall:
        """Wait for the next call to ring here."""
        async with asyncio.timeout(timeout_s):
            return await self._incoming.get()

    async def aclose(self) -> None:
        """Hang up, unregister and close the socket."""
        if self._refresh is not None:
            self._refresh.cancel()
        for call in list(self.calls):
            call.hang_up()
        if self.calls:
            await asyncio.wait([call.ended for call in self.calls], timeout=2)
        if self._refresh is not None:
            try:
                async with asyncio.timeout(2):
                    await self._register(0)
            except (PlatformError, TimeoutError):
                pass  # the registration expires by itself
        await self._endpoint.aclose()

    async def _register(self, expires_s: int) -> int:
        assert self._registered is not None  # noqa: S101 - callers have registered before
        server, credentials = self._registered
        host = f"{server.host}:{server.port}"
        return await self._user_agent.register(
            registrar_uri=f"sip:{host}",
            aor=f"sip:{self.settings.user}@{host}",
            hop=server,
            credentials=credentials,
            expires_s=expires_s,
        )

    async def _stay_registered(self, granted_s: int) -> None:
        wanted_s = granted_s
        while True:
            await asyncio.sleep(granted_s * _REGISTER_AGAIN_AT)
            try:
                granted_s = await self._register(wanted_s)
            except PlatformError:
                granted_s = 10  # the server may be back by then

    def _on_invite(self, session: InviteSession) -> None:
        try:
            call = PhoneCall(self._router, self.settings.local_ip, self._next_recording())
        except PlatformError as error:
            session.reject(error.code)
            return
        call.attach(session)
        self._keep(call)
        session.ring()
        if self.settings.auto_answer:
            call.answer()
        if self.on_call is not None:
            self.on_call(call)
        else:
            self._incoming.put_nowait(call)

    def _next_recording(self) -> Path | None:
        """The first answered call is recorded to the path asked for, later ones beside it."""
        path = self.record_to
        if path is None or not path.exists():
            return path
        taken = sum(1 for _ in path.parent.glob(f"{path.stem}*{path.suffix}"))
        return path.with_stem(f"{path.stem}-{taken + 1}")

    def _keep(self, call: PhoneCall) -> None:
        self.calls.add(call)
        call.ended.add_done_callback(lambda _: self.calls.discard(call))


def _nobody_cares() -> None:
    """Stand in for a listener."""
