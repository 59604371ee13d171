"""A flow that was checked and can run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from domain.yaml_source import Place, YamlSource
from ivr.model import FlowModel, Language, Name, Node, Target


class Header(FlowModel):
    """The top of a flow's file."""

    flow: Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")]
    title: str = ""
    languages: Annotated[tuple[Language, ...], Field(min_length=1)] = ("zh",)
    start: Target
    inputs: tuple[Name, ...] = ()
    """Variables that are set before the flow begins."""
    nodes: Annotated[dict[str, Any], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Step:
    """A node and where its exits lead."""

    node: Node
    targets: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Flow:
    """One version of a flow; calls keep the version they began with."""

    name: str
    title: str
    version: str
    """SHA-256 of the file's text, first 12 hex digits."""
    file: Path
    languages: tuple[str, ...]
    start: str
    steps: Mapping[str, Step]
    source: YamlSource

    def line(self, node: str, place: Place) -> int:
        """Return the line of a field of a node."""
        return self.source.line(("nodes", node, *place))
