"""What all nodes of a flow share: prompts, exits, and how the checker walks over them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StringConstraints,
    model_validator,
)

from domain.words import Words
from domain.yaml_source import Place
from ivr.expressions import Expression, Template
from ivr.problems import model_fault
from ivr.spoken import LANGUAGES

if TYPE_CHECKING:
    from ivr.context import Context

Target = Annotated[str, StringConstraints(min_length=1, max_length=64)]
"""The name of the node to go to."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]
"""A variable."""

Value = Annotated[
    StrictBool | StrictInt | StrictFloat | Template, Field(union_mode="left_to_right")
]
"""A fixed value, or a text whose holes are filled when it is needed."""

Key = Annotated[str, StringConstraints(pattern=r"^[0-9*#]$")]
"""One key of the telephone."""

Language = Annotated[str, StringConstraints(pattern="^(" + "|".join(LANGUAGES) + ")$")]

Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]


class FlowModel(BaseModel):
    """Strict about names, lenient about numbers written without quotes."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Prompt(FlowModel):
    """What callers hear: a text a language, and the key of a recorded file that precedes it."""

    texts: dict[str, Template]
    key: Annotated[str, StringConstraints(pattern=r"^[\w./-]*$", max_length=100)] = ""

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: object) -> object:
        """Accept a plain Chinese text, or languages and key side by side."""
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return {"texts": {"zh": value}}
        if not isinstance(value, dict):
            raise model_fault(
                "prompt",
                Words("应当是一段话,或各语言的话", "must be a text, or a text a language"),
                Words("写成 {zh: …, en: …}", "write {zh: …, en: …}"),
            )
        texts = {name: text for name, text in value.items() if name != "key"}
        for name in texts.keys() - LANGUAGES.keys():
            raise model_fault(
                "prompt",
                Words(f"不认识语言“{name}”", f"language {name!r} is not known"),
                Words(f"用其中之一:{'、'.join(LANGUAGES)}", f"use one of {', '.join(LANGUAGES)}"),
            )
        return {"texts": texts, "key": value.get("key", "")}

    @model_validator(mode="after")
    def _not_empty(self) -> Prompt:
        if not (self.texts or self.key) or ".." in self.key:
            raise model_fault(
                "prompt",
                Words("没有内容", "has no content"),
                Words("写上 zh 和 en,或录音的 key", "give zh and en, or the key of a recording"),
            )
        return self

    def text(self, language: str) -> Template | None:
        """Return the text in the language, else in Chinese, else in whichever there is."""
        for choice in (language, "zh", *self.texts):
            if choice in self.texts:
                return self.texts[choice]
        return None


class Node(FlowModel, ABC):
    """One step of a flow. Subclasses add their fields, their exits and `run`."""

    kind: str
    note: str = ""
    """A remark for people."""

    listens: ClassVar[bool] = False
    """Whether it waits for the caller or an agent, which ends loops."""
    next_exits: ClassVar[tuple[str, ...]] = ("done",)
    """The exits that lead to `next`."""

    def edges(self) -> Iterator[tuple[str, Place, str]]:
        """Yield each exit with the place and name of its target."""
        target = getattr(self, "next", None)
        if target is not None:
            for exit_name in self.next_exits:
                yield exit_name, ("next",), target
        exits = getattr(self, "exits", None)
        if exits is not None:
            for exit_name in type(exits).model_fields:
                if (target := getattr(exits, exit_name)) is not None:
                    yield exit_name, ("exits", exit_name), target

    def defines(self, exit_name: str) -> frozenset[str]:  # noqa: ARG002 - for subclasses
        """Return the variables that are set when the node is left by this exit."""
        return frozenset()

    @abstractmethod
    async def run(self, context: Context) -> str:
        """Do the step and return the exit."""


def leaves(value: object, place: Place = ()) -> Iterator[tuple[Place, object]]:
    """Yield prompts, templates, expressions and plain values of a model with their places."""
    if isinstance(value, Prompt | Template | Expression):
        yield place, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from leaves(getattr(value, name), (*place, name))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*place, name))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*place, index))
    elif value is not None:
        yield place, value


def prompts_of(node: Node) -> Iterator[tuple[Place, Prompt]]:
    """Yield what callers may hear at this node."""
    for place, leaf in leaves(node):
        if isinstance(leaf, Prompt):
            yield place, leaf


def variables_read(node: Node) -> Iterator[tuple[Place, str]]:
    """Yield the variables the node reads."""
    for place, leaf in leaves(node):
        if isinstance(leaf, Prompt):
            for language, text in leaf.texts.items():
                yield from (((*place, language), name) for name in text.names)
        elif isinstance(leaf, Template | Expression):
            yield from ((place, name) for name in leaf.names)
