"""Ask for digits."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from cti.call import CollectEnd
from domain.words import Words
from ivr.context import Context
from ivr.expressions import Expression
from ivr.model import FlowModel, Key, Milliseconds, Name, Node, Prompt, Target
from ivr.problems import model_fault

_TERMINATOR_WAIT_MS = 1000  # short: who pressed the last digit waits for the answer


class CollectExits(FlowModel):
    """Where to go afterwards."""

    ok: Target
    timeout: Target
    invalid: Target
    cancelled: Target | None = None


class CollectNode(Node):
    """Collects digits into a variable, again when none or wrong ones come."""

    kind: Literal["collect"]
    text: Prompt
    into: Name
    min_digits: Annotated[int, Field(ge=1, le=32)] = 1
    max_digits: Annotated[int, Field(ge=1, le=32)]
    terminator: Key | Literal[""] = "#"
    cancel_key: Key | Literal[""] = ""
    valid_when: Expression | None = None
    """A condition over the variable itself, checked after the length."""
    no_input_text: Prompt | None = None
    invalid_text: Prompt | None = None
    repeats: Annotated[int, Field(ge=1, le=10)] = 3
    first_digit_timeout_ms: Milliseconds = 8000
    inter_digit_timeout_ms: Milliseconds = 4000
    barge_in: bool = True
    secret: bool = False
    """Hides the digits from events, agents and records."""
    exits: CollectExits

    listens: ClassVar[bool] = True

    @model_validator(mode="after")
    def _agree(self) -> CollectNode:
        if self.min_digits > self.max_digits:
            raise model_fault(
                "collect_lengths",
                Words("min_digits 大于 max_digits", "min_digits is above max_digits"),
                Words("改小 min_digits", "make min_digits smaller"),
            )
        if bool(self.cancel_key) != bool(self.exits.cancelled):
            raise model_fault(
                "collect_cancel",
                Words("cancel_key 与 exits.cancelled 必须同时给出",
                      "cancel_key and exits.cancelled need each other"),
                Words("两个都写或都不写", "give both or neither"),
            )  # fmt: skip
        if self.cancel_key and self.cancel_key == self.terminator:
            raise model_fault(
                "collect_cancel",
                Words("cancel_key 与 terminator 是同一个键", "cancel_key is also the terminator"),
                Words("换一个键", "choose another key"),
            )
        return self

    def defines(self, exit_name: str) -> frozenset[str]:
        """Return the variable where digits were accepted."""
        return frozenset({self.into}) if exit_name == "ok" else frozenset()

    async def run(self, context: Context) -> str:
        """Ask until valid digits come."""
        complaint: Prompt | None = None
        outcome = "timeout"
        for _ in range(self.repeats):
            digits = await self._ask(context, complaint)
            context.digits = "" if self.secret else digits
            if self.cancel_key and self.cancel_key in digits:
                return "cancelled"
            if self._accepts(context, digits):
                return "ok"
            outcome = "invalid" if digits else "timeout"
            complaint = self.invalid_text if digits else self.no_input_text
            if digits:
                context.call.flush_digits()
        await context.play(complaint)
        return outcome

    async def _ask(self, context: Context, complaint: Prompt | None) -> str:
        # the first key is taken alone, so that the cancel key acts at once
        first = await context.collect(
            complaint,
            self.text,
            terminators=self.terminator,
            first_digit_timeout_ms=self.first_digit_timeout_ms,
            barge_in=self.barge_in,
        )
        digits = first.digits
        if first.end is not CollectEnd.COMPLETE or digits == self.cancel_key:
            return digits
        if self.max_digits == 1:
            return digits
        rest = await context.collect(
            max_digits=self.max_digits - 1,
            terminators=self.terminator,
            first_digit_timeout_ms=self.inter_digit_timeout_ms,
            inter_digit_timeout_ms=self.inter_digit_timeout_ms,
        )
        digits += rest.digits
        if rest.end is CollectEnd.COMPLETE and self.terminator:
            digits += await self._beyond_last(context)
        return digits

    async def _beyond_last(self, context: Context) -> str:
        """Take the terminator after the last possible digit, and see whether there are more.

        Left in the buffer it would choose in the menu that follows.
        """
        beyond = await context.collect(
            terminators=self.terminator, first_digit_timeout_ms=_TERMINATOR_WAIT_MS
        )
        return beyond.digits

    def _accepts(self, context: Context, digits: str) -> bool:
        """Set the variable if the digits are valid."""
        if not self.min_digits <= len(digits) <= self.max_digits or not digits.isdigit():
            return False
        before = context.lookup(self.into)
        context.set(self.into, digits, secret=self.secret)
        if self.valid_when is None or self.valid_when.is_true(context.lookup):
            return True
        context.set(self.into, before, secret=self.secret)
        return False
