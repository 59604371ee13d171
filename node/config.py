"""The configuration of a node: one YAML file, checked as a whole before any of it takes effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    TypeAdapter,
    ValidationError,
)

from agents.settings import AgentSettings
from cti.media_policy import DigitWay, MediaPolicy
from cti.sdp import SrtpPolicy
from cti.settings import (
    AccessCodeSettings,
    CallLimitSettings,
    MediaSettings,
    Name,
    Port,
    SipSettings,
    TrunkSettings,
)
from cti.trunks.directory import AmbiguousError, TrunkDirectory
from cti.trunks.number_lists import CallerPolicy, prefix_table
from cti.trunks.settings import (
    CallerPolicySettings,
    CodecOrder,
    Codecs,
    OutboundSettings,
    media_policy,
)
from cti.trunks.tenant_access import TenantAccess
from domain.document_problems import (
    Problem,
    UnreadableError,
    place_text,
    read_document,
    validation_problems,
)
from domain.failures import Code, PlatformError
from domain.ids import NodeId, TenantId
from domain.words import Words
from domain.yaml_source import Place, YamlSource
from node.clients import ClientSettings
from node.number_files import NumberFiles, caller_policy
from node.signalling import tls_problems
from routing.settings import Id, QueueSettings

DEMO_CONFIG = Path(__file__).parent / "defaults" / "demo.yaml"
_MAX_FILE_BYTES = 16 * 1024 * 1024
_MOST_VALUES = 2_000_000  # five thousand tenants with all that is theirs

_HTTP_URL = TypeAdapter(HttpUrl)


def _http_url(value: str) -> str:
    return str(_HTTP_URL.validate_python(value))


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GrpcSettings(_Settings):
    """Where toolbars and other clients connect."""

    host: str = "127.0.0.1"
    port: Port = 50051


class HttpSettings(_Settings):
    """Where /healthz and /metrics are."""

    host: str = "127.0.0.1"
    port: Port = 8095


class BusinessSettings(_Settings):
    """The business system of a tenant, which flows query."""

    url: Annotated[str, AfterValidator(_http_url)]
    timeout_ms: int = Field(3000, ge=100, le=60_000)


class TenantSettings(_Settings):
    """One virtual call centre (虚拟呼叫中心)."""

    id: Name
    name: str = ""
    sip_domain: str = ""
    """The domain its phones register with; tenants without one share the platform's."""
    access_codes: list[AccessCodeSettings] = Field(min_length=1)
    trunks: list[TrunkSettings] = Field(min_length=1)
    queues: list[QueueSettings] = []
    agents: list[AgentSettings] = []
    phones: list[Id] = []
    """SIP users of phones that belong to no agent."""
    clients: list[ClientSettings] = []
    """Programs with a token and rights of their own."""
    business: BusinessSettings | None = None
    callers: CallerPolicySettings = CallerPolicySettings()
    outbound: OutboundSettings = OutboundSettings()
    codecs: Codecs = []
    """Of its phones, the preferred one first; and of trunks that name none."""
    codec_order: CodecOrder = CodecOrder.OURS
    """Whose order of codecs counts, where `codecs` are given."""
    srtp: SrtpPolicy = SrtpPolicy.OPTIONAL
    """Whether its phones' media is encrypted."""
    digits: DigitWay = DigitWay.AUTO
    """How keys go to and come from its phones."""

    @property
    def media(self) -> MediaPolicy:
        """The rules of its phones' media."""
        return media_policy(self.codecs, self.codec_order, self.srtp, self.digits, MediaPolicy())

    @property
    def tenant_id(self) -> TenantId:
        """The id as its type."""
        return TenantId(self.id)

    @property
    def all_phones(self) -> list[str]:
        """Every SIP user that may register."""
        return list(dict.fromkeys([*(agent.phone for agent in self.agents), *self.phones]))


class PlatformSettings(_Settings):
    """The whole file."""

    node: Name = "node1"
    sip: SipSettings = SipSettings()
    media: MediaSettings = MediaSettings()
    limits: CallLimitSettings = CallLimitSettings()
    grpc: GrpcSettings = GrpcSettings()
    http: HttpSettings = HttpSettings()
    flows: Path = Path("flows")
    """Directory of the flows, from the place of this file."""
    callers: CallerPolicySettings = CallerPolicySettings()
    """Black and white lists that hold for all tenants."""
    tenants: list[TenantSettings] = Field(min_length=1)

    @property
    def node_id(self) -> NodeId:
        """The node's name as its type."""
        return NodeId(self.node)

    @property
    def queue_ids(self) -> frozenset[str]:
        """The queues of all tenants, who share the flows."""
        return frozenset(queue.id for tenant in self.tenants for queue in tenant.queues)


class ConfigError(PlatformError):
    """A configuration that cannot be used, with every fault found in it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__(Code.CONFIG_INVALID, "\n".join(str(problem) for problem in problems))


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration that was checked."""

    settings: PlatformSettings
    path: Path
    numbers: Mapping[Path, list[str]] = field(default_factory=dict)
    """What stands in the files of numbers, by path as written."""

    @property
    def callers(self) -> CallerPolicy:
        """Who may call any tenant."""
        return caller_policy(self.settings.callers, self.numbers)

    def access(self) -> list[TenantAccess]:
        """How calls of all tenants come in and go out."""
        return [self._access(tenant) for tenant in self.settings.tenants]

    def _access(self, tenant: TenantSettings) -> TenantAccess:
        mobiles = tenant.outbound.home_mobiles_file
        return TenantAccess(
            tenant.tenant_id,
            tenant.trunks,
            tenant.access_codes,
            caller_policy(tenant.callers, self.numbers),
            tenant.outbound,
            prefix_table(self.numbers[mobiles]) if mobiles else None,
            tenant.media,
        )

    @property
    def flows(self) -> Path:
        """The flows' directory."""
        return (self.path.parent / self.settings.flows).resolve()


def load_config(path: Path) -> Config:
    """Read and check a file; raises ConfigError with all of its faults."""
    file = str(path)
    name = Words("--config", "--config")
    try:
        source = read_document(path, max_bytes=_MAX_FILE_BYTES, most_values=_MOST_VALUES, name=name)
    except UnreadableError as error:
        raise ConfigError([error.problem]) from None
    if not isinstance(source.data, dict):
        reason = Words("文件里没有配置", "the file holds no settings")
        remedy = Words(f"参照 {DEMO_CONFIG}", f"see {DEMO_CONFIG}")
        raise ConfigError([Problem(file, 1, "", reason, remedy)])
    try:
        settings = PlatformSettings.model_validate(source.data)
    except ValidationError as error:
        raise ConfigError(validation_problems(error, source, file, PlatformSettings)) from None
    files = NumberFiles(path.resolve().parent)
    config = Config(settings, path.resolve(), files.entries)
    problems = list(_CrossCheck(config, source, file, files).problems())
    if problems:
        raise ConfigError(problems)
    return config


class _CrossCheck:
    """What one field alone cannot tell: names that must exist, and names that must differ."""

    def __init__(self, config: Config, source: YamlSource, file: str, files: NumberFiles) -> None:
        self._config = config
        self._files = files
        self._source = source
        self._file = file

    def problems(self) -> Iterator[Problem]:
        tenants = self._config.settings.tenants
        yield from self._twice(("tenants",), "id", (t.id for t in tenants))
        domains = [t.sip_domain.lower() or f" {at}" for at, t in enumerate(tenants)]
        yield from self._twice(("tenants",), "sip_domain", domains)
        yield from self._flows()
        for at, tenant in enumerate(tenants):
            yield from self._tenant(("tenants", at), tenant)
        yield from self._phones()
        yield from self._ports()
        for place, reason, remedy in tls_problems(
            self._config.settings.sip, self._config.path.parent
        ):
            yield self._at(place, reason, remedy)
        unread = list(self._number_files())
        if unread:
            yield from unread
            return
        try:
            TrunkDirectory(self._config.access())
        except AmbiguousError as error:
            line = self._source.line(("tenants", *error.other))
            reason = Words(
                f"{error.reason.zh};另一处在第 {line} 行",
                f"{error.reason.en}; the other one is at line {line}",
            )
            remedy = Words("让每个来电只有一个去向", "give each call one place to go")
            yield self._at(("tenants", *error.place), reason, remedy)

    def _at(self, path: Place, reason: Words, remedy: Words) -> Problem:
        line = self._source.line(path)
        return Problem(self._file, line, place_text(path), reason, remedy)

    def _twice(self, path: Place, field: str, names: Iterable[str]) -> Iterator[Problem]:
        seen: dict[str, int] = {}
        for at, name in enumerate(names):
            if name in seen:
                first = self._source.line((*path, seen[name], field))
                where = (*path, at, field)
                reason = Words(
                    f"“{name}”在第 {first} 行已有", f"{name!r} is there already, at line {first}"
                )
                yield self._at(where, reason, Words("改名其中一个", "rename one"))
            seen.setdefault(name, at)

    def _flows(self) -> Iterator[Problem]:
        if not self._config.flows.is_dir():
            place = self._config.flows
            reason = Words(f"{place} 不是目录", f"{place} is not a directory")
            yield self._at(("flows",), reason, Words("改正路径", "correct the path"))

    def _tenant(self, path: Place, tenant: TenantSettings) -> Iterator[Problem]:
        yield from self._twice((*path, "queues"), "id", (q.id for q in tenant.queues))
        yield from self._twice((*path, "agents"), "id", (a.id for a in tenant.agents))
        yield from self._twice((*path, "clients"), "id", (c.id for c in tenant.clients))
        yield from self._trunks_out(path, tenant)
        queues = {queue.id for queue in tenant.queues}
        for at, agent in enumerate(tenant.agents):
            for nth, queue in enumerate(agent.queues):
                if queue not in queues:
                    known = ", ".join(sorted(queues)) or "none"
                    yield self._at(
                        (*path, "agents", at, "queues", nth),
                        Words(f"没有队列“{queue}”", f"there is no queue {queue!r}"),
                        Words(
                            f"用其中之一:{known};或增加队列",
                            f"use one of: {known}; or add the queue",
                        ),
                    )
        if not self._config.flows.is_dir():
            return
        flows: list[tuple[Place, str]] = []
        for at, code in enumerate(tenant.access_codes):
            place = (*path, "access_codes", at)
            flows.append(((*place, "flow"), code.flow))
            landing = code.landing_flows.items()
            flows += [((*place, "landing_flows", number), flow) for number, flow in landing]
        for place, flow in flows:
            file = self._config.flows / f"{flow}.yaml"
            if not file.is_file():
                yield self._at(
                    place,
                    Words(f"没有流程“{flow}”", f"there is no flow {flow!r}"),
                    Words(f"增加文件 {file},或改正名字", f"add {file} or correct the name"),
                )

    def _number_files(self) -> Iterator[Problem]:
        settings = self._config.settings
        policies: list[tuple[Place, CallerPolicySettings]] = [(("callers",), settings.callers)]
        places: list[tuple[Place, Path | None]] = []
        for at, tenant in enumerate(settings.tenants):
            policies.append((("tenants", at, "callers"), tenant.callers))
            mobiles = tenant.outbound.home_mobiles_file
            places.append((("tenants", at, "outbound", "home_mobiles_file"), mobiles))
        for policy_place, policy in policies:
            lists = (*policy_place, "lists")
            yield from self._twice(lists, "name", (one.name for one in policy.lists))
            places += [((*lists, nth, "file"), one.file) for nth, one in enumerate(policy.lists)]
        for place, path in places:
            if path is None:
                continue
            try:
                yield from self._files.read(path)
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "not UTF-8"
                yield self._at(
                    place,
                    Words(f"读不了文件 {path}:{why}", f"{path} cannot be read: {why}"),
                    Words("改正路径或文件", "correct the path or the file"),
                )

    def _trunks_out(self, path: Place, tenant: TenantSettings) -> Iterator[Problem]:
        with_server = sorted(trunk.name for trunk in tenant.trunks if trunk.server)
        for at, name in enumerate(tenant.outbound.trunks):
            if name not in with_server:
                known = ", ".join(with_server) or "none"
                yield self._at(
                    (*path, "outbound", "trunks", at),
                    Words(f"没有可外呼的中继“{name}”", f"no trunk {name!r} has a server"),
                    Words(
                        f"用其中之一:{known};或给中继写 server",
                        f"use one of: {known}; or give the trunk a server",
                    ),
                )

    def _phones(self) -> Iterator[Problem]:
        """A phone is known by user and domain, and each is one agent's."""
        owners: dict[tuple[str, str], Place] = {}
        for at, tenant in enumerate(self._config.settings.tenants):
            places: list[tuple[str, Place]] = [
                (agent.phone, ("tenants", at, "agents", nth, "phone"))
                for nth, agent in enumerate(tenant.agents)
            ]
            places += [
                (phone, ("tenants", at, "phones", nth)) for nth, phone in enumerate(tenant.phones)
            ]
            for phone, path in places:
                key = (tenant.sip_domain.lower(), phone)
                if key in owners:
                    line = self._source.line(owners[key])
                    yield self._at(
                        path,
                        Words(
                            f"话机“{phone}”在第 {line} 行已有",
                            f"phone {phone!r} is used already, at line {line}",
                        ),
                        Words(
                            "换一个,或给租户写 sip_domain",
                            "use another, or give the tenant a sip_domain",
                        ),
                    )
                owners.setdefault(key, path)

    def _ports(self) -> Iterator[Problem]:
        settings = self._config.settings
        taken = Counter(
            [(settings.grpc.host, settings.grpc.port), (settings.http.host, settings.http.port)]
            + [(one.host, one.port) for one in settings.sip.listen if one.transport != "udp"]
        )
        for (host, port), count in taken.items():
            if count > 1 and port:
                reason = Words(
                    f"TCP {host}:{port} 用了 {count} 次",
                    f"{host}:{port} over TCP is given {count} times",
                )
                yield self._at((), reason, Words("用不同的端口", "use different ports"))
