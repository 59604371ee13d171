"""Calls that follow a sipp scenario: many on one UDP socket, known by their Call-IDs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from cti import audio
from loadtest.figures.tally import Tally
from loadtest.generator.media import Media
from loadtest.generator.sip_text import Address
from loadtest.generator.sipp_call import SippCall
from loadtest.generator.sipp_message import Received, plain_response
from loadtest.generator.sipp_text import bound
from loadtest.scenario.captured import Capture
from loadtest.scenario.model import Sipp
from loadtest.scenario.sipp_steps import Fields, MessageText, PlayCapture, Send
from loadtest.scenario.sipp_xml import load_fields, load_sipp

_RECEIVE_BUFFER_BYTES = 16 * 1024 * 1024
_AT_ONCE = 256
_REMEMBERED_S = 32.0
"""How long, at least, a call that is over still answers what is sent again (RFC 3261 timer H)."""


class SippCalls:
    """The callers of one sipp scenario; `open` gives them their socket."""

    def __init__(
        self,
        plan: Sipp,
        platform: Address,
        media: Media,
        random: Random,
        *,
        folders: Sequence[Path] = (),
    ) -> None:
        """Read the scenario; SippError. Its captures are looked for in `folders` and beside it."""
        self.scenario = load_sipp(Path(plan.file), keys=plan.keys, folders=folders)
        self.fields: Fields = load_fields(Path(plan.fields), keys=plan.keys) if plan.fields else []
        self.platform, self.media, self.random = platform, media, random
        self.pause_s = plan.pause_s
        self.service = plan.service
        self.has_media = self.scenario.needs_media
        self.host, self.port = media.host, 0
        self.messages: dict[int, MessageText] = {}
        """Of each step that sends: its text with all that is the same in every call."""
        self.run = os.urandom(4).hex()
        self._plan = plan
        self._count = 0
        self._live: dict[str, SippCall] = {}
        self._over: dict[str, SippCall] = {}
        self._over_before: dict[str, SippCall] = {}
        self._sounds: dict[Path, Path] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._socket: socket.socket | None = None
        self._rotation: asyncio.TimerHandle | None = None

    async def open(self) -> Address:
        """Bind a free port, write down what captures sound like, and return the address."""
        loop = asyncio.get_running_loop()
        own = self._socket = socket.socket(type=socket.SOCK_DGRAM)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        own.bind((self.host, 0))
        own.setblocking(False)
        self.port = own.getsockname()[1]
        for at, step in enumerate(self.scenario.steps):
            if isinstance(step, Send):
                self.messages[at] = bound(step.message, self._constants())
        await asyncio.to_thread(self._write_sounds)
        loop.add_reader(own, self._receive)
        self._rotation = loop.call_later(_REMEMBERED_S, self._rotate)
        return self.host, self.port

    def new_call(self, tally: Tally, ended: Callable[[SippCall], None]) -> SippCall:
        """Make a call, which its `begin` begins; `ended` is told when it is over."""
        self._count += 1
        call = SippCall(self, self._count, tally, ended)
        self._live[call.call_id] = call
        return call

    def start_call(self, tally: Tally, ended: Callable[[SippCall], None]) -> SippCall:
        """Make a call and begin it."""
        call = self.new_call(tally, ended)
        call.begin()
        return call

    async def aclose(self) -> None:
        """Give up all calls, and close the socket."""
        for call in list(self._live.values()):
            call.give_up("not_hung_up")
        if self._rotation is not None:
            self._rotation.cancel()
        own, self._socket = self._socket, None
        if own is not None:
            asyncio.get_running_loop().remove_reader(own)
            own.close()
        if self._folder is not None:
            await asyncio.to_thread(self._folder.cleanup)

    # What calls ask for

    def send(self, data: bytes, address: Address) -> None:
        """Send a datagram; one that the kernel does not take is as one lost on the way."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(data, address)

    def sound_of(self, capture: Capture) -> Path | None:
        """Return the file that sounds like a capture, None where there are only keys in it."""
        return self._sounds.get(capture.file)

    def over(self, call: SippCall) -> None:
        """Have a call that is over answer what comes again for a while."""
        if self._live.pop(call.call_id, None) is not None:
            self._over[call.call_id] = call

    # Inside

    def _constants(self) -> dict[str, str]:
        remote_host, remote_port = self.platform
        return {
            "service": self.service,
            "remote_ip": remote_host,
            "remote_host": remote_host,
            "remote_port": str(remote_port),
            "transport": "UDP",
            "local_ip": self.host,
            "local_ip_type": "6" if ":" in self.host else "4",
            "local_port": str(self.port),
            "media_ip": self.host,
            "media_ip_type": "6" if ":" in self.host else "4",
            "pid": self.run,  # two runs of one process must differ as two of sipp do
            **{f"key {name}": value for name, value in self._plan.keys.items()},
        }

    def _write_sounds(self) -> None:
        captures = {
            action.capture.file: action.capture
            for step in self.scenario.steps
            for action in getattr(step, "actions", ())
            if isinstance(action, PlayCapture) and any(action.capture.sound.samples)
        }
        if not captures:
            return
        self._folder = tempfile.TemporaryDirectory(prefix="cti95598-sipp-")
        for at, (file, capture) in enumerate(captures.items()):
            path = Path(self._folder.name) / f"{at}.wav"
            self._sounds[file] = audio.write_wav(path, capture.sound)

    def _receive(self) -> None:
        if self._socket is None:
            return
        for _ in range(_AT_ONCE):
            try:
                data, source = self._socket.recvfrom(65_535)
            except OSError:
                return
            try:
                message = Received(data.decode("utf-8", "surrogateescape"), source[:2])
            except ValueError:
                continue  # a keep-alive, or no SIP
            call = self._call_of(message.call_id)
            if call is not None:
                call.receive(message)
            elif message.method and message.method != "ACK":
                status = "481 Call/Transaction Does Not Exist"
                self.send(plain_response(message, status).encode(), message.source)

    def _call_of(self, call_id: str) -> SippCall | None:
        known = call_id.rpartition("///")[2]  # sipp's own way to write another name before it
        return self._live.get(known) or self._over.get(known) or self._over_before.get(known)

    def _rotate(self) -> None:
        self._over_before, self._over = self._over, {}
        self._rotation = asyncio.get_running_loop().call_later(_REMEMBERED_S, self._rotate)
