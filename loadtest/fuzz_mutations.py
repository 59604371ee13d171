"""Ways to spoil a SIP message, most of them such that a parser still gets far into it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

_NASTY = [
    b"",
    b" ",
    b"\t",
    b"0",
    b"-1",
    b"4294967296",
    b"99999999999999999999",
    b"1e9",
    b"x",
    b"*",
    b"%00",
    b"%",
    b"%zz",
    b"\0",
    b"\\\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n ",
    b'"',
    b'"\\',
    b'""',
    b"<",
    b">",
    b"<>",
    b"<sip:>",
    b"sip:",
    b"sip:@",
    b"tel:",
    b"tel:+8695598;phone-context=",
    b"sips:[::1]:0",
    b"sip:[fe80::1%25eth0]",
    b"<sip:a%0d%0aX:1@b?Replaces=%0D%0AX%3A1%3Bto-tag%3Da%3Bfrom-tag%3Db&%0d%0aX=1>",
    b"sip:a@[:::1.2.3.4]",
    b"<sip:a@b?Route=%3Csip:c%3E&body=x>",
    b";",
    b";;",
    b";=",
    b";tag=",
    b";tag=1;tag=2",
    b";lr;lr",
    b",",
    b",,",
    b", ,",
    b"()",
    b"((((",
    b"a(b\\)c",
    b"\xff\xfe",
    b"\xc0\x80",
    b"\xe7\x94\xb5",
    "电力".encode("gbk"),
    b"\xe2\x80\xa8",
    b"A" * 300,
    b"9" * 400,
    b'"' * 50,
    b"<" * 50,
    b"," * 200,
    b";a" * 100,
    b"\\" * 99,
    b"application/sdp",
    b"multipart/mixed;boundary=x",
    b"100rel, timer, replaces, norefersub, nonsense",
    b"Digest",
    b'Digest realm="',
    b"Basic eA==",
    b"SIP/2.0/UDP",
    b"SIP/3.0/UDP a",
    b"SIP/2.0/UDP 198.51.100.7;rport=x;maddr=224.0.0.1;ttl=999",
    b"1 INVITE",
    b"1 1 INVITE",
    b"2147483647 INVITE",
    b"active;expires=-1",
    b"message-summary",
    b"dialog;id=",
    b"refer;id=99999999999",
    b"Q.850;cause=\xef\xbc\x97",
    b"1;refresher=uas",
    b"90;refresher=nobody",
]
_NAMES = [
    b"Via",
    b"From",
    b"To",
    b"Call-ID",
    b"CSeq",
    b"Contact",
    b"Max-Forwards",
    b"Content-Length",
    b"Content-Type",
    b"Content-Encoding",
    b"Content-Disposition",
    b"Route",
    b"Record-Route",
    b"Require",
    b"Supported",
    b"Proxy-Require",
    b"Accept",
    b"Allow",
    b"Event",
    b"Expires",
    b"Min-Expires",
    b"Session-Expires",
    b"Min-SE",
    b"RSeq",
    b"RAck",
    b"Replaces",
    b"Refer-To",
    b"Referred-By",
    b"Refer-Sub",
    b"Reason",
    b"Warning",
    b"Retry-After",
    b"Date",
    b"Timestamp",
    b"Authorization",
    b"Proxy-Authorization",
    b"WWW-Authenticate",
    b"Proxy-Authenticate",
    b"P-Asserted-Identity",
    b"Privacy",
    b"Diversion",
    b"History-Info",
    b"User-To-User",
    b"Path",
    b"Subscription-State",
    b"SIP-ETag",
    b"SIP-If-Match",
    b"Info-Package",
    b"Recv-Info",
    b"X-Source-Address",
    b"Unknown",
    b"v",
    b"f",
    b"t",
    b"i",
    b"m",
    b"l",
    b"c",
    b"k",
    b"x",
    b"r",
    b"b",
]


class Mutator:
    """Spoils messages; what it takes from other messages comes from `pool`."""

    def __init__(self, random: Random, pool: Sequence[bytes]) -> None:
        self._random = random
        self._pool = pool
        self._of_lines: list[Callable[[list[bytes]], None]] = [
            self._drop_line, self._repeat_line, self._move_line, self._foreign_line,
            self._nasty_value, self._nasty_value, self._nasty_end, self._nasty_start, self._rename,
            self._swap_values, self._fold, self._new_line,
        ]  # fmt: skip
        self._of_bytes: list[Callable[[bytearray], None]] = [
            self._flip, self._cut_out, self._truncate, self._insert, self._splice,
        ]  # fmt: skip

    def mutate(self, data: bytes) -> bytes:
        """Return `data` with one to five changes."""
        random = self._random
        head, gap, body = data.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
            random.choice(self._of_lines)(lines)
        spoilt = bytearray(b"\r\n".join(lines) + gap + body)
        for _ in range(random.choice((0, 0, 0, 0, 1, 2))):
            random.choice(self._of_bytes)(spoilt)
        return bytes(spoilt)

    def _line(self, lines: list[bytes]) -> int:
        """Choose a header line; seldom the start line."""
        first = 0 if self._random.random() < 0.05 else 1
        return self._random.randrange(min(first, len(lines) - 1), len(lines))

    def _drop_line(self, lines: list[bytes]) -> None:
        del lines[self._line(lines)]
        if not lines:
            lines.append(b"")

    def _repeat_line(self, lines: list[bytes]) -> None:
        at = self._line(lines)
        lines[at:at] = [lines[at]] * self._random.choice((1, 1, 2, 300))

    def _move_line(self, lines: list[bytes]) -> None:
        line = lines.pop(self._line(lines))
        lines.insert(self._random.randint(0, len(lines)), line)

    def _foreign_line(self, lines: list[bytes]) -> None:
        """Put in a header of another message: tags, branches and call-ids get mixed."""
        other = self._random.choice(self._pool).partition(b"\r\n\r\n")[0].split(b"\r\n")
        line = self._random.choice(other)
        name = line.partition(b":")[0].lower()
        for at, each in enumerate(lines):
            if each.partition(b":")[0].lower() == name:
                lines[at] = line
                return
        lines.append(line)

    def _nasty_value(self, lines: list[bytes]) -> None:
        at = self._line(lines)
        name = lines[at].partition(b":")[0]
        lines[at] = name + b": " + self._random.choice(_NASTY)

    def _nasty_end(self, lines: list[bytes]) -> None:
        lines[self._line(lines)] += self._random.choice(_NASTY)

    def _nasty_start(self, lines: list[bytes]) -> None:
        at = self._line(lines)
        name, colon, value = lines[at].partition(b":")
        lines[at] = name + colon + self._random.choice(_NASTY) + value

    def _rename(self, lines: list[bytes]) -> None:
        at = self._line(lines)
        lines[at] = self._random.choice(_NAMES) + b":" + lines[at].partition(b":")[2]

    def _swap_values(self, lines: list[bytes]) -> None:
        one, other = self._line(lines), self._line(lines)
        name, _, value = lines[one].partition(b":")
        other_name, _, other_value = lines[other].partition(b":")
        lines[one] = name + b":" + other_value
        lines[other] = other_name + b":" + value

    def _fold(self, lines: list[bytes]) -> None:
        at = self._line(lines)
        cut = self._random.randint(0, len(lines[at]))
        lines[at] = lines[at][:cut] + b"\r\n " + lines[at][cut:]

    def _new_line(self, lines: list[bytes]) -> None:
        line = self._random.choice(_NAMES) + b": " + self._random.choice(_NASTY)
        lines.insert(self._random.randint(1, len(lines)), line)

    def _flip(self, data: bytearray) -> None:
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)

    def _cut_out(self, data: bytearray) -> None:
        at = self._random.randint(0, len(data))
        del data[at : at + self._random.randint(1, 60)]

    def _truncate(self, data: bytearray) -> None:
        del data[self._random.randint(0, len(data)) :]

    def _insert(self, data: bytearray) -> None:
        at = self._random.randint(0, len(data))
        data[at:at] = self._random.choice(_NASTY)

    def _splice(self, data: bytearray) -> None:
        other = self._random.choice(self._pool)
        at = self._random.randint(0, len(data))
        data[at:] = other[self._random.randint(0, len(other)) :]
