"""Settings of signalling, media, trunks and access codes, as they stand in configuration files."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from cti.trunks.settings import (
    BoundedPattern,
    CallerIdStyle,
    HeaderName,
    LandingCodeSource,
    NumberRules,
    ProbeSettings,
    RegisterSettings,
    ServerUri,
    SipUser,
    TrunkAuthentication,
    one_or_more,
)

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
DialledNumber = Annotated[str, Field(pattern=r"^\+?[0-9*#]{1,32}$")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ListenSettings(_Settings):
    """One SIP address to listen at; port 0 takes a free one."""

    transport: Literal["udp", "tcp"]
    host: str = "127.0.0.1"
    port: int = Field(5060, ge=0, le=65535)


class RateSettings(_Settings):
    """So many requests a second of one address, after a burst of so many."""

    per_second: float = Field(gt=0)
    burst: float = Field(ge=1)


class DefenceSettings(_Settings):
    """What an address may send that is neither a trunk nor a proxy of ours."""

    allow: list[IpNetwork] = Field(
        default=[], description="addresses that are never shut out, such as an office behind NAT"
    )
    register_rate: RateSettings = RateSettings(per_second=50, burst=1000)
    invite_rate: RateSettings = RateSettings(per_second=20, burst=100)
    other_rate: RateSettings = RateSettings(per_second=50, burst=500)
    ban_s: float = Field(
        300.0, ge=1, description="the first ban; each further one is twice as long"
    )
    longest_ban_s: float = Field(86_400.0, ge=1)


class SipSettings(_Settings):
    """The SIP side of a node."""

    listen: list[ListenSettings] = Field(
        default_factory=lambda: [ListenSettings(transport="udp"), ListenSettings(transport="tcp")],
        min_length=1,
    )
    advertised_host: str | None = Field(
        None, description="host written in Via and Contact; needed when listening at 0.0.0.0 or ::"
    )
    realm: str = Field("cti95598", min_length=1, description="domain of the phones")
    user_agent: str = Field("cti95598", min_length=1)
    register_expires_default_s: int = Field(600, ge=1)
    register_expires_min_s: int = Field(60, ge=1)
    register_expires_max_s: int = Field(3600, ge=1)
    digest_algorithms: list[Literal["MD5", "SHA-256"]] = Field(
        ["MD5"], min_length=1, description="offered to phones, the preferred one first"
    )
    nat_keepalive_s: int = Field(
        30, ge=0, description="how often a phone behind NAT is asked for OPTIONS over UDP; 0 never"
    )
    trusted_proxies: list[IpNetwork] = Field(
        default=[], description="proxies of ours, believed when they name the sender's address"
    )
    defence: DefenceSettings = DefenceSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        default_s = self.register_expires_default_s
        if not self.register_expires_min_s <= default_s <= self.register_expires_max_s:
            raise ValueError("register_expires_default_s lies outside of its minimum and maximum")
        wildcards = [one.host for one in self.listen if one.host in {"0.0.0.0", "::"}]
        if wildcards and self.advertised_host is None:
            raise ValueError(
                f"listening at {wildcards[0]} needs advertised_host, the address that peers reach"
            )
        return self


class MediaSettings(_Settings):
    """RTP addresses and how long a silent stream lives."""

    local_ip: str = "127.0.0.1"
    port_min: Port = 20000
    port_max: Port = 29999
    media_timeout_s: float = Field(
        60.0, ge=0, description="end an answered call after so long without RTP; 0 never"
    )

    @field_validator("local_ip")
    @classmethod
    def _check_local_ip(cls, value: str) -> str:
        address = ipaddress.ip_address(value)
        if address.is_unspecified:
            raise ValueError("must be an address that peers can send RTP to, not a wildcard")
        return str(address)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.port_max < self.port_min + 1:
            raise ValueError("port_max must be above port_min")
        return self


class TrunkSettings(_Settings):
    """A SIP trunk to a carrier: who may send, and where to send."""

    name: Name
    addresses: list[IpNetwork] = []
    authentication: TrunkAuthentication = TrunkAuthentication.ADDRESS
    user: SipUser = Field("", description="who sends, by digest; its password is made at the start")
    is_trusted: bool = Field(True, alias="trusted", description="believe its P-Asserted-Identity")
    server: Annotated[list[ServerUri], BeforeValidator(one_or_more)] = []
    outbound_proxy: ServerUri | None = None
    register_: RegisterSettings | None = Field(None, alias="register")
    auth_user: str = Field("", max_length=128, description="who we are to the carrier's digest")
    probe: ProbeSettings = ProbeSettings()
    priority: int = Field(1, ge=0, le=1000, description="the lowest is tried first")
    weight: int = Field(1, ge=1, le=1000)
    max_calls: int = Field(2000, ge=1)
    max_calls_per_second: int = Field(200, ge=1)
    outbound_reserve: int = Field(0, ge=0, description="channels that callers cannot take")
    answer_within_s: float = Field(3.0, gt=0, le=32)
    progress_within_s: float = Field(8.0, gt=0, le=60)
    number_rules: NumberRules = NumberRules()
    caller_id: CallerIdStyle = CallerIdStyle.FROM
    privacy: bool = Field(True, description="the carrier knows Privacy (RFC 3323)")
    landing_code: LandingCodeSource = LandingCodeSource.NONE
    landing_code_header: HeaderName | None = None
    landing_code_pattern: BoundedPattern | None = None

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.addresses and not self.user and not self.server:
            raise ValueError("a trunk needs addresses that send, a server to send to, or a user")
        if (self.authentication is TrunkAuthentication.DIGEST) != bool(self.user):
            raise ValueError("authentication: digest and a user go together")
        if self.register_ is not None and not (self.server or self.register_.registrars):
            raise ValueError("register needs registrars, or the trunk's server")
        named = self.landing_code is LandingCodeSource.HEADER
        if named != (self.landing_code_header is not None):
            raise ValueError("landing_code: header and landing_code_header go together")
        if self.outbound_reserve >= self.max_calls:
            raise ValueError("outbound_reserve leaves no channel to callers")
        return self


class AccessCodeSettings(_Settings):
    """A number that callers dial, and the flow that serves it.

    `aliases` are other forms in which trunks send it, such as with an area code: 02195598.
    """

    code: DialledNumber
    flow: Name
    name: str = ""
    aliases: list[DialledNumber] = []
    default_language: Literal["zh", "en"] = "zh"
    max_calls: int | None = Field(None, ge=1, description="no limit of its own unless given")
    max_calls_per_second: int | None = Field(None, ge=1)


class CallLimitSettings(_Settings):
    """How much a node takes, over all trunks."""

    max_calls: int = Field(4000, ge=1)
    max_calls_per_second: int = Field(1000, ge=1)
