"""What a process of the platform can do, and the ports that it takes."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from node.config import PlatformSettings
from node.listeners import check_port


class Service(StrEnum):
    """What a process can do; by default all."""

    SIP = "sip"  # calls: signalling, media, flows, queues
    AGENTS = "agents"  # toolbars over gRPC
    REPORTS = "reports"  # events into records
    HTTP = "http"  # /healthz and /metrics


ALL_SERVICES = frozenset(Service)


def check_ports(settings: PlatformSettings, services: Collection[Service]) -> None:
    """Tell of a taken port now, not after stores have started and prompts were made.

    Raises PlatformError CONFIG_INVALID.
    """
    if Service.HTTP in services:
        check_port("http", "tcp", settings.http.host, settings.http.port)
    if Service.AGENTS in services:
        check_port("grpc", "tcp", settings.grpc.host, settings.grpc.port)
    if Service.SIP in services:
        for one in settings.sip.listen:
            check_port("sip", one.transport, one.host, one.port)
