"""The parts of a load scenario, as its author writes them in YAML.

Every time is written with its unit in the name. Nothing here acts: `loadtest.generator` plays a
scenario, `loadtest.figures` holds what came of it. Files stand beside the scenario; once
`loadtest.scenario.loader` has read it their paths are absolute.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0, le=86_400)]
PerSecond = Annotated[float, Field(gt=0, le=5000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# ── When calls begin ──────────────────────────────────────────────────────────────────────────────
class Steady(_Part):
    """The same distance between any two calls."""

    kind: Literal["steady"] = "steady"
    per_s: PerSecond


class Ramp(_Part):
    """A rate that grows, or falls, in a straight line over the whole run."""

    kind: Literal["ramp"]
    from_per_s: PerSecond
    to_per_s: PerSecond


class Poisson(_Part):
    """Callers who know nothing of each other: distances are exponential."""

    kind: Literal["poisson"]
    per_s: PerSecond


class Profile(_Part):
    """A busy hour: rates at points of the run, straight lines between them, Poisson within."""

    kind: Literal["profile"]
    points: tuple[tuple[Seconds, Annotated[float, Field(ge=0, le=5000)]], ...] = Field(min_length=2)
    """Second of the run and calls a second there, in order. The first rate holds before the first
    point, the last after the last; two points at one second are a jump."""


Arrival = Annotated[Steady | Ramp | Poisson | Profile, Field(discriminator="kind")]


# ── What a caller does ────────────────────────────────────────────────────────────────────────────
class Dial(_Part):
    """Calls a number and waits for the answer."""

    do: Literal["dial"]
    number: str
    answer_within_s: Seconds = 30
    expect_status: Annotated[int, Field(ge=200, le=699)] = 200
    """The final status that is right: another than 200 for callers who must be refused."""


class ExpectPrompt(_Part):
    """Listens until a prompt is recognised."""

    do: Literal["expect_prompt"]
    file: str = ""
    """The sound to hear, a WAV file beside the scenario; empty: any sound."""
    within_s: Seconds = 10


class ExpectAgent(_Part):
    """Waits until an agent's voice is there instead of music."""

    do: Literal["expect_agent"]
    within_s: Seconds = 60


class Press(_Part):
    """Presses keys."""

    do: Literal["press"]
    keys: Annotated[str, Field(pattern=r"^[0-9*#A-D]+$")]
    by: Literal["rfc4733", "info"] = "rfc4733"


class Speak(_Part):
    """Speaks a file, and waits for its end unless it loops."""

    do: Literal["speak"]
    file: str
    loop: bool = False


class Stay(_Part):
    """Stays on the line for a while, or for a time drawn between two limits."""

    do: Literal["hold"]
    s: Seconds
    up_to_s: Seconds | None = None


class HangUp(_Part):
    """Hangs up; a caller without this step waits for the far end to do so."""

    do: Literal["hang_up"]


class ExpectHangUp(_Part):
    """Waits for the far end to hang up."""

    do: Literal["expect_hang_up"]
    within_s: Seconds = 30


CallerStep = Annotated[
    Dial | ExpectPrompt | ExpectAgent | Press | Speak | Stay | HangUp | ExpectHangUp,
    Field(discriminator="do"),
]


class Sipp(_Part):
    """A sipp scenario, and what its keywords stand for."""

    file: str
    """The XML file beside the scenario."""
    service: str = "service"
    """`[service]`: the number dialled (sipp's -s)."""
    pause_s: Seconds = 0
    """How long a `<pause/>` is that does not say so (-d)."""
    fields: str = ""
    """A file of `[field0]`, `[field1]`, ... a call (-inf)."""
    keys: dict[str, str] = {}
    """Keywords of the author's own (-key)."""


class Callers(_Part):
    """Callers of one kind: when they come and what they do."""

    name: str = "callers"
    arrival: Arrival
    max_at_once: Annotated[int, Field(ge=1, le=20_000)] = 20_000
    """Further calls wait for a place; how many did is reported."""
    steps: tuple[CallerStep, ...] = ()
    sipp: Sipp | None = None
    """In place of `steps`."""


# ── What agents do ────────────────────────────────────────────────────────────────────────────────
class Agents(_Part):
    """Agents with a phone and a toolbar each."""

    count: Annotated[int, Field(ge=1, le=10_000)]
    sign_ins_per_s: PerSecond = 20
    answer_after_s: Seconds = 0
    talk_s: Seconds = 2
    """How long after the answer the agent hangs up; 0: the caller does."""
    speak: str = ""
    """A WAV file the agent speaks, looped; a tone when empty."""
    after_call_work_s: Seconds = 0
    """How long until the agent is ready again."""


class Registrations(_Part):
    """Phones that register, and refresh when all have."""

    phones: Annotated[int, Field(ge=1, le=50_000)]
    per_s: PerSecond


# ── The whole ─────────────────────────────────────────────────────────────────────────────────────
class Platform(_Part):
    """What is loaded: a platform of the run's own, with this flow and these queues' agents."""

    flow: str = ""
    """A flow file beside the scenario, bound to the number dialled; empty: no flow is called."""
    workers: Annotated[int, Field(ge=1, le=8)] = 1


class Threshold(_Part):
    """A bound on a figure of the report, by its name in the JSON file."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None


class Changes(_Part):
    """What the smoke form of a target changes: little load, and no bound that time decides.

    The warm-up, and the points of a profile, shrink with the duration.
    """

    duration_s: Seconds
    per_s: PerSecond | None = None
    """The peak of every arrival, whose shape stays, and the rate of registrations."""
    agents: int | None = None
    phones: int | None = None
    max_at_once: int | None = None
    longest_hold_s: Seconds | None = None
    """No `hold` lasts longer."""
    thresholds: tuple[Threshold, ...] = ()
    """In place of the scenario's."""


class Scenario(_Part):
    """One run of load."""

    name: str
    says: str = ""
    """What the run is for, in a sentence."""
    duration_s: Seconds
    """How long calls are begun."""
    warm_up_s: Seconds = 0
    """Calls begun in this time at first are not counted."""
    settle_s: Seconds = 0
    """How long the platform is watched after the last call, to see what it has left behind."""
    seed: int = 1
    platform: Platform = Platform()
    callers: tuple[Callers, ...] = ()
    agents: Agents | None = None
    registrations: Registrations | None = None
    thresholds: tuple[Threshold, ...] = ()
    smoke: Changes | None = None
