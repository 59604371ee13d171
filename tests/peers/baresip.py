"""baresip without sound card: plays a file, dumps what it hears, is steered over TCP as JSON."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from cti import audio
from demo.ports import free_port
from tests.peers.process import PeerProcess

_CONFIG = """\
poll_method epoll
sip_listen 127.0.0.1:{sip_port}
sip_trans_def udp
{tls}net_interface 127.0.0.1
call_local_timeout 60
call_max_calls 2
audio_source aufile,{voice}
audio_player aubridge,nobody
audio_alert aubridge,nobody
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
ausrc_format s16
auplay_format s16
auenc_format s16
audec_format s16
audio_buffer 20-160
rtp_ports {rtp_port}-{rtp_end}
jitter_buffer_type fixed
jitter_buffer_delay 2-10
module_path /usr/lib/baresip/modules
module g711.so
module aufile.so
module aubridge.so
module sndfile.so
module srtp.so
snd_path {directory}
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control_port}
"""


class Baresip:
    """One baresip with one account."""

    def __init__(self, directory: Path, *, user: str, voice: Path) -> None:
        self._process = PeerProcess(directory)
        self._directory = directory
        self._user = user
        self._voice = voice
        self._control_port = free_port()
        self._events: list[dict[str, object]] = []
        self._news = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def start(
        self,
        server: str = "",
        *,
        password: str = "",
        auto_answer: bool = False,
        transport: str = "udp",
        authority: Path | None = None,
        outbound: bool = False,
        encryption: str = "",
    ) -> None:
        """Start; with a password it registers at `server` (host:port).

        `outbound` has it ask for a flow (RFC 5626); `encryption` is `srtp`, or `srtp-mand` where
        it refuses plain media. It knows the `authority` of certificates,
        but baresip 1.0 goes on when one is of another.
        """
        sip_port = free_port()
        rtp_port = 40000 + sip_port % 500 * 20
        self._directory.mkdir(parents=True)
        (self._directory / "config").write_text(
            _CONFIG.format(
                sip_port=sip_port,
                tls=f"sip_cafile {authority}\n" if authority else "",
                voice=self._voice,
                rtp_port=rtp_port,
                rtp_end=rtp_port + 18,
                directory=self._directory,
                control_port=self._control_port,
            )
        )
        (self._directory / "contacts").write_text("")
        (self._directory / "accounts").write_text(
            f"<sip:{self._user}@{server or '127.0.0.1'};transport={transport}>"
            + (f";auth_user={self._user};auth_pass={password}" if password else "")
            + f";regint={60 if password else 0}"
            + f";answermode={'auto' if auto_answer else 'manual'}"
            + (
                f';sipnat=outbound;outbound1="sip:{server};transport={transport}"'
                if outbound
                else ""
            )
            + (f";mediaenc={encryption}" if encryption else "")
            + ";audio_codecs=PCMA/8000/1,PCMU/8000/1\n"
        )
        await self._process.start(["/usr/bin/baresip", "-f", str(self._directory)])
        await self._process.printed("baresip is ready")
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._control_port)
        self._reader = asyncio.create_task(self._follow(reader))

    def command(self, name: str, parameters: str = "") -> None:
        """Give a command of its menu, such as dial, accept, hangup, sndcode."""
        assert self._writer is not None
        data = json.dumps({"command": name, "params": parameters}).encode()
        self._writer.write(b"%d:%s," % (len(data), data))

    async def event(self, kind: str, *, timeout_s: float = 15.0) -> dict[str, object]:
        """Wait for an event, also one that came before."""

        def found() -> dict[str, object] | None:
            return next((event for event in self._events if event.get("type") == kind), None)

        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(lambda: found() is not None)
        except TimeoutError:
            pass
        event = found()
        assert event is not None, f"no {kind} in {self._events}\n" + "\n".join(
            self._process.lines[-30:]
        )
        return event

    async def registered(self) -> None:
        """Wait until a registrar has taken it.

        It registers as it starts, maybe before we listen to its events: only its words are sure.
        """
        await self._process.printed(r"200 OK .*\[\d+ bindings?\]", timeout_s=15)

    async def secured(self) -> None:
        """Wait until its media is encrypted."""
        await self._process.printed("SRTP is Enabled")

    def heard(self) -> audio.Sound:
        """What the last call heard."""
        dumps = sorted(self._directory.glob("dump-*-dec.wav"))
        assert dumps, "baresip heard nothing"
        return audio.read_wav(dumps[-1])[0]

    async def stop(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
        if self._writer is not None:
            self._writer.close()
        await self._process.stop()

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        """Read netstrings of JSON."""
        while True:
            size = int((await reader.readuntil(b":"))[:-1])
            message = json.loads(await reader.readexactly(size))
            await reader.readexactly(1)
            async with self._news:
                self._events.append(message)
                self._news.notify_all()
