"""Thousands of phones that register over one UDP socket: lean, since it shares the machine."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import md5

_T1_S = 0.5
_GIVE_UP_S = 16.0
_TICK_S = 0.005
_RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024
_SUCCESS = b"SIP/2.0 200"
_CHALLENGE = b"SIP/2.0 401"


@dataclass(slots=True)
class RegisterFigures:
    """What the phones saw of one round."""

    successful: int = 0
    failed: int = 0
    retransmissions: int = 0
    challenges: int = 0
    seconds: float = 0.0
    waits_s: list[float] = field(default_factory=list)
    """From a phone's first request to its 200."""

    @property
    def rate(self) -> float:
        """Registrations a second."""
        return self.successful / self.seconds if self.seconds else 0.0

    def wait_ms(self, share: float) -> float:
        """Return the wait that this share of the phones did not exceed."""
        ordered = sorted(self.waits_s)
        return 1000 * ordered[int(share * (len(ordered) - 1))] if ordered else 0.0


class _Phone:
    __slots__ = (
        "call_id", "count", "cseq", "ha1", "nonce", "sent", "sent_s", "started_s", "user", "waits",
    )  # fmt: skip

    def __init__(self, user: str, password: str, realm: str) -> None:
        self.user = user
        self.ha1 = _md5(f"{user}:{realm}:{password}")
        self.call_id = os.urandom(8).hex()
        self.cseq = 0
        self.nonce = ""
        self.count = 0
        self.sent = b""
        self.sent_s = 0.0
        self.started_s = 0.0
        self.waits = False


class Phones:
    """Registers each phone once a round; refreshes use the nonce of the last challenge."""

    def __init__(self, passwords: Mapping[str, str], realm: str, host: str, port: int) -> None:
        self._realm = realm
        self._host, self._port = host, port
        self._phones = {user: _Phone(user, word, realm) for user, word in passwords.items()}
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.connect((host, port))
        self._socket.setblocking(False)
        self._local_port = self._socket.getsockname()[1]
        self._figures = RegisterFigures()
        self._retries: list[tuple[float, str, int, float]] = []
        self._open = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    async def round(self, *, rate: int, registrations: int) -> RegisterFigures:
        """Have so many phones register, `rate` a second; return when all have their answer."""
        self._figures = RegisterFigures()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._receive)
        users = list(self._phones)
        begin_s = time.monotonic()
        started = 0
        try:
            while started < registrations or self._open:
                now_s = time.monotonic()
                due = min(registrations, int((now_s - begin_s) * rate) + 1)
                for at in range(started, due):
                    self._start(self._phones[users[at % len(users)]], now_s)
                started = due
                self._retry(now_s)
                await asyncio.sleep(_TICK_S)
        finally:
            loop.remove_reader(self._socket)
        self._figures.seconds = time.monotonic() - begin_s
        return self._figures

    def _start(self, phone: _Phone, now_s: float) -> None:
        if phone.waits:
            self._figures.failed += 1  # its last registration is not answered yet
            return
        phone.waits = True
        phone.started_s = now_s
        self._open += 1
        self._send(phone, now_s)

    def _send(self, phone: _Phone, now_s: float) -> None:
        phone.cseq += 1
        uri = f"sip:{self._host}:{self._port}"
        branch = f"z9hG4bK{phone.call_id}{phone.cseq}"
        authorization = ""
        if phone.nonce:
            phone.count += 1
            count, cnonce = f"{phone.count:08x}", "0a4f113b"
            response = _md5(
                f"{phone.ha1}:{phone.nonce}:{count}:{cnonce}:auth:{_md5(f'REGISTER:{uri}')}"
            )
            authorization = (
                f'Authorization: Digest username="{phone.user}", realm="{self._realm}", '
                f'nonce="{phone.nonce}", uri="{uri}", response="{response}", algorithm=MD5, '
                f'qop=auth, nc={count}, cnonce="{cnonce}"\r\n'
            )
        aor = f"<sip:{phone.user}@{self._host}:{self._port}>"
        phone.sent = (
            f"REGISTER {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.1:{self._local_port};branch={branch};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: {aor};tag={phone.call_id}\r\nTo: {aor}\r\n"
            f"Call-ID: {phone.call_id}@{phone.user}\r\nCSeq: {phone.cseq} REGISTER\r\n"
            f"Contact: <sip:{phone.user}@127.0.0.1:{self._local_port}>\r\n{authorization}"
            f"Expires: 3600\r\nUser-Agent: loadtest\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        phone.sent_s = now_s
        self._transmit(phone.sent)
        heapq.heappush(self._retries, (now_s + _T1_S, phone.user, phone.cseq, _T1_S))

    def _transmit(self, data: bytes) -> None:
        with contextlib.suppress(BlockingIOError):  # it is sent again in time
            self._socket.send(data)

    def _retry(self, now_s: float) -> None:
        while self._retries and self._retries[0][0] <= now_s:
            _, user, cseq, interval_s = heapq.heappop(self._retries)
            phone = self._phones[user]
            if not phone.waits or phone.cseq != cseq:
                continue
            if now_s - phone.sent_s > _GIVE_UP_S:
                self._finish(phone, now_s, is_good=False)
                continue
            self._figures.retransmissions += 1
            self._transmit(phone.sent)
            interval_s = min(2 * interval_s, 4.0)
            heapq.heappush(self._retries, (now_s + interval_s, user, cseq, interval_s))

    def _receive(self) -> None:
        now_s = time.monotonic()
        for _ in range(256):
            try:
                data = self._socket.recv(4096)
            except OSError:
                return
            self._take(data, now_s)

    def _take(self, data: bytes, now_s: float) -> None:
        user = _between(data, b"Call-ID: ", b"\r\n").partition("@")[2]
        phone = self._phones.get(user)
        cseq = _between(data, b"CSeq: ", b" ")
        if phone is None or not phone.waits or cseq != str(phone.cseq) or data[8:9] == b"1":
            return
        if data.startswith(_CHALLENGE) and (nonce := _between(data, b'nonce="', b'"')):
            self._figures.challenges += 1
            phone.nonce, phone.count = nonce, 0
            self._send(phone, now_s)
        else:
            self._finish(phone, now_s, is_good=data.startswith(_SUCCESS))

    def _finish(self, phone: _Phone, now_s: float, *, is_good: bool) -> None:
        phone.waits = False
        self._open -= 1
        if is_good:
            self._figures.successful += 1
            self._figures.waits_s.append(now_s - phone.started_s)
        else:
            self._figures.failed += 1


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def _between(data: bytes, start: bytes, end: bytes) -> str:
    at = data.find(start)
    if at < 0:
        return ""
    at += len(start)
    return data[at : data.find(end, at)].decode()
