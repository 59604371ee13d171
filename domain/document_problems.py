"""Every fault of a document in words for who edits it, with file, line and path."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from domain.validation_words import validation_words
from domain.words import Words
from domain.yaml_source import Place, YamlSource, YamlSyntaxError


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a document, in words for the person who edits it."""

    file: str
    line: int
    path: str
    reason: Words
    remedy: Words

    def __str__(self) -> str:
        place = f" [{self.path}]" if self.path else ""
        return (
            f"{self.file}:{self.line}: 错误{place} {self.reason.zh}。改法:{self.remedy.zh}。\n"
            f"    error{place}: {self.reason.en}. Remedy: {self.remedy.en}."
        )


class UnreadableError(Exception):
    """A document of which nothing could be read."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read_document(path: Path, *, max_bytes: int, most_values: int, name: Words) -> YamlSource:
    """Read a YAML file, scalars as text; `name` is where its path was given, for the remedy.

    Raises UnreadableError.
    """

    def unread(line: int, reason: Words, remedy: Words) -> UnreadableError:
        return UnreadableError(Problem(str(path), line, "", reason, remedy))

    try:
        if path.stat().st_size > max_bytes:
            reason = Words("文件太大", "the file is too large")
            raise unread(1, reason, Words("缩短它", "shorten it"))
        return YamlSource(path.read_text(encoding="utf-8"), numbers=False, most_values=most_values)
    except OSError as error:
        why = error.strerror
        reason = Words(f"读不了文件:{why}", f"the file cannot be read: {why}")
        raise unread(1, reason, Words(f"改正 {name.zh}", f"correct {name.en}")) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        remedy = Words("另存为 UTF-8 编码", "save it as UTF-8")
        raise unread(line, Words("不是 UTF-8 编码", "not UTF-8"), remedy) from None
    except YamlSyntaxError as error:
        raise unread(error.line, error.reason, error.remedy) from None


_MISSING = Words("缺少此项", "the field is missing"), Words("补上它", "add it")
_UNKNOWN = Words("没有这一项", "there is no such field")
_MISSPELT = Words("删去它,或改正拼写", "remove it or correct its spelling")


def validation_problems(
    error: ValidationError, source: YamlSource, file: str, model: type[BaseModel] | None = None
) -> list[Problem]:
    """Translate pydantic's errors; with the document's `model`, fields that exist are named."""
    problems: dict[Place, Problem] = {}
    for fault in error.errors(include_url=False):
        place = _written(source, fault)
        if place in problems:
            continue  # one problem a place, though each member of a union complains
        reason, remedy = _words(fault, model)
        problems[place] = Problem(file, source.line(place), place_text(place), reason, remedy)
    return list(problems.values())


def instead(word: str, known: Iterable[str]) -> Words:
    """Return what to write in place of a word that is not known here."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return Words(f"是否想写 {close[0]}", f"did you mean {close[0]}")
    return Words(f"用其中之一:{'、'.join(names)}", f"use one of {', '.join(names)}")


def _words(fault: ErrorDetails, model: type[BaseModel] | None) -> tuple[Words, Words]:
    context = fault.get("ctx", {})
    match fault["type"]:
        case "missing":
            return _MISSING
        case "extra_forbidden":
            *inside, last = fault["loc"]
            known = list(_fields_at(model, inside)) if model else []
            hint = instead(str(last), known)
            spelt = Words(f"{_MISSPELT.zh}({hint.zh})", f"{_MISSPELT.en} ({hint.en})")
            return _UNKNOWN, spelt if known else _MISSPELT
        case "union_tag_not_found":
            name = str(context["discriminator"]).strip("'")
            reason = Words(f"缺少 {name}", f"{name} is missing")
            return reason, Words(f"补上 {name}", f"add {name}")
        case "union_tag_invalid":
            name, tag = str(context["discriminator"]).strip("'"), str(context["tag"])
            known = [one.strip(" '") for one in str(context["expected_tags"]).split(",")]
            reason = Words(f"没有“{name}: {tag}”", f"there is no {name}: {tag}")
            return reason, instead(tag, known)
    return validation_words(fault)


def _fields_at(model: type[BaseModel], inside: list[str | int]) -> Iterator[str]:
    """Yield the names of the fields there; `inside` holds tags of unions as pydantic adds them."""
    here: list[type[BaseModel]] = [model]
    for part in inside:
        if isinstance(part, int):
            continue
        fields = [one.model_fields[part] for one in here if part in one.model_fields]
        if fields:
            here = [found for field in fields for found in _models(field.annotation)]
        else:
            here = [one for one in here if part in _tags(one)] or here
    for one in here:
        yield from one.model_fields


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation speaks of, in tuples, lists and unions too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in {Union, types.UnionType, Annotated, tuple, list, dict}:
        for inner in get_args(annotation):
            yield from _models(inner)


def _tags(model: type[BaseModel]) -> set[str]:
    """Return what a tagged union calls this model."""
    fields = model.model_fields.values()
    return {str(tag) for field in fields for tag in get_args(field.annotation)}


def _written(source: YamlSource, fault: ErrorDetails) -> Place:
    """Drop what pydantic adds to a location (tags of unions) and the document does not hold."""
    place: Place = ()
    *inside, last = fault["loc"] or ("",)
    for part in inside:
        if source.has((*place, part)):
            place = (*place, part)
    is_written = source.has((*place, last)) or fault["type"] == "missing"
    place = (*place, last) if is_written else place
    tag = str(fault.get("ctx", {}).get("discriminator", "")).strip("'")
    return (*place, tag) if tag and source.has((*place, tag)) else place


def place_text(place: Place) -> str:
    """Write a place as people do: `tenants[0].queues[2].name`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
