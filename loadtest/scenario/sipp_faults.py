"""What is wrong with a sipp scenario, gathered while it is read."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

from domain.document_problems import Problem, instead
from domain.words import Words
from loadtest.scenario.sipp_steps import Part
from loadtest.scenario.sipp_template import TemplateError, parse_parts
from loadtest.scenario.xml_source import Element


class Faults:
    """Problems of one file, and the small readings that give rise to them."""

    def __init__(self, file: Path, keys: Collection[str], folders: Collection[Path]) -> None:
        """`folders` are where files that the scenario names are looked for, besides its own."""
        self.problems: list[Problem] = []
        self.keys = keys
        self._file = file
        self._folders = (*folders, file.parent)

    def say(self, line: int, reason: Words, remedy: Words) -> None:
        """Add a problem."""
        self.problems.append(Problem(str(self._file), line, "", reason, remedy))

    def unknown_element(self, element: Element, known: Collection[str]) -> None:
        """Say that there is no such element, or that it is none of ours."""
        name = element.name
        self.say(
            element.line,
            Words(f"不支持 <{name}>", f"<{name}> is not supported"),
            instead(name, known),
        )

    def check_attributes(self, element: Element, known: Collection[str]) -> None:
        """Say which attributes are not known: none is passed over in silence."""
        for name in element.attributes:
            if name not in known:
                self.say(
                    element.line,
                    Words(
                        f"<{element.name}> 不支持属性 {name}",
                        f"the attribute {name} of <{element.name}> is not supported",
                    ),
                    instead(name, sorted(known)),
                )

    def missing(self, element: Element, attribute: str) -> None:
        """Say that an attribute is missing."""
        self.say(
            element.line,
            Words(f"<{element.name}> 缺少属性 {attribute}",
                  f"the attribute {attribute} of <{element.name}> is missing"),
            Words(f"补上 {attribute}", f"add {attribute}"),
        )  # fmt: skip

    def flag(self, element: Element, attribute: str) -> bool:
        """Read a truth value; absent is false."""
        value = element.attributes.get(attribute, "false").strip().lower()
        if value in {"true", "1", "yes", "on"}:
            return True
        if value not in {"false", "0", "no", "off"}:
            self.say(
                element.line,
                Words(
                    f"{attribute}=“{value}”不是真假值", f"{attribute}={value!r} is no truth value"
                ),
                Words("写 true 或 false", "write true or false"),
            )
        return False

    def number(
        self,
        element: Element,
        text: str,
        attribute: str,
        *,
        least: float = 0,
        most: float = 86_400_000,
    ) -> float:
        """Read a number within bounds; what is none is said and counts as the least."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if least <= value <= most:
            return value
        self.say(
            element.line,
            Words(f"{attribute}=“{text}”不是合适的数", f"{attribute}={text!r} is no fit number"),
            Words(f"写 {least:g} 到 {most:g} 的数", f"write a number from {least:g} to {most:g}"),
        )
        return least

    def parts(self, text: str, line: int) -> tuple[Part, ...]:
        """Read a text with keywords."""
        try:
            return parse_parts(text, self.keys)
        except TemplateError as error:
            self.say(line + error.line, error.reason, error.remedy)
            return ()

    def found(self, name: str, line: int) -> Path | None:
        """Return the file of this name, or say that there is none."""
        for folder in self._folders:
            path = folder / name
            if path.is_file():
                return path.resolve()
        folder = self._file.parent
        self.say(
            line,
            Words(f"没有文件 {folder / name}", f"there is no file {folder / name}"),
            Words("把它放在场景旁边", "put it beside the scenario"),
        )
        return None
