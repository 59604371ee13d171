"""What the demo tells while it runs, and what it has checked."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was found, and where to look when it is wrong."""

    zh: str
    en: str
    passed: bool
    found: str
    look_at: str


class Story:
    """Tells each step in a line, and keeps the checks."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()
        self.checks: list[Check] = []

    @property
    def passed(self) -> bool:
        """Whether there were checks and all went well."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def duration_s(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._begun_s

    def tell(self, zh: str, en: str) -> None:
        """Say what happens now."""
        console.print(f"[dim]{self.duration_s:6.1f} s[/dim]  {escape(zh)} · {escape(en)}")

    def heading(self, zh: str, en: str) -> None:
        """Begin a part of the report."""
        console.print(f"\n[bold]{escape(zh)} · {escape(en)}[/bold]")

    def line(self, text: str) -> None:
        """Print a line of the report."""
        console.print(f"  {escape(text)}")

    def check(self, passed: bool, zh: str, en: str, found: str, look_at: str = "") -> bool:
        """Note a check; return whether it passed."""
        self.checks.append(Check(zh, en, passed, found, look_at))
        return passed

    def verdict(self) -> None:
        """Print all checks, the failed ones with where to look."""
        self.heading("核对", "Checks")
        for check in self.checks:
            mark = "[green]✓[/green]" if check.passed else "[red]✗[/red]"
            console.print(
                f"  {mark} {escape(check.zh)} · {escape(check.en)}: {escape(check.found)}"
            )
            if not check.passed and check.look_at:
                console.print(f"      [red]看这里 · look at[/red] {escape(check.look_at)}")
        failed = sum(not check.passed for check in self.checks)
        total = len(self.checks)
        if failed:
            self.tell(f"{total} 项核对中 {failed} 项未通过", f"{failed} of {total} checks failed")
        else:
            self.tell(f"{total} 项核对全部通过", f"all {total} checks passed")
