"""What a sipp call sends again: by its timer until answered, and upon what comes again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from loadtest.figures.tally import Tally
from loadtest.generator.sip_text import Address
from loadtest.generator.sipp_message import Received

Sender = Callable[[bytes, Address], None]

_T2_S = 4.0
_INVITES_AGAIN, _OTHERS_AGAIN = 5, 10
"""How often a message is sent again at most, as sipp has it: about 32 s of either kind."""
_REMEMBERED = 16


class Repeated:
    """The message of `retrans` that is not answered yet, if there is one."""

    __slots__ = ("_given_up", "_method", "_send", "_tally", "_timer")

    def __init__(self, send: Sender, tally: Tally, given_up: Callable[[], None]) -> None:
        self._send, self._tally, self._given_up = send, tally, given_up
        self._method: str | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is wanted."""
        return self._method is not None

    def start(self, method: str, first_s: float, data: bytes, address: Address) -> None:
        """Send it again after `first_s`, and so on; `method` is empty for a response."""
        self.stop()
        self._method = method
        self._after(first_s, 0, data, address)

    def stop(self) -> None:
        """Send it no more."""
        self._method = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def answered_by(self, message: Received) -> None:
        """Stop, if this answers: an INVITE by any response, others by a final one."""
        if not self._method:
            if self._method is not None and message.method:
                self.stop()  # the ACK, or what shows that it was had
            return
        is_final = message.status >= 200 or self._method == "INVITE"
        if message.status and message.cseq_method == self._method and is_final:
            self.stop()

    def _after(self, seconds: float, count: int, data: bytes, address: Address) -> None:
        is_invite = self._method == "INVITE"

        def again() -> None:
            if count >= (_INVITES_AGAIN if is_invite else _OTHERS_AGAIN):
                self._given_up()
                return
            self._tally.retransmissions += 1
            self._send(data, address)
            longer_s = 2 * seconds
            longest_s = longer_s if is_invite else max(_T2_S, seconds)
            self._after(min(longer_s, longest_s), count + 1, data, address)

        self._timer = asyncio.get_running_loop().call_later(seconds, again)


class Replies:
    """What was sent upon each message, to be sent again when that comes again."""

    __slots__ = ("_latest", "_seen")

    def __init__(self) -> None:
        self._seen: dict[int, tuple[bytes, Address] | None] = {}
        self._latest: int | None = None

    def take(self, message: Received) -> None:
        """A message was taken; what is sent next answers it."""
        self._latest = hash(message.text)
        self._seen[self._latest] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def sent(self, data: bytes, address: Address) -> None:
        """A message was sent."""
        if self._latest is not None:
            self._seen[self._latest] = data, address
            self._latest = None

    def has(self, message: Received) -> bool:
        """Tell whether this was taken before."""
        return hash(message.text) in self._seen

    def again(self, message: Received, send: Sender, tally: Tally) -> None:
        """It came again: so does what it was answered with."""
        tally.retransmissions_received += 1
        reply = self._seen[hash(message.text)]
        if reply is not None:
            tally.retransmissions += 1
            send(*reply)
