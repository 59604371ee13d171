"""SIP messages made by the grammar of RFC 3261 section 25, with what they mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from hypothesis import strategies as st

_TOKEN = "abcXYZ019-.!%*_+`'~"
_WORD = _TOKEN + '()<>:\\"/[]?{}'
_HOST_LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
_METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "INFO", "!own-Method%41")

_PARAM_VALUES = ("", "=token", '="quoted; , \\" <text>"', "=[::1]", "=1.2.3.4")

token = st.text(_TOKEN, min_size=1, max_size=10)
# Not CR and LF, and not NUL: that is replaced.
_quoted_pair = st.characters(min_codepoint=1, max_codepoint=127, exclude_characters="\r\n")
_plain = st.characters(
    min_codepoint=32, exclude_characters='"\\\x7f', exclude_categories=("Cs", "Cc")
)
display = st.text(_plain | _quoted_pair, max_size=12)
ipv4 = st.tuples(*[st.integers(0, 255)] * 4).map(lambda each: ".".join(map(str, each)))
ipv6 = st.ip_addresses(v=6).map(str)
host_name = st.lists(_HOST_LABEL, min_size=1, max_size=3).map(".".join)
ports = st.none() | st.integers(1, 65_535)


@dataclass(frozen=True)
class Made:
    """A message as bytes, and what a parser must find in it; text is compared as bytes."""

    data: bytes
    method: str
    uri: str
    number: int
    call_id: str
    from_display: bytes
    from_tag: str
    to_tag: str | None
    vias: list[str]
    """Branches, in their order."""
    contacts: list[str]
    """URIs, in their order."""
    options: list[str]
    forwards: int
    unknown: bytes
    body: bytes


@st.composite
def hosts(draw: st.DrawFn) -> str:
    host = draw(ipv4 | host_name | ipv6.map(lambda each: f"[{each}]"))
    port = draw(ports)
    return host if port is None else f"{host}:{port}"


@st.composite
def sip_uris(draw: st.DrawFn) -> str:
    user = draw(st.text("aZ09-_.!~*'()&=+$,;?/", min_size=1, max_size=8))
    escape = draw(st.sampled_from(["", "%20", "%00", "%40", "%E5%AE%A2", "%3b"]))
    secret = draw(st.sampled_from(["", ":", ":pass&word="]))
    params = draw(st.lists(st.sampled_from([";lr", ";transport=TCP", ";x=%20;y", ";user=phone"]),
                           unique=True, max_size=3))  # fmt: skip
    scheme = draw(st.sampled_from(["sip", "sips", "SIP"]))
    authority = f"{user}{escape}{secret}@" if draw(st.booleans()) else ""
    return f"{scheme}:{authority}{draw(hosts())}{''.join(params)}"


uris = sip_uris() | st.sampled_from([
    "tel:+8695598", "tel:110;phone-context=+86", "urn:service:sos", "pigeon:loft/9?x=y",
])  # fmt: skip


class _Form:
    """How a message is written where the grammar leaves it open."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def gap(self) -> str:
        """Return white space that may be none (SWS)."""
        return self._random.choice(("", "", " ", "  ", "\t", "\r\n ", " \r\n\t"))

    def space(self) -> str:
        """Return white space (LWS)."""
        return self._random.choice((" ", "\t ", "\r\n "))

    def around(self, mark: str) -> str:
        """Return a mark with white space on both sides."""
        return f"{self.gap()}{mark}{self.gap()}"

    def is_so(self) -> bool:
        """Return one or the other."""
        return self._random.random() < 0.5

    def name(self, *names: str) -> str:
        """Return one of the names, in any case, with its colon."""
        name = self._random.choice(names)
        cased = self._random.choice((name, name.lower(), name.upper(), name.title()))
        return cased + self._random.choice((":", " :", "\t: ", ":  ", ":\r\n "))

    def tag(self, value: str) -> str:
        """Return a tag."""
        name = self._random.choice(("tag", "TAG", "Tag"))
        return f"{self.around(';')}{name}{self.around('=')}{value}"

    def quoted(self, text: str) -> str:
        """Return a quoted string, some of its characters as pairs though they need not be."""
        written = []
        for character in text:
            must = character in '"\\' or not character.isprintable()
            pair = must or (character.isascii() and self._random.random() < 0.1)
            written.append(f"\\{character}" if pair else character)
        return f'"{"".join(written)}"'

    def params(self) -> str:
        """Return parameters that have no meaning here."""
        written = ""
        for number in range(self._random.choice((0, 0, 1, 3))):
            value = self._random.choice(_PARAM_VALUES)
            written += f"{self.around(';')}x{number}-.!%*_+`'~{value}"
        return written

    def address(self, uri: str, name: str) -> str:
        """Return an address in one of its three forms."""
        if self.is_so() and not set(uri) & set(",;?"):
            return uri
        words = f"{self.quoted(name)}{self.gap()}" if self.is_so() else ""
        return f"{words}<{uri}>"


@st.composite
def requests(draw: st.DrawFn) -> Made:
    """Return a request that every parser must take."""
    form = _Form(Random(draw(st.integers(0, 2**32))))
    is_gbk = draw(st.booleans())
    encoding = "gbk" if is_gbk else "utf-8"
    name = "电力" if is_gbk else draw(display)
    unknown = "" if is_gbk else draw(st.text(_plain, max_size=20)).strip(" \t")
    made = Made(
        data=b"",
        method=draw(st.sampled_from(_METHODS)),
        uri=draw(uris),
        number=draw(st.integers(0, 2**31 - 1)),
        call_id=draw(st.text(_WORD, min_size=1, max_size=12)) + "@host",
        from_display=name.encode(encoding),
        from_tag=draw(token),
        to_tag=draw(st.none() | token),
        vias=draw(st.lists(token.map(lambda each: f"z9hG4bK{each}"), min_size=1, max_size=4)),
        contacts=draw(st.lists(sip_uris(), max_size=3)),
        options=draw(st.lists(st.sampled_from(["100rel", "timer", "x.y"]), max_size=3)),
        forwards=draw(st.integers(0, 255)),
        unknown=unknown.encode(),
        body=draw(st.binary(max_size=20)),
    )
    lines = _lines(form, made, name, unknown, draw(sip_uris()), draw(hosts()))
    version = "SIP/2.0" if form.is_so() else "sip/2.0"
    head = "\r\n".join([f"{made.method} {made.uri} {version}", *lines])
    return replace(made, data=head.encode(encoding) + b"\r\n\r\n" + made.body)


def _lines(form: _Form, made: Made, name: str, unknown: str, to: str, host: str) -> list[str]:
    slash = form.around("/")
    vias = [
        f"SIP{slash}2.0{slash}udp{form.space()}{host}{form.around(';')}Branch={each}{form.params()}"
        for each in made.vias
    ]
    to_tag = "" if made.to_tag is None else form.tag(made.to_tag)
    rows: list[tuple[tuple[str, ...], list[str]]] = [
        (("Via", "v"), vias),
        (("From", "f"), [f"{form.quoted(name)}<sip:a@b>{form.tag(made.from_tag)}{form.params()}"]),
        (("To", "t"), [f"{form.address(to, name)}{to_tag}{form.params()}"]),
        (("Call-ID", "i"), [made.call_id]),
        (("CSeq",), [f"{made.number}{form.space()}{made.method}"]),
        (("Max-Forwards",), [f"00{made.forwards}"]),
        (("Contact", "m"), [f"<{each}>{form.params()}" for each in made.contacts]),
        (("Supported", "k"), made.options),
        (("X-Unknown",), [unknown]),
        (("Content-Length", "l"), [str(len(made.body))]),
    ]
    lines: list[str] = []
    for names, values in rows:
        joined = [form.around(",").join(values)] if form.is_so() and values else values
        lines += [f"{form.name(*names)}{each}{form.gap()}" for each in joined]
    return lines
