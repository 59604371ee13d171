"""The media engine's counts among the metrics, read when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class MediaMetrics(Collector):
    """Registered while its block runs."""

    def __init__(self, figures: Callable[[], Mapping[str, int]]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        for name, value in self._figures().items():
            yield GaugeMetricFamily(f"media_{name}", f"Media engine: {name}", value)

    def __enter__(self) -> Self:
        REGISTRY.register(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        REGISTRY.unregister(self)
