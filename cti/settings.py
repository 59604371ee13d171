"""Settings of signalling, media, trunks and access codes, as they stand in configuration files."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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


class LandingCodeSource(StrEnum):
    """Where a trunk tells the landing code (落地码)."""

    NONE = "none"
    TO_USER = "to_user"
    DIVERSION = "diversion"  # user of the first Diversion header (RFC 5806)


class TrunkSettings(_Settings):
    """A SIP trunk, known by the addresses it sends from."""

    name: Name
    addresses: list[IpNetwork] = Field(min_length=1)
    max_calls: int = Field(2000, ge=1)
    max_calls_per_second: int = Field(200, ge=1)
    landing_code: LandingCodeSource = LandingCodeSource.NONE


class AccessCodeSettings(_Settings):
    """A number that callers dial, and the flow that serves it.

    `aliases` are other forms in which trunks send it, such as with an area code: 02195598.
    """

    code: DialledNumber
    flow: Name
    name: str = ""
    aliases: list[DialledNumber] = []
    default_language: Literal["zh", "en"] = "zh"


class CallLimitSettings(_Settings):
    """How much a node takes, over all trunks."""

    max_calls: int = Field(4000, ge=1)
    max_calls_per_second: int = Field(1000, ge=1)
