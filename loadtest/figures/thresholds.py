"""Whether a run's figures are within the bounds its scenario sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from loadtest.figures.causes import FAILED_BY_CAUSE
from loadtest.scenario.model import Threshold


class Judgement(BaseModel):
    """One threshold and what came of it."""

    model_config = ConfigDict(frozen=True)

    threshold: Threshold
    value: float | None
    """None: the run has no such figure."""
    holds: bool
    zh: str
    en: str


def judge(thresholds: Iterable[Threshold], figures: Mapping[str, float]) -> list[Judgement]:
    """Judge each; a figure that has no value does not hold."""
    return [_judge(one, _value(one.figure, figures)) for one in thresholds]


def _value(name: str, figures: Mapping[str, float]) -> float | None:
    # A cause that no call failed by is not listed, and is a count all the same.
    if name.startswith(FAILED_BY_CAUSE) and "offered" in figures:
        return figures.get(name, 0.0)
    return figures.get(name)


def _judge(threshold: Threshold, value: float | None) -> Judgement:
    if value is None:
        return Judgement(
            threshold=threshold,
            value=None,
            holds=False,
            zh="本次运行没有此项数据",
            en="this run has no such figure",
        )
    bounds = []
    holds = threshold.at_least is not None or threshold.at_most is not None
    if threshold.at_least is not None:
        holds = holds and value >= threshold.at_least
        bounds.append(("不低于", "at least", threshold.at_least))
    if threshold.at_most is not None:
        holds = holds and value <= threshold.at_most
        bounds.append(("不高于", "at most", threshold.at_most))
    return Judgement(
        threshold=threshold,
        value=value,
        holds=holds,
        zh="、".join(f"{zh} {bound:g}" for zh, _, bound in bounds) or "没有写界限",
        en=", ".join(f"{en} {bound:g}" for _, en, bound in bounds) or "has no bound",
    )
