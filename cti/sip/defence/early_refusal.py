"""Refuses new INVITEs from their bytes, at a fraction of what reading them would cost.

Only what is written as everybody writes it is answered here, and with what the whole way through
the stack would answer: a 503 without state (RFC 3261 8.2.7). Anything else is left to that way.
"""

from __future__ import annotations

import os
import re
import zlib
from typing import NamedTuple

from cti.sip.transactions.transaction import Key
from cti.sip.transports.transport import Hop

_INVITE = re.compile(rb"INVITE sips?:[^\s]+ SIP/2\.0\r\n")
# The headers that count; all others are skipped without a look.
_ROW = re.compile(
    rb"\r\n(via|v|from|f|to|t|call-id|i|cseq|resource-priority|replaces|x-source-address)[ \t]*:"
    rb"[ \t]*([^\r\n]*)",
    re.IGNORECASE,
)
# RFC 3261 20.42, of one hop, over UDP, by an IPv4 address, with a branch of RFC 3261.
_VIA = re.compile(
    rb"SIP/2\.0/UDP (?P<host>\d{1,3}(?:\.\d{1,3}){3})(?::(?P<port>\d{1,5}))?"
    rb"(?P<params>(?:;[a-z]+(?:=[\w.!%*+`'~-]+)?)+)\Z"
)
# Of From and To: RFC 3261 20.20 and 20.39 without the rare forms.
_ADDRESS = re.compile(
    rb"""(?:"[^"\\<>]*" ?|[\w .-]*)<(?:sips?|tel):[^\s<>",]+>"""
    rb"""(?P<params>(?:;[\w.-]+(?:=[\w.-]+)?)*)\Z"""
)
_NUMBER = re.compile(rb"\d{1,9} INVITE\Z")
_BRANCH = re.compile(rb";branch=(z9hG4bK[^;]+)")
_SHORT = {b"v": b"via", b"f": b"from", b"t": b"to", b"i": b"call-id"}
_ECHOED = frozenset({b"via", b"from", b"to", b"call-id", b"cseq"})
_REMEMBERED_S = 8.0
_HEAD_END = b"\r\n\r\n"


class RefusedKeys:
    """Remembers for some seconds whom a 503 went to.

    A copy of an INVITE that was refused gets the same answer (RFC 3261 8.2.7): were it let in, its
    caller would not know of the call any more.

    In a flood the oldest are forgotten sooner, so that it takes no more than some 15 MB; nothing
    that strangers write is kept.
    """

    def __init__(self, most: int = 100_000) -> None:
        """Remember `most` of the latest at least, and twice as many at most."""
        self._most = most
        self._young: set[int] = set()
        self._old: set[int] = set()
        self._since_s = 0.0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def add(self, key: Key, now_s: float) -> None:
        """Remember a transaction; RFC 3261 17.1.1.2 repeats its INVITE for 32 s, at ever longer
        intervals, of which the first ones count: the answer has come before the others.
        """
        age_s = now_s - self._since_s
        if age_s > _REMEMBERED_S or len(self._young) >= self._most:
            self._old = self._young if age_s < 2 * _REMEMBERED_S else set()
            self._young = set()
            self._since_s = now_s
        # Python's hash of text is secret (siphash): nobody can write a key like another one's.
        self._young.add(hash(key))

    def __contains__(self, key: Key) -> bool:
        return hash(key) in self._young or hash(key) in self._old


class NewInvite(NamedTuple):
    """What answering an INVITE takes."""

    key: Key
    """Of its transaction, as `server_key` gives it."""
    via: bytes
    """The top one, with what RFC 3581 adds."""
    more_vias: tuple[bytes, ...]
    from_: bytes
    to: bytes
    call_id: bytes
    cseq: bytes
    port: int
    """Where the answer goes, at the address it came from."""


class EarlyRefusals:
    """The reader and writer of one endpoint."""

    def __init__(self, user_agent: str) -> None:
        self._server = user_agent.encode()
        # RFC 3261 19.3: no other server gives the same tags.
        self._tag = b"e" + os.urandom(8).hex().encode()
        self._has_refused = False

    def is_ack(self, data: bytes) -> bool:
        """Whether a datagram only acknowledges a refusal: nobody waits for it (17.1.1.3)."""
        return self._has_refused and data.startswith(b"ACK ") and b";tag=" + self._tag in data

    def read(self, data: bytes, source: Hop) -> NewInvite | None:
        """Read an INVITE that begins a call; None for all else, and for what is written oddly.

        Who asks to be preferred, takes the place of another in a call (RFC 3891), or has come
        through a proxy that names its sender, is odd too.
        """
        if not data.startswith(b"INVITE "):
            return None
        head = data[: max(0, data.find(_HEAD_END))]
        if _INVITE.match(head) is None or not _has_plain_lines(head):
            return None
        vias: list[bytes] = []
        rows: dict[bytes, bytes] = {}
        for name, value in _ROW.findall(head):
            key = name.lower()
            key = _SHORT.get(key, key)
            if key == b"via":
                vias.append(value)
            elif key in _ECHOED and key not in rows:
                rows[key] = value
            else:
                return None
        if len(rows) + 1 != len(_ECHOED) or not vias:
            return None
        return _invite(vias, rows, source)

    def refusal(self, invite: NewInvite, retry_after_s: int) -> bytes:
        """Write the 503 for an INVITE; the same tag for each copy of it."""
        self._has_refused = True
        tag = b"%s%08x" % (self._tag, zlib.crc32(invite.call_id + invite.via))
        return b"".join((
            b"SIP/2.0 503 Service Unavailable\r\nVia: ", invite.via,
            *(b"\r\nVia: " + each for each in invite.more_vias),
            b"\r\nFrom: ", invite.from_,
            b"\r\nTo: ", invite.to, b";tag=", tag,
            b"\r\nCall-ID: ", invite.call_id,
            b"\r\nCSeq: ", invite.cseq,
            b"\r\nRetry-After: %d\r\nServer: " % retry_after_s, self._server,
            b"\r\nContent-Length: 0\r\n\r\n",
        ))  # fmt: skip


def _has_plain_lines(head: bytes) -> bool:
    """Whether lines end in CR LF and are not continued on the next (RFC 3261 7.3.1)."""
    breaks = head.count(b"\r\n")
    return (
        head.count(b"\n") == head.count(b"\r") == breaks
        and b"\0" not in head
        and b"\r\n " not in head
        and b"\r\n\t" not in head
    )


def _invite(vias: list[bytes], rows: dict[bytes, bytes], source: Hop) -> NewInvite | None:
    top = vias[0]
    found = _VIA.match(top)
    from_, to = _ADDRESS.match(rows[b"from"]), _ADDRESS.match(rows[b"to"])
    if (
        found is None
        or from_ is None
        or to is None
        or to["params"]  # one of them may be a tag: then it is no new call
        or not rows[b"call-id"]
        or _NUMBER.match(rows[b"cseq"]) is None
    ):
        return None
    params = found["params"]
    branch = _BRANCH.search(params)
    if branch is None or b";maddr" in params or b";received" in params or b";rport=" in params:
        return None
    host, port = found["host"].decode(), int(found["port"] or 5060)
    back = port
    if b";rport" in params:
        back = source.port
        top = top.replace(b";rport", b";rport=%d" % source.port, 1)
        top += b";received=" + source.host.encode()
    elif host != source.host:
        return None
    key = (branch[1].decode("latin-1"), f"{host}:{port}", "INVITE")
    return NewInvite(
        key, top, tuple(vias[1:]), rows[b"from"], rows[b"to"], rows[b"call-id"], rows[b"cseq"], back
    )
