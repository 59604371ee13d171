"""The text of a sipp message: lines, keywords in brackets, and what is known of it beforehand."""

from __future__ import annotations

import re
from collections.abc import Collection

from domain.document_problems import instead
from domain.words import Words
from loadtest.scenario.sipp_steps import Keyword, MessageText, Part

CONSTANT_KEYWORDS = frozenset({
    "service", "remote_ip", "remote_host", "remote_port", "transport", "local_ip", "local_ip_type",
    "local_port", "media_ip", "media_ip_type", "pid",
})  # fmt: skip
"""The same in all calls of a run."""
CALL_KEYWORDS = frozenset({
    "branch", "call_id", "call_number", "clock_tick", "cseq", "last_Request_URI",
    "last_cseq_number", "last_message", "len", "media_port", "msg_index", "next_url",
    "peer_tag_param", "routes", "timestamp",
})  # fmt: skip
_SAME_AS = {"auto_media_port": "media_port", "rtpstream_audio_port": "media_port"}
_KEYWORDS = CONSTANT_KEYWORDS | CALL_KEYWORDS | _SAME_AS.keys()
_WITH_OFFSET = re.compile(r"([A-Za-z_]+)([+-]\d{1,9})")
_FIELD = re.compile(r"field(\d{1,3})")
_HEX = re.compile(r"\\x([0-9A-Fa-f]{2})")
_REQUEST = re.compile(r"([A-Z]+) \S.* SIP/2\.0")
_RESPONSE = re.compile(r"SIP/2\.0 [1-6]\d\d( .*)?")


class TemplateError(Exception):
    """A fault of a text; `line` counts from the text's first, 0."""

    def __init__(self, line: int, reason: Words, remedy: Words) -> None:
        super().__init__(reason.en)
        self.line, self.reason, self.remedy = line, reason, remedy


def parse_parts(text: str, keys: Collection[str], line: int = 0) -> tuple[Part, ...]:
    """Cut a text into what is fixed and what is replaced; TemplateError."""
    parts: list[Part] = []
    rest = 0
    while (begin := text.find("[", rest)) >= 0:
        end = _closing(text, begin)
        at_line = line + text.count("\n", 0, begin)
        if end < 0:
            reason = Words("方括号没有成对", "a square bracket is not closed")
            raise TemplateError(at_line, reason, Words("补上 ]", "add ]"))
        if begin > rest:
            parts.append(_unescaped(text[rest:begin]))
        parts.append(_keyword(text[begin + 1 : end], keys, at_line))
        rest = end + 1
    if rest < len(text):
        parts.append(_unescaped(text[rest:]))
    return tuple(parts)


def parse_message(text: str, keys: Collection[str]) -> MessageText:
    """Read a whole message, as sipp does: the margin of every line is dropped; TemplateError."""
    all_lines = text.split("\n")
    first = next((at for at, line in enumerate(all_lines) if line.strip()), 0)
    lines = [line.lstrip(" \t").rstrip("\r") for line in all_lines[first:]]
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        reason = Words("消息是空的", "the message is empty")
        raise TemplateError(0, reason, Words("写上 SIP 消息", "write a SIP message"))
    blank = next((at for at, line in enumerate(lines) if not line), len(lines))
    head, body = lines[:blank], lines[blank + 1 :]
    method = _method(head[0], first)
    _check_head(head, method, first)
    return MessageText(
        header_lines=tuple(parse_parts(one, keys, first + at) for at, one in enumerate(head)),
        body=_parsed_body(body, keys, first + blank + 1) if body else None,
        method=method,
        cseq_method=_cseq_method(head),
    )


def _parsed_body(lines: list[str], keys: Collection[str], first: int) -> tuple[Part, ...]:
    """Parse line by line, so that a fault's line is right whatever ends a line in SIP."""
    parts: list[Part] = []
    for at, line in enumerate(lines):
        parts += [*parse_parts(line, keys, first + at), "\r\n"]
    return tuple(parts)


def _closing(text: str, begin: int) -> int:
    depth = 0
    for at in range(begin, len(text)):
        if text[at] == "\n":
            return -1
        depth += {"[": 1, "]": -1}.get(text[at], 0)
        if not depth:
            return at
    return -1


def _unescaped(text: str) -> str:
    return _HEX.sub(lambda found: chr(int(found[1], 16)), text)


def _keyword(word: str, keys: Collection[str], line: int) -> Keyword:
    name, _, rest = word.partition(" ")
    if name == "authentication":
        return _authentication(rest, keys, line)
    if name.startswith("$"):
        return Keyword("$", argument=name[1:])
    if name.startswith("last_") and name not in _KEYWORDS:
        return Keyword("last", argument=name.removeprefix("last_").rstrip(":").lower())
    field = _FIELD.fullmatch(name)
    if field and not rest:
        return Keyword("field", argument=field[1])
    offset = _WITH_OFFSET.fullmatch(name)
    plain = offset[1] if offset else name
    if not rest and plain in keys:
        return Keyword("key", int(offset[2]) if offset else 0, plain)
    if not rest and plain in _KEYWORDS:
        return Keyword(_SAME_AS.get(plain, plain), int(offset[2]) if offset else 0)
    raise TemplateError(
        line,
        Words(f"不支持关键字 [{word}]", f"the keyword [{word}] is not supported"),
        instead(plain, sorted({*_KEYWORDS, "authentication", "field0", "last_Via:", *keys})),
    )


def _authentication(rest: str, keys: Collection[str], line: int) -> Keyword:
    """Read `username=… password=…`, either of which may hold keywords."""
    values: dict[str, tuple[Part, ...]] = {"username": (), "password": ()}
    for pair in rest.split():
        name, _, value = pair.partition("=")
        if name not in values:
            raise TemplateError(
                line,
                Words(f"认证不支持 {name}", f"{name} is not supported in [authentication]"),
                Words("只写 username 和 password", "give username and password only"),
            )
        values[name] = parse_parts(value, keys, line)
    return Keyword("authentication", user=values["username"], password=values["password"])


def _method(first_line: str, line: int) -> str:
    request = _REQUEST.fullmatch(first_line.rstrip())
    if request:
        return request[1]
    # A status may be a keyword's: what the first line is for is plain all the same.
    if _RESPONSE.fullmatch(first_line.rstrip()):
        return ""
    raise TemplateError(
        line,
        Words("首行不是 SIP 请求或应答", "the first line is neither a request nor a response"),
        Words("例如 INVITE sip:… SIP/2.0", "write it like INVITE sip:... SIP/2.0"),
    )


def _check_head(head: list[str], method: str, line: int) -> None:
    """Find what sipp would send, and nobody could answer."""
    text = "\n".join(head).lower()
    if "[call_id]" not in text and "[last_call-id:]" not in text:
        raise TemplateError(
            line,
            Words("没有可识别本呼叫的 Call-ID", "no Call-ID by which the call is known"),
            Words("写 Call-ID: [call_id] 或 [last_Call-ID:]",
                  "write Call-ID: [call_id] or [last_Call-ID:]"),
        )  # fmt: skip
    if method and not _cseq_method(head) and "[last_cseq:]" not in text:
        raise TemplateError(
            line,
            Words("请求没有 CSeq", "the request has no CSeq"),
            Words(f"写 CSeq: 1 {method}", f"write CSeq: 1 {method}"),
        )


def _cseq_method(head: list[str]) -> str:
    for line in head:
        name, _, value = line.partition(":")
        if name.strip().lower() == "cseq":
            return value.split()[-1] if value.split() else ""
    return ""
