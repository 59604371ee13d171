"""What ports of a node do with files of the node's: of each port the latest use alone counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cti.media import PortId
from cti95598.media.v1 import media_pb2 as pb

I = TypeVar("I")  # noqa: E741 - an id of the engine's


@dataclass(frozen=True, slots=True)
class FileUse:
    """Files that are played, or listened for."""

    number: int
    """The node's, for the engine's id."""
    files: Sequence[pb.PromptFile]
    loop: bool = False


class FileUses(Generic[I]):
    """Uses of one kind: those in progress, by the engine's id, and those that wait for files."""

    def __init__(self) -> None:
        self._uses: dict[I, FileUse] = {}
        self._of_port: dict[PortId, I] = {}
        self._waiting: dict[PortId, FileUse] = {}

    def number(self, started: I) -> int:
        """Translate an id into the node's."""
        return self._uses[started].number

    def get(self, started: I) -> FileUse | None:
        """Return a use; None: another one has taken its place."""
        return self._uses.get(started)

    def begin(self, port: PortId, started: I, use: FileUse) -> None:
        """Note a use that has begun, in place of the former one of its port."""
        self.end(port)
        self._of_port[port] = started
        self._uses[started] = use

    def end(self, port: PortId) -> None:
        """Forget the use of a port, unless it waits for files."""
        started = self._of_port.pop(port, None)
        if started is not None:
            del self._uses[started]

    def end_of(self, port: PortId, started: I) -> None:
        """Forget this use of a port, if it still is the latest one."""
        if self._of_port.get(port) == started:
            self.end(port)

    def wait(self, port: PortId, use: FileUse) -> None:
        """Keep a use until its files are there."""
        self._waiting[port] = use

    def stop_waiting(self, port: PortId) -> FileUse | None:
        """Forget what waits; return it."""
        return self._waiting.pop(port, None)

    def waiting_for(self, wants: Callable[[FileUse], bool]) -> list[tuple[PortId, FileUse]]:
        """Return what waits for certain files."""
        return [(port, use) for port, use in self._waiting.items() if wants(use)]

    def forget(self, port: PortId) -> None:
        """Forget everything of a port."""
        self._waiting.pop(port, None)
        self.end(port)
