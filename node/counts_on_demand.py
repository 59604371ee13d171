"""Counts that parts of a node keep anyway among the metrics, read when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class CountsOnDemand(Collector):
    """Registered while its block runs; names begin with `prefix`."""

    def __init__(self, prefix: str, title: str, figures: Callable[[], Mapping[str, int]]) -> None:
        self._prefix = prefix
        self._title = title
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        for name, value in self._figures().items():
            yield GaugeMetricFamily(f"{self._prefix}_{name}", f"{self._title}: {name}", value)

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
