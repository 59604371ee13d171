"""Many workers on one machine: the name, the ports and the part of the RTP range of each.

Worker K of a node NAME is the node NAME-K. Each port of the configuration is the first worker's;
the next ones add a step for each. The RTP range is cut into equal parts, in order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cti.settings import ListenSettings
from domain.document_problems import Problem, place_text
from domain.loopback import is_loopback
from domain.words import Words
from domain.yaml_source import Place, YamlSource
from node.config import Config, ConfigError, PlatformSettings

MOST_WORKERS = 16
PORT_STEP = 10
"""Room for the ports that belong together, such as 5060 for UDP and TCP and 5061 for TLS."""

_LAST_PORT = 65_535
_LONGEST_NAME = 64
# A party of a call takes two, for RTP and RTCP: ten calls with both parties.
_LEAST_RTP_PORTS = 40


@dataclass(frozen=True, slots=True)
class Worker:
    """One of so many."""

    number: int
    """From 1."""
    workers: int
    step: int = PORT_STEP

    @classmethod
    def parse(cls, text: str) -> Worker:
        """Read `2/4+10` as `str` writes it; ValueError."""
        number, _, rest = text.partition("/")
        workers, _, step = rest.partition("+")
        return cls(int(number), int(workers), int(step))

    def __str__(self) -> str:
        return f"{self.number}/{self.workers}+{self.step}"

    def name(self, node: str) -> str:
        """Return its node's name."""
        return f"{node}-{self.number}"

    def port(self, first: int) -> int:
        """Return the port that stands for the first worker's; zero, any free one, stays."""
        return first + (self.number - 1) * self.step if first else 0


def worker_config(config: Config, worker: Worker) -> Config:
    """Return the configuration of one worker; `check_workers` comes first."""
    settings = config.settings
    low, high = _rtp_range(settings, worker)
    listen = [one.model_copy(update={"port": worker.port(one.port)}) for one in settings.sip.listen]
    changes = {
        "node": worker.name(settings.node),
        "sip": settings.sip.model_copy(update={"listen": listen}),
        "media": settings.media.model_copy(update={"port_min": low, "port_max": high}),
        "grpc": settings.grpc.model_copy(update={"port": worker.port(settings.grpc.port)}),
        "http": settings.http.model_copy(update={"port": worker.port(settings.http.port)}),
    }
    return replace(config, settings=settings.model_copy(update=changes))


def workers_of(count: int, step: int = PORT_STEP) -> list[Worker]:
    """Return them all."""
    return [Worker(number, count, step) for number in range(1, count + 1)]


def dispatcher_list(configs: list[Config]) -> str:
    """Write the list of workers for Kamailio's dispatcher (deploy/kamailio)."""
    lines = ["# The workers, set 1; made by `cti95598 serve --workers`."]
    for config in configs:
        sip = config.settings.sip
        for one in sip.listen:
            if one.transport == "udp":
                host = one.advertised_host or _reachable(one, sip.advertised_host)
                lines.append(f"1 sip:{host}:{one.port} 0 0 rweight=50")
                break
    return "\n".join(lines) + "\n"


def check_workers(config: Config, workers: list[Worker]) -> None:
    """Raise ConfigError with all that keeps this configuration from serving so many."""
    found = list(_problems(config.settings, workers))
    if not found:
        return
    file = str(config.path)
    source = YamlSource(Path(file).read_text(encoding="utf-8"), numbers=False)
    raise ConfigError(
        [
            Problem(file, source.line(place), place_text(place), reason, remedy)
            for place, reason, remedy in found
        ]
    )


def _problems(
    settings: PlatformSettings, workers: list[Worker]
) -> Iterator[tuple[Place, Words, Words]]:
    last = workers[-1]
    if len(last.name(settings.node)) > _LONGEST_NAME:
        yield (
            ("node",),
            Words("加上 -序号 后名字太长", "with -NUMBER added the name is too long"),
            Words("取短一些", "choose a shorter one"),
        )
    yield from _port_problems(settings, workers)
    media = settings.media
    low, high = _rtp_range(settings, last)
    if media.engine_host is None and high - low + 1 < _LEAST_RTP_PORTS:
        needed = _LEAST_RTP_PORTS * len(workers)
        yield (
            ("media", "port_min"),
            Words(
                f"端口 {media.port_min}-{media.port_max} 分给 {len(workers)} 个进程,每个只有 "
                f"{max(0, high - low + 1)} 个",
                f"of the ports {media.port_min}-{media.port_max} each of {len(workers)} workers "
                f"gets only {max(0, high - low + 1)}",
            ),
            Words(
                f"至少给 {needed} 个端口,或减少 --workers",
                f"give {needed} ports at least, or fewer --workers",
            ),
        )
    host = media.engine_host
    if host is not None and not is_loopback(host):
        yield (
            ("media", "engine"),
            Words(
                "另一台机器上的媒体进程只认一个节点的令牌",
                "a media process on another machine knows the token of one node only",
            ),
            Words("用 inside,或本机的媒体进程", "use inside, or a media process on this machine"),
        )


def _port_problems(
    settings: PlatformSettings, workers: list[Worker]
) -> Iterator[tuple[Place, Words, Words]]:
    bases: list[tuple[Place, str, int]] = [
        (("grpc", "port"), "tcp", settings.grpc.port),
        (("http", "port"), "tcp", settings.http.port),
    ]
    for at, one in enumerate(settings.sip.listen):
        kind = "udp" if one.transport == "udp" else "tcp"
        bases.append((("sip", "listen", at, "port"), kind, one.port))
    users: defaultdict[tuple[str, int], list[Place]] = defaultdict(list)
    for place, kind, base in bases:
        last = workers[-1].port(base)
        if last > _LAST_PORT:
            yield (
                place,
                Words(
                    f"第 {len(workers)} 个进程的端口将是 {last}",
                    f"the port of worker {len(workers)} would be {last}",
                ),
                Words(
                    f"最大 {_LAST_PORT},取小一些的端口", f"{_LAST_PORT} is the last, begin lower"
                ),
            )
        for worker in workers if base else ():
            users[kind, worker.port(base)].append(place)
    for (_, port), places in users.items():
        # Equal ones of one worker, at different addresses, are the file's own affair.
        if len(set(places)) > 1 and len({_base(bases, place) for place in places}) > 1:
            yield (
                places[1],
                Words(
                    f"两个进程都会用端口 {port}({place_text(places[0])} 也到这里)",
                    f"two workers would use port {port}, which {place_text(places[0])} reaches too",
                ),
                Words(
                    f"端口不要相差 {workers[0].step} 的倍数,或改 --port-step",
                    f"keep ports from differing by a multiple of {workers[0].step}, "
                    "or change --port-step",
                ),
            )


def _base(bases: list[tuple[Place, str, int]], place: Place) -> int:
    return next(port for each, _, port in bases if each == place)


def _rtp_range(settings: PlatformSettings, worker: Worker) -> tuple[int, int]:
    """Return the first and the last port of a worker's part, which begins with an even one."""
    media = settings.media
    low = media.port_min + media.port_min % 2
    share = (media.port_max - low + 1) // worker.workers // 2 * 2
    first = low + (worker.number - 1) * share
    return first, first + share - 1


def _reachable(one: ListenSettings, advertised: str | None) -> str:
    host = advertised if advertised and not is_loopback(one.host) else one.host
    return f"[{host}]" if ":" in host else host
