"""Settings of signalling, media, trunks and access codes, as they stand in configuration files."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from cti.load_control import LoadLimits
from cti.media import RecordingForm
from cti.media_policy import DigitWay, MediaAddress, MediaAddresses
from cti.sdp import SrtpPolicy
from cti.sip.sessions.session_policy import Reliability, SessionPolicy
from cti.sip.transports.tls_files import VerifyClient
from cti.trunks.settings import (
    BoundedPattern,
    CallerIdStyle,
    CodecOrder,
    Codecs,
    HeaderName,
    HostName,
    LandingCodeSource,
    NumberRules,
    ProbeSettings,
    RegisterSettings,
    ServerUri,
    SipUser,
    TrunkAuthentication,
    one_or_more,
)
from domain.loopback import is_loopback
from domain.validation_words import explained
from domain.words import Words

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
DialledNumber = Annotated[str, Field(pattern=r"^\+?[0-9*#]{1,32}$")]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ListenSettings(_Settings):
    """One SIP address to listen at; port 0 takes a free one."""

    transport: Literal["udp", "tcp", "tls", "ws", "wss"]
    host: str = "127.0.0.1"
    port: int = Field(5060, ge=0, le=65535)
    advertised_host: str | None = Field(
        None, description="host written in Via and Contact instead of sip.advertised_host"
    )


class TlsSettings(_Settings):
    """Certificates of SIP over TLS and WSS; paths start at the place of the configuration file."""

    certificate: Path | None = Field(None, description="PEM, with the chain up to the authority")
    key: Path | None = Field(None, description="PEM; without it the key is in the certificate file")
    ca: Path | None = Field(
        None, description="authorities of servers we connect to; without it those of the system"
    )
    client_ca: Path | None = Field(None, description="authorities of those who connect to us")
    verify_client: VerifyClient = Field(
        VerifyClient.NO, description="whether those who connect to us must show a certificate"
    )


def _dns_server(text: str) -> str:
    """Check `192.0.2.53`, `192.0.2.53:5353`, `2001:db8::53` or `[2001:db8::53]:5353`."""
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ipaddress.ip_address(host)
        is_good = not port or 0 < int(port) < 65_536
    except ValueError:
        is_good = False
    if not is_good:
        raise explained(
            Words(f"“{text}”不是域名服务器的地址", f"{text!r} is no address of a name server"),
            Words(
                "例如 192.0.2.53 或 192.0.2.53:5353", "write it like 192.0.2.53 or 192.0.2.53:5353"
            ),
        )
    return text


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


class SessionTimerSettings(_Settings):
    """How long a call lives whose far end is silent (RFC 4028)."""

    enabled: bool = True
    session_expires_s: int = Field(
        1800, ge=90, le=86_400, description="a call is refreshed within half of this time"
    )
    min_se_s: int = Field(90, ge=90, description="shorter times of far ends are refused (422)")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.session_expires_s < self.min_se_s:
            raise explained(
                Words("session_expires_s 小于 min_se_s", "session_expires_s lies below min_se_s"),
                Words("取不小于 min_se_s 的值", "take min_se_s or more"),
            )
        return self


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
    session_timer: SessionTimerSettings = SessionTimerSettings()
    reliable_provisionals: Reliability = Field(
        Reliability.EARLY_MEDIA, description="when 18x responses are acknowledged by PRACK"
    )
    defence: DefenceSettings = DefenceSettings()
    tls: TlsSettings | None = None
    web_origins: list[str] = Field(
        default=[],
        description="web pages whose scripts may connect by ws and wss: https://desk.example; "
        "empty: all",
    )
    dns_servers: list[Annotated[str, AfterValidator(_dns_server)]] = Field(
        default=[], description="name servers, with a port if it is not 53; empty: the system's"
    )
    outbound_proxy: ServerUri | None = Field(
        None, description="all calls we place outside of a known path go there first"
    )

    @property
    def session_policy(self) -> SessionPolicy:
        """The same for the user agent."""
        timer = self.session_timer
        return SessionPolicy(
            reliability=self.reliable_provisionals,
            session_expires_s=timer.session_expires_s if timer.enabled else 0,
            min_se_s=timer.min_se_s,
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        default_s = self.register_expires_default_s
        if not self.register_expires_min_s <= default_s <= self.register_expires_max_s:
            raise ValueError("register_expires_default_s lies outside of its minimum and maximum")
        wildcards = [
            one.host
            for one in self.listen
            if one.host in {"0.0.0.0", "::"} and one.advertised_host is None
        ]
        if wildcards and self.advertised_host is None:
            raise ValueError(
                f"listening at {wildcards[0]} needs advertised_host, the address that peers reach"
            )
        return self


class MediaSettings(_Settings):
    """RTP addresses and how long a silent stream lives."""

    local_ip: str = "127.0.0.1"
    local_ip6: str | None = Field(None, description="for peers of IPv6, beside local_ip")
    advertised_ip: str | None = Field(
        None, description="told to peers instead of local_ip, where a router translates it (NAT)"
    )
    advertised_ip6: str | None = Field(None, description="the same for local_ip6")
    port_min: Port = 20000
    port_max: Port = 29999
    media_timeout_s: float = Field(
        60.0, ge=0, description="end an answered call after so long without RTP; 0 never"
    )
    recording_form: RecordingForm = Field(
        RecordingForm.PCM16, description="pcm16, or a-law, which takes half the room"
    )
    engine: str = Field(
        "inside", description="inside this process, or the host:port of a process of its own"
    )
    engine_ca: Path | None = Field(
        None, description="authority of the engine's certificate; beyond loopback it must be given"
    )
    engine_ports_ahead: int = Field(
        64, ge=2, le=1024, description="RTP ports that the engine opens before calls need them"
    )
    engine_lost_after_s: float = Field(
        5.0, ge=0.5, le=60, description="end calls when the engine has been away for so long"
    )

    @field_validator("local_ip", "local_ip6", "advertised_ip", "advertised_ip6")
    @classmethod
    def _check_ip(cls, value: str | None) -> str | None:
        if value is None:
            return None
        address = ipaddress.ip_address(value)
        if address.is_unspecified:
            raise ValueError("must be an address that peers can send RTP to, not a wildcard")
        return str(address)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.port_max < self.port_min + 1:
            raise ValueError("port_max must be above port_min")
        for is_wrong, reason, remedy in self._faults():
            if is_wrong:
                raise explained(reason, remedy)
        return self

    @property
    def engine_host(self) -> str | None:
        """The machine of the media process; None: the engine is inside."""
        return None if self.engine == "inside" else self.engine.rpartition(":")[0].strip("[]")

    def _faults(self) -> Iterator[tuple[bool, Words, Words]]:
        main, second = self.local_ip, self.local_ip6
        host, port = self.engine_host, self.engine.rpartition(":")[2]
        yield (
            host is not None and not (host and port.isdigit() and 0 < int(port) <= 65535),
            Words("engine 不是 inside 也不是 主机:端口", "engine is neither inside nor host:port"),
            Words("写 inside,或如 10.0.0.5:50055", "write inside, or such as 10.0.0.5:50055"),
        )
        yield (
            bool(host) and not is_loopback(host or "") and self.engine_ca is None,
            Words(
                "另一台机器上的媒体进程没有 engine_ca",
                "there is no engine_ca for a media process on another machine",
            ),
            Words("写签发其证书的 CA 文件", "name the file of the authority of its certificate"),
        )
        yield (
            second is not None and (":" in main or ":" not in second),
            Words(
                "local_ip6 只用于 local_ip 为 IPv4 时的 IPv6 地址",
                "local_ip6 is the IPv6 address beside a local_ip of IPv4",
            ),
            Words("local_ip 写 IPv4,local_ip6 写 IPv6", "write IPv4 and IPv6 in their places"),
        )
        for name, told, bound in (
            ("advertised_ip", self.advertised_ip, main),
            ("advertised_ip6", self.advertised_ip6, second),
        ):
            yield (
                told is not None and (bound is None or (":" in told) != (":" in bound)),
                Words(
                    f"{name} 没有同一 IP 版本的本地地址",
                    f"{name} has no local address of its IP version",
                ),
                Words("改正它,或补上本地地址", "correct it, or add the local address"),
            )

    @property
    def addresses(self) -> MediaAddresses:
        """The same for calls."""
        second = self.local_ip6
        return MediaAddresses(
            MediaAddress(self.local_ip, self.advertised_ip or ""),
            None if second is None else MediaAddress(second, self.advertised_ip6 or ""),
        )


class TrunkSettings(_Settings):
    """A SIP trunk to a carrier: who may send, and where to send."""

    name: Name
    addresses: list[IpNetwork] = []
    authentication: TrunkAuthentication = TrunkAuthentication.ADDRESS
    user: SipUser = Field("", description="who sends, by digest; its password is made at the start")
    certificate_names: list[HostName] = Field(
        default=[], description="hosts or domains of which its certificate names one"
    )
    is_trusted: bool = Field(True, alias="trusted", description="believe its P-Asserted-Identity")
    allow_refer: bool = Field(False, description="let its far ends transfer our side of a call")
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
    codecs: Codecs = Field(default=[], description="the preferred one first; the tenant's if empty")
    codec_order: CodecOrder = Field(
        CodecOrder.OURS, description="whose order of codecs counts, where `codecs` are given"
    )
    srtp: SrtpPolicy = Field(SrtpPolicy.OFF, description="whether media is encrypted")
    digits: DigitWay = Field(DigitWay.AUTO, description="how keys go and come")
    landing_code: LandingCodeSource = LandingCodeSource.NONE
    landing_code_header: HeaderName | None = None
    landing_code_pattern: BoundedPattern | None = None

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for is_wrong, reason, remedy in self._faults():
            if is_wrong:
                raise explained(reason, remedy)
        return self

    def _faults(self) -> Iterator[tuple[bool, Words, Words]]:
        is_digest = self.authentication is TrunkAuthentication.DIGEST
        is_certified = self.authentication is TrunkAuthentication.CERTIFICATE
        names_header = self.landing_code is LandingCodeSource.HEADER
        own = self.register_
        yield (
            not (self.addresses or self.user or self.certificate_names or self.server),
            Words("中继既不收也不发", "the trunk neither sends nor is sent to"),
            Words("写 addresses、server 或 user", "add addresses, server or user"),
        )
        yield (
            is_digest != bool(self.user),
            Words("authentication: digest 与 user 要一起写", "digest and a user go together"),
            Words("补上另一项,或都删去", "add the other one, or remove both"),
        )
        yield (
            is_certified != bool(self.certificate_names),
            Words(
                "authentication: certificate 与 certificate_names 要一起写",
                "certificate and certificate_names go together",
            ),
            Words("补上另一项,或都删去", "add the other one, or remove both"),
        )
        yield (
            own is not None and not (self.server or own.registrars),
            Words("不知道到哪里注册", "register names no place to register at"),
            Words("写 register.registrars 或 server", "add register.registrars or server"),
        )
        yield (
            names_header != (self.landing_code_header is not None),
            Words(
                "landing_code: header 与 landing_code_header 要一起写",
                "landing_code: header and landing_code_header go together",
            ),
            Words("补上另一项,或都删去", "add the other one, or remove both"),
        )
        yield (
            self.outbound_reserve >= self.max_calls,
            Words(
                "outbound_reserve 没有给来电留通道", "outbound_reserve leaves callers no channel"
            ),
            Words("小于 max_calls", "make it less than max_calls"),
        )


class AccessCodeSettings(_Settings):
    """A number that callers dial, and the flow that serves it.

    `aliases` are other forms in which trunks send it, such as with an area code: 02195598.
    """

    code: DialledNumber
    flow: Name
    name: str = ""
    aliases: list[DialledNumber] = []
    default_language: Literal["zh", "en"] = "zh"
    landing_flows: dict[DialledNumber, Name] = Field(
        default={}, description="other flows by landing code; of prefixes the longest counts"
    )
    max_calls: int | None = Field(None, ge=1, description="no limit of its own unless given")
    max_calls_per_second: int | None = Field(None, ge=1)


class CallLimitSettings(_Settings):
    """How much a node takes, over all trunks."""

    max_calls: int = Field(4000, ge=1)
    max_calls_per_second: int = Field(1000, ge=1)
    max_wait_ms: int = Field(
        25, ge=5, le=5000, description="new calls are refused while all work waits for longer"
    )

    @property
    def load(self) -> LoadLimits:
        """The same for the control of the load."""
        return LoadLimits(wait_s=self.max_wait_ms / 1000)
