"""A peer that keeps up calls, registrations and subscriptions, and then spoils what it sends."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from cti.sip.authentication.digest import Credentials, authorization
from cti.sip.messages.message import Request, Response, parse_message, response_to
from loadtest.fuzz_mutations import Mutator

HOST, PORT = "198.51.100.7", 5060
PASSWORD = "secret"  # noqa: S105 - that of a test
_KEPT = 200
_SDP = (
    b"v=0\r\no=- 1 1 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\n"
    b"m=audio 30000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"
)
_METHODS = (
    "INVITE", "INVITE", "INVITE", "OPTIONS", "REGISTER", "REGISTER", "MESSAGE", "SUBSCRIBE", "BYE",
    "CANCEL", "ACK", "PRACK", "UPDATE", "INFO", "NOTIFY", "REFER", "PUBLISH", "NONSENSE",
)  # fmt: skip
_IN_DIALOG = (
    "BYE", "INVITE", "INVITE", "UPDATE", "UPDATE", "INFO", "REFER", "REFER", "PRACK", "NOTIFY",
    "OPTIONS", "MESSAGE", "SUBSCRIBE", "CANCEL", "ACK", "PUBLISH",
)  # fmt: skip
_STATUSES = (
    100, 180, 180, 183, 183, 199, 200, 200, 200, 200, 202, 301, 302, 305, 380, 400, 401, 403, 404,
    407, 408, 412, 415, 420, 421, 422, 423, 480, 481, 482, 486, 487, 488, 489, 491, 500, 503, 580,
    600, 603, 606, 699,
)  # fmt: skip
_CHALLENGE = 'Digest realm="fuzz", nonce="n", algorithm=MD5, qop="auth", opaque="o"'
_FURTHER_HEADERS = (
    ("Require", "100rel"),
    ("Supported", "100rel, timer, replaces, norefersub, path, outbound"),
    ("Session-Expires", "90;refresher=uac"),
    ("Session-Expires", "1800"),
    ("Min-SE", "90"),
    ("Session-Expires", "60"),
    ("RSeq", "1"),
    ("RSeq", "2"),
    ("Accept", "application/sdp"),
    ("Replaces", "c1;to-tag=a;from-tag=b;early-only"),
    ("Reason", "Q.850;cause=16"),
    ("P-Asserted-Identity", '"A" <sip:13800000000@example.com>, <tel:+8613800000000>'),
    ("Privacy", "id;critical"),
    ("Diversion", "<sip:1@b>;reason=unconditional;counter=1"),
    ("History-Info", "<sip:a@b>;index=1, <sip:c@d?Reason=SIP%3Bcause%3D302>;index=1.1"),
    ("User-To-User", "56a390f3d2b7310023a2;encoding=hex"),
    ("Retry-After", "5 (later);duration=9"),
    ("Warning", '399 host "text"'),
    ("Date", "Sat, 21 Nov 2026 12:00:00 GMT"),
    ("Expires", "0"),
    ("Expires", "60"),
    ("Min-Expires", "60"),
    ("Max-Forwards", "0"),
    ("Path", "<sip:p@edge;lr>"),
    ("Record-Route", "<sip:198.51.100.9;lr>, <sip:198.51.100.8;lr>"),
    ("Refer-Sub", "false"),
    ("Route", "<sip:192.0.2.95;lr>"),
    ("Refer-To", "<sip:95598@example.com>"),
    ("RAck", "1 1 INVITE"),
    ("Refer-To", "<sip:1@b?Replaces=c%3Bto-tag%3Da%3Bfrom-tag%3Db>"),
    ("Event", "talk"),
    ("Referred-By", "<sip:1001@example.com>"),
    ("Event", "refer"),
    ("Event", "message-summary"),
    ("Event", "dialog"),
    ("Subscription-State", "active;expires=60"),
    ("Info-Package", "dtmf"),
    ("Subscription-State", "terminated;reason=noresource"),
    ("Accept", "application/dialog-info+xml"),
    ("WWW-Authenticate", _CHALLENGE),
    ("Proxy-Authenticate", _CHALLENGE),
    ("Timestamp", "5.5"),
    (
        "Authorization",
        'Digest username="1001", realm="phones", nonce="x", uri="sip:b", response="y"',
    ),
    ("Content-Disposition", "session;handling=optional"),
    ("X-Source-Address", "203.0.113.1"),
)
_BODIES = (
    (_SDP, "application/sdp"),
    (_SDP, "application/sdp"),
    (b"", ""),
    (b"Signal=5\r\nDuration=160\r\n", "application/dtmf-relay"),
    ("停电".encode(), "text/plain"),
    (b"SIP/2.0 200 OK\r\n", "message/sipfrag;version=2.0"),
    (b"\0\xff" * 20, "application/octet-stream"),
    (b"--x\r\n\r\n--x--", "multipart/mixed;boundary=x"),
)

_REFER_TO = "<sip:1@b?Replaces=c%3Bto-tag%3Da%3Bfrom-tag%3Db>"
_HEADERS_OF: dict[str, tuple[tuple[tuple[str, str], ...], ...]] = {
    "SUBSCRIBE": (
        (("Event", "message-summary"), ("Expires", "600")),
        (("Event", "dialog"), ("Expires", "90"), ("Accept", "application/dialog-info+xml")),
        (("Event", "message-summary"), ("Expires", "0")),
        (("Event", "refer"), ("Expires", "60")),
    ),
    "NOTIFY": ((("Event", "talk"), ("Subscription-State", "active")),),
    "REFER": ((("Refer-To", "<sip:95598@example.com>"),), (("Refer-To", _REFER_TO),)),
    "PRACK": ((("RAck", "1 1 INVITE"),),),
}
_BODY_OF = {
    "INVITE": (_SDP, "application/sdp"),
    "UPDATE": (_SDP, "application/sdp"),
    "ACK": (_SDP, "application/sdp"),
    "MESSAGE": ("停电".encode(), "text/plain"),
    "INFO": (b"Signal=5\r\nDuration=160\r\n", "application/dtmf-relay"),
}


@dataclass(slots=True)
class _Dialog:
    call_id: str
    own_tag: str
    their_tag: str
    cseq: int


class Peer:
    """Makes the next message of an endless conversation with a user agent."""

    def __init__(self, random: Random, corpus: list[bytes]) -> None:
        self._random = random
        self._corpus = corpus
        self._pool = deque(corpus, maxlen=max(_KEPT, len(corpus)))
        self._mutator = Mutator(random, self._pool)
        self._asked: deque[Request] = deque(maxlen=_KEPT)
        self.routes: tuple[str, ...] = ()
        """Ways through the user agent to phones."""
        self._due: deque[Request] = deque(maxlen=_KEPT)
        self._dialogs: dict[str, _Dialog] = {}
        self._sent: dict[str, Request] = {}

    def hear(self, data: bytes) -> None:
        """Take a message of the user agent; SipSyntaxError when it is none."""
        message = parse_message(data)
        if self._random.random() < 0.05:
            self._pool.append(data)
        if isinstance(message, Request):
            self._asked.append(message)
            return
        number, method = message.cseq
        if message.status == 401:
            self._sign(message)
        if message.status == 481 or method == "BYE":
            self._dialogs.pop(message.call_id, None)
        if method != "INVITE" or message.status == 100:
            return
        dialog = _Dialog(message.call_id, message.from_.tag or "", message.to.tag or "", number)
        if message.status < 300:
            self._keep(dialog)
        if message.status >= 200:
            self._due.append(self._in_dialog(dialog, "ACK", cseq=number))
        elif (rseq := message.headers.get("RSeq")) is not None:
            headers = [("RAck", f"{rseq} {number} INVITE")]
            self._due.append(self._in_dialog(dialog, "PRACK", headers=headers))

    def _keep(self, dialog: _Dialog) -> None:
        self._dialogs.setdefault(dialog.call_id, dialog)
        if len(self._dialogs) > _KEPT:
            del self._dialogs[next(iter(self._dialogs))]

    def _sign(self, challenge: Response) -> None:
        """Have a request that was challenged sent again with credentials."""
        request = self._sent.pop(challenge.call_id, None)
        if request is None:
            return
        value = authorization(
            challenge.headers.get_all("WWW-Authenticate"),
            method=request.method,
            uri=request.uri,
            credentials=Credentials("1001", PASSWORD),
        )
        if value is not None:
            request.headers.set("Authorization", value)
            request.headers.set("CSeq", f"{request.cseq[0] + 1} {request.method}")
            request.replace_top_via(request.top_via.with_params(branch=self._branch()))
            self._due.append(request)

    def next(self) -> bytes:
        """Return a message, half of the time a spoilt one."""
        random = self._random
        kind = random.random()
        if kind < 0.25 and self._asked:
            message: Request | Response = self._reply()
        elif kind < 0.45 and self._due:
            message = self._due.popleft()
        elif kind < 0.70 and self._dialogs:
            dialog = random.choice(list(self._dialogs.values()))
            message = self._in_dialog(dialog, random.choice(_IN_DIALOG))
        elif kind < 0.72 and self._sent:
            message = self._cancel(random.choice(list(self._sent.values())))
        elif kind < 0.80:
            data = random.choice(self._corpus)
            return self._mutator.mutate(data) if random.random() < 0.9 else data
        else:
            message = self._new(random.choice(_METHODS))
        data = message.to_bytes()
        return data if random.random() < 0.5 else self._mutator.mutate(data)

    def _new(self, method: str) -> Request:
        random = self._random
        user = random.choice(("1001", "1002", "1003", "13800000000", "%00", "电"))
        number = random.getrandbits(64)
        target = user if method == "REGISTER" else random.choice(("95598", "1001", "1002"))
        headers = [
            ("From", f"<sip:{user}@example.com>;tag=f{number:x}"),
            ("To", f"<sip:{target}@example.com>"),
            ("Call-ID", f"c{number:x}@{HOST}"),
            ("CSeq", f"{random.randint(0, 99)} {method}"),
            ("Contact", f"<sip:{user}@{HOST}:{PORT}>;expires={random.choice((0, 1, 60, 600))}"),
        ]
        request = self._complete(method, headers)
        self._sent[request.call_id] = request
        if len(self._sent) > _KEPT:
            del self._sent[next(iter(self._sent))]
        return request

    def _in_dialog(
        self,
        dialog: _Dialog,
        method: str,
        *,
        cseq: int | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Request:
        dialog.cseq += 1
        lines = [
            ("From", f"<sip:1001@example.com>;tag={dialog.own_tag}"),
            ("To", f"<sip:95598@example.com>;tag={dialog.their_tag}"),
            ("Call-ID", dialog.call_id),
            ("CSeq", f"{dialog.cseq if cseq is None else cseq} {method}"),
            ("Contact", f"<sip:1001@{HOST}:{PORT}>"),
            *headers,
        ]
        return self._complete(method, lines)

    def _complete(self, method: str, headers: Iterable[tuple[str, str]]) -> Request:
        random = self._random
        body, kind = _BODY_OF.get(method, (b"", ""))
        if random.random() < 0.2:
            body, kind = random.choice(_BODIES)
        lines = [
            ("Via", f"SIP/2.0/UDP {HOST}:{PORT};branch={self._branch()};rport"),
            ("Max-Forwards", "70"),
            ("Supported", random.choice(("100rel, timer, replaces", "100rel", "timer", ""))),
            *headers,
            *random.choice(_HEADERS_OF.get(method, ((),))),
            *random.choices(_FURTHER_HEADERS, k=random.choice((0, 0, 0, 1, 1, 4))),
        ]
        target = random.choice(("95598@192.0.2.95", "1001@example.com", "1002@example.com"))
        request = Request(method, f"sip:{target}")
        for name, value in lines:
            if name in {"Max-Forwards", "Expires"}:
                request.headers.set(name, value)
            else:
                request.headers.add(name, value)
        if self.routes and random.random() < 0.1:
            request.headers.set("Route", random.choice(self.routes))
        if body:
            request.headers.set("Content-Type", kind)
            request.body = body
        return request

    def _branch(self) -> str:
        return f"z9hG4bK{self._random.getrandbits(64):x}"

    def _cancel(self, invite: Request) -> Request:
        cancel = Request("CANCEL", invite.uri)
        cancel.headers.copy_from(invite.headers, "Via", "From", "To", "Call-ID")
        cancel.headers.set("CSeq", f"{invite.cseq[0]} CANCEL")
        return cancel

    def _reply(self) -> Response:
        """Answer a request of the user agent, or answer it again, or otherwise."""
        random = self._random
        request = random.choice(self._asked) if random.random() < 0.3 else self._asked[-1]
        body, kind = random.choice(_BODIES)
        headers = [
            ("Contact", f"<sip:1001@{HOST}:{PORT}>"),
            *random.choices(_FURTHER_HEADERS, k=random.choice((0, 1, 1, 2, 4))),
        ]
        to_tag = random.choice(("t1", "t2", f"t{random.getrandbits(20):x}"))
        if request.method == "INVITE":
            self._keep(_Dialog(request.call_id, to_tag, request.from_.tag or "", 1))
        return response_to(
            request,
            random.choice(_STATUSES),
            to_tag=to_tag,
            headers=headers,
            body=body,
            content_type=kind or None,
        )
