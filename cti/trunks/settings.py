"""Parts of the settings of trunks, access codes and tenants, as they stand in configuration."""

from __future__ import annotations

import re
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cti.media_policy import DigitWay, MediaPolicy
from cti.sdp import Codec, SrtpPolicy
from cti.sip.messages.syntax import SipSyntaxError
from cti.sip.messages.uri import SipUri
from cti.trunks.bounded_pattern import check_pattern
from cti.trunks.number_lists import AnonymousPolicy, ListKind, entry_fault
from cti.trunks.rewriting import MAX_DIALLED_DIGITS, Rewriting, parse_pattern
from domain.validation_words import explained
from domain.words import Words

_SIP_TRANSPORTS = frozenset({"udp", "tcp", "tls", "ws", "wss"})


def _server(value: str) -> str:
    """Check the URI of a server; a host alone is one too."""
    text = value if value.lower().startswith(("sip:", "sips:")) else f"sip:{value}"
    try:
        uri = SipUri.parse(text)
    except SipSyntaxError:
        uri = None
    if uri is None or uri.headers or uri.user or not _SIP_TRANSPORTS.issuperset(_transport(uri)):
        raise explained(
            Words(f"“{value}”不是 SIP 服务器地址", f"{value!r} is no address of a SIP server"),
            Words(
                "例如 sip:sbc.example.com;transport=tls 或 192.0.2.10:5060",
                "write it like sip:sbc.example.com;transport=tls or 192.0.2.10:5060",
            ),
        )
    return str(uri)


def _transport(uri: SipUri) -> tuple[str, ...]:
    named = uri.params.get("transport")
    return () if named is None else (named.lower(),)


def _pattern(value: str) -> str:
    try:
        parse_pattern(value)
    except ValueError as error:
        raise explained(
            Words(f"号码规则写法不对:{error}", str(error)),
            Words(
                "用数字、+、*、#、x(任一数字)、[1-35](其中之一),例如 1[3-9]x",
                "use digits, +, *, #, x for any digit, [1-35] for one of them, such as 1[3-9]x",
            ),
        ) from None
    return value


def _entry(value: str) -> str:
    if entry_fault(value):
        raise explained(
            Words(f"“{value}”不是号码或号码前缀", f"{value!r} is neither a number nor a prefix"),
            Words(
                "写号码,或以 * 结尾的前缀,例如 0571*", "write a number, or a prefix such as 0571*"
            ),
        )
    return value


def _bounded(value: str) -> str:
    try:
        check_pattern(value)
    except (ValueError, re.error) as error:
        raise explained(
            Words(f"正则表达式不可用:{error}", f"the pattern cannot be used: {error}"),
            Words(
                "最多一个括号组、两处 * + 或 {m,n},不嵌套,例如 rn=(\\d{3,4})",
                "use one group at most, two of * + {m,n} at most, not nested: rn=(\\d{3,4})",
            ),
        ) from None
    return value


def one_or_more(value: object) -> object:
    """Let one text stand for a list of one."""
    return [value] if isinstance(value, str) else value


ServerUri = Annotated[str, AfterValidator(_server)]
DialPattern = Annotated[str, Field(max_length=64), AfterValidator(_pattern)]
NumberEntry = Annotated[str, AfterValidator(_entry)]
BoundedPattern = Annotated[str, Field(max_length=128), AfterValidator(_bounded)]
Affix = Annotated[str, Field(pattern=r"^\+?[0-9*#]{0,16}$")]
SipUser = Annotated[str, Field(pattern=r"^[A-Za-z0-9+*#_.!~'()-]{1,64}$")]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:\[\]-]{1,253}$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]
OutsideNumber = Annotated[str, Field(pattern=r"^\+?[0-9*#]{1,32}$")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _different(codecs: list[Codec]) -> list[Codec]:
    twice = next((each for each in codecs if codecs.count(each) > 1), None)
    if twice is not None:
        raise explained(
            Words(f"编解码 {twice} 写了两次", f"codec {twice} is there twice"),
            Words("删去一个", "remove one"),
        )
    return codecs


Codecs = Annotated[list[Codec], BeforeValidator(one_or_more), AfterValidator(_different)]


class CodecOrder(StrEnum):
    """Whose order of codecs counts when the other side offers them."""

    OURS = "ours"
    OFFER = "offer"


def media_policy(
    codecs: list[Codec],
    order: CodecOrder,
    srtp: SrtpPolicy,
    digits: DigitWay,
    others: MediaPolicy,
) -> MediaPolicy:
    """Return the rules of media; codecs that are not named are those of `others`."""
    if not codecs:
        return replace(others, srtp=srtp, digits=digits)
    return MediaPolicy(tuple(codecs), order is CodecOrder.OURS, srtp, digits)


class LandingCodeSource(StrEnum):
    """Where a trunk tells the landing code (落地码)."""

    NONE = "none"
    TO_USER = "to_user"
    DIVERSION = "diversion"  # user of the first Diversion header (RFC 5806)
    HISTORY_INFO = "history_info"  # user of the first History-Info entry (RFC 7044)
    P_CALLED_PARTY_ID = "p_called_party_id"  # RFC 7315 section 4.2
    HEADER = "header"  # the one that landing_code_header names


class TrunkAuthentication(StrEnum):
    """How a trunk shows that a call is its own."""

    ADDRESS = "address"
    DIGEST = "digest"
    CERTIFICATE = "certificate"  # of its TLS connection (RFC 5922)


class CallerIdStyle(StrEnum):
    """The header that tells a carrier who calls; From tells it in each case."""

    FROM = "from"
    P_ASSERTED_IDENTITY = "p_asserted_identity"
    P_PREFERRED_IDENTITY = "p_preferred_identity"
    REMOTE_PARTY_ID = "remote_party_id"


class ProbeSettings(_Settings):
    """How the health of a trunk is asked for by OPTIONS."""

    interval_s: float = Field(30.0, ge=0, description="0 sends no probes")
    timeout_s: float = Field(4.0, gt=0, le=32)
    up_after: int = Field(1, ge=1, le=100)
    down_after: int = Field(2, ge=1, le=100)


class RegisterSettings(_Settings):
    """A registration towards the carrier."""

    user: SipUser
    domain: HostName = Field("", description="domain of the address of record")
    registrars: Annotated[list[ServerUri], BeforeValidator(one_or_more)] = Field(
        default=[], description="where to register; the trunk's servers unless given"
    )
    expires_s: int = Field(600, ge=10, le=86_400)


class NumberRule(_Settings):
    """One rule of rewriting: the first of a list that fits counts."""

    match: DialPattern = ""
    min_length: int = Field(0, ge=0, le=MAX_DIALLED_DIGITS)
    max_length: int = Field(MAX_DIALLED_DIGITS, ge=1, le=MAX_DIALLED_DIGITS)
    strip: int = Field(0, ge=0, le=MAX_DIALLED_DIGITS)
    prefix: Affix = ""
    suffix: Annotated[str, Field(pattern=r"^[0-9*#]{0,16}$")] = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_length > self.max_length:
            raise explained(
                Words("min_length 大于 max_length", "min_length is above max_length"),
                Words("改正其中一个", "correct one of them"),
            )
        return self

    @property
    def rewriting(self) -> Rewriting:
        """The rule ready to use."""
        return Rewriting(
            parse_pattern(self.match),
            self.min_length,
            self.max_length,
            self.strip,
            self.prefix,
            self.suffix,
        )


class NumberRules(_Settings):
    """How a trunk writes numbers; callers' and called ones, in and out."""

    caller_in: list[NumberRule] = []
    called_in: list[NumberRule] = []
    caller_out: list[NumberRule] = []
    called_out: list[NumberRule] = []


class NumberListSettings(_Settings):
    """A black or white list of callers."""

    name: Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]
    kind: ListKind
    numbers: list[NumberEntry] = []
    file: Path | None = None
    """One number or prefix a line, from the place of the configuration file."""


class CallerPolicySettings(_Settings):
    """Who may call."""

    lists: list[NumberListSettings] = []
    anonymous: AnonymousPolicy = AnonymousPolicy.ALLOW
    blocked_status: Literal[603, 403] = 603

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        # Every scalar of the file is text, and a literal takes numbers only.
        if isinstance(value, dict) and value.get("blocked_status") in {"603", "403"}:
            return {**value, "blocked_status": int(value["blocked_status"])}
        return value


class OutboundSettings(_Settings):
    """How a tenant calls numbers outside (外呼)."""

    trunks: list[str] = Field(default=[], description="by name; all with a server unless given")
    home_area_codes: list[Annotated[str, Field(pattern=r"^0[0-9]{2,3}$")]] = []
    home_country: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,2}$")] = "86"
    long_distance_prefix: Annotated[str, Field(pattern=r"^[0-9]{0,8}$")] = "0"
    international_prefix: Annotated[str, Field(pattern=r"^[0-9+]{1,8}$")] = "00"
    allow_international: bool = Field(
        False, description="calls abroad are what stolen passwords are used for"
    )
    home_area_code: Literal["strip", "keep"] = "keep"
    home_mobiles_file: Path | None = Field(
        None, description="prefixes of the home area's mobiles (7 digits), one a line"
    )
    caller_numbers: list[OutsideNumber] = []
    default_caller: OutsideNumber | None = None
    allowed_prefixes: list[Affix] = Field(default=[], description="others are refused if given")
    forbidden_prefixes: list[Affix] = []

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.default_caller is not None and self.default_caller not in self.caller_numbers:
            raise explained(
                Words(
                    "default_caller 不在 caller_numbers 中",
                    "default_caller is none of caller_numbers",
                ),
                Words("把它加入 caller_numbers", "add it to caller_numbers"),
            )
        return self
