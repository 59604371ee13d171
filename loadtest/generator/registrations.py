"""Thousands of phones that register over the generator's one socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import md5
from itertools import cycle, islice

from loadtest.figures.tally import Tally
from loadtest.generator.sip_line import Repeated, SipLine
from loadtest.generator.sip_text import Address, Message

_TICK_S = 0.005
_EXPIRES_S = 3600
_CNONCE = "0a4f113b"
_MAX_CHALLENGES = 3


class RegisteredPhone:
    """One phone; a refresh uses the nonce of the last challenge."""

    __slots__ = ("_call_id", "_challenges", "_count", "_cseq", "_ha1", "_ha2", "_nonce",
                 "_registrar", "_sent",
                 "_started_s", "_tally", "_then", "user")  # fmt: skip

    def __init__(self, user: str, password: str, realm: str, registrar: Address) -> None:
        self.user = user
        self._registrar = registrar
        self._ha2 = _md5(f"REGISTER:sip:{registrar[0]}:{registrar[1]}")
        self._ha1 = _md5(f"{user}:{realm}:{password}")
        self._call_id = f"{os.urandom(8).hex()}@{user}"
        self._cseq = self._count = self._challenges = 0
        self._nonce = ""
        self._started_s = 0.0
        self._sent: Repeated | None = None
        self._tally: Tally | None = None
        self._then: Callable[[], None] | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether its last REGISTER has no final answer yet."""
        return self._sent is not None

    def register(
        self, phones: RegisteredPhones, tally: Tally, then: Callable[[], None] | None = None
    ) -> None:
        """Register or refresh; `then` is called when it did or could not."""
        self._tally, self._then = tally, then
        self._started_s = tally.clock_s()
        self._challenges = 0
        phones.line.parties[self._call_id] = _Answers(self, phones)
        self._send(phones, tally)

    def _send(self, phones: RegisteredPhones, tally: Tally) -> None:
        self._cseq += 1
        line, (host, port) = phones.line, self._registrar
        uri = f"sip:{host}:{port}"
        authorization = ""
        if self._nonce:
            self._count += 1
            count = f"{self._count:08x}"
            answer = _md5(f"{self._ha1}:{self._nonce}:{count}:{_CNONCE}:auth:{self._ha2}")
            authorization = (
                f'Authorization: Digest username="{self.user}", realm="{phones.realm}", '
                f'nonce="{self._nonce}", uri="{uri}", response="{answer}", algorithm=MD5, '
                f'qop=auth, nc={count}, cnonce="{_CNONCE}"\r\n'
            )
        aor = f"<sip:{self.user}@{host}:{port}>"
        own = f"{line.host}:{line.port}"
        data = (
            f"REGISTER {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {own};branch=z9hG4bK{line.run}{line.number():x}r;rport\r\n"
            f"Max-Forwards: 70\r\nFrom: {aor};tag={line.run}\r\nTo: {aor}\r\n"
            f"Call-ID: {self._call_id}\r\nCSeq: {self._cseq} REGISTER\r\n"
            f"Contact: <sip:{self.user}@{own}>\r\n{authorization}"
            f"Expires: {_EXPIRES_S}\r\nUser-Agent: loadtest\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        self._sent = Repeated(
            line, data, self._registrar, tally, lambda: self._finish(phones, "timeout")
        )

    def take(self, message: Message, phones: RegisteredPhones) -> None:
        """Take a response."""
        tally = self._tally
        if tally is None or message.status < 200 or message.cseq.number != self._cseq:
            return
        if self._sent is not None:
            self._sent.stop()
        nonce = message.headers.get("www-authenticate", "").partition('nonce="')[2].partition('"')
        if message.status == 401 and nonce[0] and self._challenges < _MAX_CHALLENGES:
            self._challenges += 1
            self._nonce, self._count = nonce[0], 0
            self._send(phones, tally)
        else:
            self._finish(phones, "" if message.status < 300 else str(message.status))

    def _finish(self, phones: RegisteredPhones, cause: str) -> None:
        tally, then = self._tally, self._then
        self._sent = self._tally = self._then = None
        phones.line.parties.pop(self._call_id, None)
        if tally is not None:
            tally.end_registration(self._started_s, cause)
        if then is not None:
            then()


class _Answers:
    """Brings responses to their phone."""

    __slots__ = ("_phone", "_phones")

    def __init__(self, phone: RegisteredPhone, phones: RegisteredPhones) -> None:
        self._phone, self._phones = phone, phones

    def receive(self, message: Message, _source: Address) -> None:
        self._phone.take(message, self._phones)


class RegisteredPhones:
    """Phones of one realm at one registrar."""

    def __init__(
        self,
        line: SipLine,
        registrars: Sequence[Address],
        realm: str,
        passwords: Mapping[str, str],
    ) -> None:
        """Phones register with the registrars in turn, each always with the same."""
        self.line, self.realm = line, realm
        self._phones = [
            RegisteredPhone(user, word, realm, registrar)
            for (user, word), registrar in zip(passwords.items(), cycle(registrars), strict=False)
        ]

    async def register_all(self, tally: Tally, per_s: float) -> None:
        """Have each phone register, `per_s` a second; return when all have their answers."""
        await self._register(self._phones, tally, per_s)

    async def keep(self, tally: Tally, *, every_s: float = _EXPIRES_S / 3) -> None:
        """Have each register again every `every_s` while this runs, long before it is forgotten.

        They come one by one over the whole time, since all at once are a load of their own; none
        does before half of it is over.
        """
        await asyncio.sleep(every_s / 2)
        while True:
            begin_s = tally.clock_s()
            await self.register_all(tally, len(self._phones) / every_s)
            await asyncio.sleep(begin_s + every_s - tally.clock_s())

    async def refresh(self, tally: Tally, per_s: float, duration_s: float) -> None:
        """Have the phones refresh in turn for a while; return when all have their answers."""
        count = int(per_s * duration_s)
        await self._register(islice(cycle(self._phones), count), tally, per_s)

    async def _register(
        self, phones: Iterable[RegisteredPhone], tally: Tally, per_s: float
    ) -> None:
        begin_s = tally.clock_s()
        waiting, all_done = 1, asyncio.get_running_loop().create_future()

        def done() -> None:
            nonlocal waiting
            waiting -= 1
            if not waiting:
                all_done.set_result(None)

        for at, phone in enumerate(phones):
            if (ahead_s := begin_s + at / per_s - tally.clock_s()) > 0:
                await asyncio.sleep(max(ahead_s, _TICK_S))
            if phone.is_waiting:
                tally.end_registration(tally.clock_s(), "slow")  # its last one is not answered yet
                continue
            waiting += 1
            phone.register(self, tally, done)
        done()
        await all_done


def _md5(text: str) -> str:
    return md5(text.encode(), usedforsecurity=False).hexdigest()
