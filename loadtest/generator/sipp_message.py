"""Messages of sipp scenarios: what came, kept as it was written, and what is sent in return."""

from __future__ import annotations

from dataclasses import dataclass

from cti.sip.authentication.digest import Credentials, authorization
from loadtest.generator.sip_text import COMPACT_HEADERS, Address


class Received:
    """A message that came; its headers are looked for when they are wanted."""

    __slots__ = ("body", "call_id", "cseq", "cseq_method", "lines", "method", "source", "status",
                 "text")  # fmt: skip

    def __init__(self, text: str, source: Address) -> None:
        """Read what was received; ValueError for what is no SIP message of a call."""
        self.text, self.source = text, source
        head, _, self.body = text.partition("\r\n\r\n")
        self.lines = head.replace("\r\n ", " ").replace("\r\n\t", " ").split("\r\n")
        first, _, rest = self.lines[0].partition(" ")
        self.status = int(rest[:3]) if first == "SIP/2.0" else 0
        self.method = "" if self.status else first
        call_id = self.value("call-id")
        number, _, method = self.value("cseq").strip().partition(" ")
        self.call_id = call_id.strip()
        self.cseq, self.cseq_method = int(number), method.strip()
        if not self.call_id:
            raise ValueError("no Call-ID")

    def header_lines(self, name: str) -> list[str]:
        """Return the lines of a header, of this name in lower case."""
        return [line for line in self.lines[1:] if _name(line) == name]

    def values(self, name: str) -> list[str]:
        """Return what stands after the colon of each, blanks included."""
        return [line.partition(":")[2] for line in self.header_lines(name)]

    def value(self, name: str) -> str:
        """Return the first of them, empty without any."""
        return next(iter(self.values(name)), "")

    def tag(self, name: str) -> str:
        """Return the tag of From or To."""
        return self.value(name).partition(">")[2].partition("tag=")[2].partition(";")[0].strip()


def _name(line: str) -> str:
    name = line.partition(":")[0].strip().lower()
    return COMPACT_HEADERS.get(name, name)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a 401 or 407 asks for."""

    status: int
    values: tuple[str, ...]

    @classmethod
    def of(cls, response: Received) -> Challenge:
        """Read the challenges of a response."""
        name = "proxy-authenticate" if response.status == 407 else "www-authenticate"
        return cls(response.status, tuple(one.strip() for one in response.values(name)))

    def answer(self, method: str, uri: str, credentials: Credentials) -> str:
        """Return the header line that answers, empty where nothing can."""
        value = authorization(self.values, method=method, uri=uri, credentials=credentials)
        if value is None:
            return ""
        name = "Proxy-Authorization" if self.status == 407 else "Authorization"
        return f"{name}: {value}"


# ── Ending a call that went wrong ─────────────────────────────────────────────────────────────────
class Dialling:
    """What is known of an INVITE of ours, enough to end its call whatever its steps were."""

    __slots__ = ("cseq", "from_", "request", "to", "top_via", "uri")

    def __init__(self, text: str) -> None:
        self.request = Received(text, ("", 0))
        self.uri = self.request.lines[0].split(" ")[1]
        self.top_via = self.request.value("via").strip()
        self.from_, self.to = self.request.value("from").strip(), self.request.value("to").strip()
        self.cseq = self.request.cseq

    def cancel(self) -> str:
        """Take the INVITE back."""
        return self._request("CANCEL", self.uri, self.top_via, self.to, self.cseq, [])

    def acknowledge(self, response: Received) -> str:
        """Acknowledge a final response, as the transaction (RFC 3261 17.1.1.3) or the dialog."""
        to = response.value("to").strip()
        if response.status >= 300:
            return self._request("ACK", self.uri, self.top_via, to, self.cseq, [])
        via = f"{self.top_via.partition(';')[0]};branch=z9hG4bK{id(response):x}a{self.cseq}"
        uri, routes = _target(response, self.uri)
        return self._request("ACK", uri, via, to, self.cseq, routes)

    def hang_up(self, response: Received, cseq: int) -> str:
        """Hang up what a 200 has set up."""
        via = f"{self.top_via.partition(';')[0]};branch=z9hG4bK{id(response):x}b{cseq}"
        uri, routes = _target(response, self.uri)
        return self._request("BYE", uri, via, response.value("to").strip(), cseq, routes)

    def _request(
        self, method: str, uri: str, via: str, to: str, cseq: int, routes: list[str]
    ) -> str:
        lines = [f"{method} {uri} SIP/2.0", f"Via: {via}", "Max-Forwards: 70"]
        lines += [f"Route: {one}" for one in routes]
        lines += [f"From: {self.from_}", f"To: {to}", f"Call-ID: {self.request.call_id}"]
        lines += [f"CSeq: {cseq} {method}", "Content-Length: 0", "", ""]
        return "\r\n".join(lines)


def uri_in(value: str) -> str:
    """Return the URI of an address header."""
    inner = value.partition("<")[2].partition(">")[0]
    return inner or value.strip().partition(";")[0]


def _target(response: Received, otherwise: str) -> tuple[str, list[str]]:
    contact = uri_in(response.value("contact"))
    return contact or otherwise, routes_of(response)


def routes_of(message: Received) -> list[str]:
    """Return the route set of a response, or of a request (RFC 3261 12.1)."""
    routes = [route.strip() for line in message.values("record-route") for route in line.split(",")]
    return routes[::-1] if message.status else routes


def plain_response(request: Received, status: str) -> str:
    """Answer a request that no step expects."""
    lines = [f"SIP/2.0 {status}"]
    for name in ("via", "from", "to", "call-id", "cseq"):
        lines += request.header_lines(name)
    return "\r\n".join([*lines, "Content-Length: 0", "", ""])
