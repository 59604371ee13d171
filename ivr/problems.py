"""What is wrong with a flow, said so that its designer can mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic_core import PydanticCustomError

from domain.words import Words


class Severity(StrEnum):
    """An error keeps the flow from being taken into use; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: where it is, what is wrong and how to mend it. `line` 0 is the whole file."""

    severity: Severity
    rule: str
    """Stable name of the rule, for tests and tools."""
    file: Path
    line: int
    node: str
    reason: Words
    remedy: Words

    @property
    def is_error(self) -> bool:
        """Whether the flow cannot be used."""
        return self.severity is Severity.ERROR

    @property
    def place(self) -> str:
        """`file:line`, as editors understand it."""
        return f"{self.file}:{self.line}" if self.line else str(self.file)

    def __str__(self) -> str:
        node = f" [{self.node}]" if self.node else ""
        zh = "错误" if self.is_error else "提醒"
        return (
            f"{self.place}: {zh}{node} {self.reason.zh}。改法:{self.remedy.zh}。\n"
            f"    {self.severity}{node}: {self.reason.en}. Remedy: {self.remedy.en}."
        )


_NO_REMEDY = Words("见流程说明 docs/flows.md", "see docs/flows.md")


def model_fault(rule: str, reason: Words, remedy: Words = _NO_REMEDY) -> PydanticCustomError:
    """Return the error a model's validator raises; the loader turns it into a `Problem`."""
    words = {
        "rule": rule,
        "zh": reason.zh,
        "en": reason.en,
        "remedy_zh": remedy.zh,
        "remedy_en": remedy.en,
    }
    # the type is a template parameter only for pydantic's own errors
    return PydanticCustomError("flow_fault", "{en}", words)
