"""Lists of numbers that the configuration keeps in files of their own, read and checked with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cti.trunks.number_lists import CallerPolicy, NumberList, NumberTable, read_entries
from cti.trunks.settings import CallerPolicySettings
from domain.document_problems import Problem
from domain.words import Words

_MAX_FILE_BYTES = 64 * 1024 * 1024
_MOST_PROBLEMS = 10  # a file that is no list has them in every line

_NOT_A_NUMBER = Words("不是号码或号码前缀", "this is neither a number nor a prefix")
_WRITE_NUMBER = Words(
    "每行一个号码,前缀以 * 结尾,例如 0571*;备注写在号码之后",
    "write one number a line, a prefix with * at its end such as 0571*, remarks behind it",
)


@dataclass(slots=True)
class NumberFiles:
    """The files read so far, by path as configured."""

    directory: Path
    entries: dict[Path, list[str]] = field(default_factory=dict)

    def read(self, path: Path) -> Iterator[Problem]:
        """Read a file, unless it was read before; yield what is wrong with its lines.

        OSError or UnicodeDecodeError where it cannot be read at all.
        """
        if path in self.entries:
            return
        place = self.directory / path
        if place.stat().st_size > _MAX_FILE_BYTES:
            raise OSError(0, "the file is too large")
        self.entries[path], wrong = read_entries(place.read_text(encoding="utf-8"))
        for line in wrong[:_MOST_PROBLEMS]:
            yield Problem(str(place), line, "", _NOT_A_NUMBER, _WRITE_NUMBER)


def caller_policy(
    settings: CallerPolicySettings, entries: Mapping[Path, list[str]]
) -> CallerPolicy:
    """Put a policy together from the configuration and the files it names."""
    return CallerPolicy(
        tuple(
            NumberList(
                one.name,
                one.kind,
                NumberTable([*one.numbers, *(entries[one.file] if one.file else ())]),
            )
            for one in settings.lists
        ),
        settings.anonymous,
        settings.blocked_status,
    )
