"""A scenario is read as it was meant, and every fault names its line, reason and remedy."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from cti import audio
from loadtest import measured_run
from loadtest.figures.names import NAMES
from loadtest.scenario.loader import ScenarioError, load_scenario
from loadtest.scenario.model import Dial, Poisson, Profile, Ramp, Scenario, Speak, Stay

GOOD = """\
name: busy
duration_s: 60
warm_up_s: 6
platform: {flow: hello.yaml}
callers:
  - name: bill
    arrival: {kind: steady, per_s: 100}
    steps:
      - {do: dial, number: 95598}
      - {do: expect_prompt, file: hello.wav}
      - {do: press, keys: 1}
      - {do: speak, file: hello.wav}
      - {do: hold, s: 1, up_to_s: 3.5}
      - {do: hang_up}
  - name: fault
    arrival: {kind: profile, points: [[0, 0], [30, 50], [60, 0]]}
    steps:
      - {do: dial, number: 95598, expect_status: 503}
agents: {count: 10, speak: hello.wav}
registrations: {phones: 20, per_s: 5}
thresholds:
  - {figure: failed, at_most: 0}
smoke:
  duration_s: 6
  per_s: 5
  agents: 2
  phones: 3
  max_at_once: 9
  thresholds:
    - {figure: completed, at_least: 1}
"""
FLOW = """\
flow: hello
start: bye
nodes:
  bye: {kind: hangup, text: 再见。}
"""
DIALS = "[{{arrival: {{kind: steady, per_s: {}}}, steps: [{{do: dial, number: 1}}]}}]"
FIGURES = ("failed", "completed")
CALLER = Path(measured_run.__file__).parent / "scenarios" / "queue_caller.xml"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    audio.write_tone(tmp_path / "hello.wav", 440, 100)
    audio.write_wav(tmp_path / "empty.wav", audio.silence(0))
    (tmp_path / "noise.wav").write_bytes(b"no sound at all")
    (tmp_path / "hello.yaml").write_text(FLOW)
    (tmp_path / "broken.yaml").write_text(
        "flow: broken\nstart: nowhere\nnodes:\n  bye: {kind: hangup}\n"
    )
    return tmp_path / "scenario.yaml"


def load(place: Path, text: str, *, smoke: bool = False) -> Scenario:
    place.write_text(dedent(text))
    return load_scenario(place, smoke=smoke, figures=FIGURES)


def problems_of(place: Path, text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        load(place, text)
    return [str(problem) for problem in caught.value.problems]


def test_a_scenario_is_read_with_whole_paths_and_numbers_as_written(place: Path) -> None:
    scenario = load(place, GOOD)
    sound = str(place.parent / "hello.wav")
    dial, _, _, speak, stay, _ = scenario.callers[0].steps
    assert isinstance(dial, Dial)
    assert dial.number == "95598"
    assert isinstance(speak, Speak)
    assert speak.file == sound
    assert isinstance(stay, Stay)
    assert (stay.s, stay.up_to_s) == (1, 3.5)
    assert scenario.platform.flow == str(place.parent / "hello.yaml")
    assert scenario.agents is not None
    assert scenario.agents.speak == sound


def test_the_smoke_form_is_the_same_run_in_little(place: Path) -> None:
    scenario = load(place, GOOD, smoke=True)
    assert (scenario.duration_s, scenario.smoke) == (6, None)
    assert scenario.warm_up_s == pytest.approx(0.6)
    assert peak(scenario, 0) == 5
    profile = scenario.callers[1].arrival
    assert isinstance(profile, Profile)
    assert profile.points == ((0, 0), (3, 5), (6, 0))
    assert {one.max_at_once for one in scenario.callers} == {9}
    assert scenario.agents is not None
    assert scenario.registrations is not None
    assert (scenario.agents.count, scenario.registrations.phones) == (2, 3)
    assert scenario.registrations.per_s == 5
    assert [one.figure for one in scenario.thresholds] == ["completed"]
    assert load(place, GOOD.partition("smoke:")[0], smoke=True).duration_s == 60


def peak(scenario: Scenario, at: int) -> float:
    arrival = scenario.callers[at].arrival
    assert not isinstance(arrival, Ramp | Poisson | Profile)
    return arrival.per_s


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        # what a field alone tells
        ("warm_up_s: 6", "warmup_s: 6", 3, ["[warmup_s]", "did you mean warm_up_s", "是否想写"]),
        ("duration_s: 60", "duration_s: soon", 2, ["[duration_s]", "number is expected"]),
        ("duration_s: 60", "duration_s: 86401", 2, ["[duration_s]", "86400"]),
        ("duration_s: 60", "", 1, ["[duration_s]", "missing"]),
        ("name: busy", "name: busy\nname: b", 2, ["twice"]),
        ("name: busy", "name: [", 1, ["bracket", "add } or ]"]),
        ("per_s: 100", "per_s: 6000", 7, ["callers[0].arrival", "5000"]),
        ("per_s: 100", "per_s: nan", 7, ["callers[0].arrival"]),
        ("kind: profile", "kind: profil", 16, ["no kind: profil", "did you mean profile"]),
        ("do: press, keys", "do: pres, keys", 11, ["no do: pres", "did you mean press"]),
        ("do: press, keys", "do: press, key", 11, ["[callers[0].steps[2].key]", "mean keys"]),
        ("{do: hang_up}", "{hang_up: 1}", 14, ["callers[0].steps[5]", "do is missing"]),
        ("keys: 1", "keys: 1E", 11, ["callers[0].steps[2].keys", "0-9*#A-D"]),
        ("flow: hello", "flows: hello", 4, ["platform.flows", "did you mean flow"]),
        ("count: 10", "count: 0", 19, ["agents.count", "at least 1"]),
        # what parts tell together
        ("warm_up_s: 6", "warm_up_s: 60", 3, ["takes all of the run", "shorter than duration_s"]),
        ("name: fault", "name: bill", 15, ["'bill' is there already", "rename"]),
        ("{do: dial, number: 95598}", "{do: hold, s: 1}", 9, ["first step is not dial"]),
        ("{do: hold, s: 1,", "{do: dial, number: 1} #", 13, ["dials at first, and once"]),
        ("number: 95598, exp", "number: '', exp", 18, ["number", "empty"]),
        ("do: press, keys: 1", "do: hang_up", 12, ["nothing comes after hang_up"]),
        ("do: press, keys: 1", "do: expect_hang_up", 12, ["nothing comes after expect_hang_up"]),
        ("number: 95598}", "number: 95598, expect_status: 486}", 10, ["after expect_status: 486"]),
        ("up_to_s: 3.5", "up_to_s: 0.5", 13, ["upper limit is below", "at least 1"]),
        ("[30, 50], [60, 0]", "[30, 50], [20, 0]", 16, ["points[2]", "not in order"]),
        ("[60, 0]]", "[61, 0]]", 16, ["points[2]", "second 61 is after the end at 60"]),
        ("[30, 50]", "[30, 0]", 16, ["all rates are zero"]),
        ("[30, 50]", "[30, 4950]", 5, ["5050 calls a second in all", "lower the rates"]),
        ("figure: failed", "figure: faild", 22, ["no 'faild'", "did you mean failed"]),
        ("figure: completed", "figure: complete", 30, ["smoke.thresholds[0]", "mean completed"]),
        ("at_most: 0", "at_most: inf", 22, ["thresholds[0].at_most", "no finite number"]),
        (", at_most: 0", "", 22, ["bounds nothing", "at_least or at_most"]),
        ("at_most: 0", "at_most: 0, at_least: 1", 22, ["no number keeps both"]),
        # files
        ("expect_prompt, file: hello", "expect_prompt, file: helo", 10, ["did you mean hello.wav"]),
        ("speak, file: hello", "speak, file: noise", 12, ["noise.wav cannot be played", "PCM"]),
        ("speak, file: hello.wav", "speak, file: ''", 12, ["file", "empty"]),
        ("speak: hello.wav", "speak: empty.wav", 19, ["no sound in"]),
        ("flow: hello.yaml", "flow: no/flow.yaml", 4, ["no/flow.yaml cannot be read"]),
    ],
)
def test_a_fault_is_named(place: Path, old: str, new: str, line: int, words: list[str]) -> None:
    assert old in GOOD
    found = problems_of(place, GOOD.replace(old, new, 1))
    assert any(
        f"scenario.yaml:{line}:" in problem and all(word in problem for word in words)
        for problem in found
    ), found
    assert all("Remedy: " in problem and "改法:" in problem for problem in found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["1: ", "docs/loadtest.md"]),
        ("name: n\nduration_s: 1\n", ["loads nothing", "callers, agents or registrations"]),
        (
            "name: n\nduration_s: 1\ncallers: [{arrival: {kind: steady, per_s: 1}}]",
            ["3: ", "either steps or sipp", "give one of them"],
        ),
        (
            f"name: n\nduration_s: 0\ncallers: {DIALS.format(1)}",
            ["2: ", "no call begins"],
        ),
        (
            f"name: n\nduration_s: 86400\ncallers: {DIALS.format(100)}",
            ["2: ", "8640000 calls"],
        ),
    ],
)
def test_a_scenario_that_cannot_be_meant_is_refused(
    place: Path, text: str, words: list[str]
) -> None:
    found = problems_of(place, text)
    assert any(all(word in problem for word in words) for problem in found), found


def test_faults_of_the_flow_are_those_of_its_own_file(place: Path) -> None:
    found = problems_of(place, GOOD.replace("flow: hello.yaml", "flow: broken.yaml"))
    assert any("broken.yaml:2:" in problem and "nowhere" in problem for problem in found), found


def test_a_file_that_cannot_be_read_says_why(place: Path) -> None:
    with pytest.raises(ScenarioError, match=r"missing\.yaml:1: .*No such file"):
        load_scenario(place.with_name("missing.yaml"))
    place.write_bytes("name: é\n".encode("latin-1"))
    with pytest.raises(ScenarioError, match="not UTF-8"):
        load_scenario(place)


def test_figures_that_are_not_known_here_are_not_judged(place: Path) -> None:
    place.write_text(GOOD.replace("figure: failed", "figure: anything"))
    assert load_scenario(place).thresholds[0].figure == "anything"


@pytest.mark.parametrize(
    ("timer", "words"),
    [
        ("answer", []),
        ("anser", ["no sipp scenario has rtd='anser'", "did you mean answer"]),
        ("agent", ["没有 sipp 场景用 rtd 记录计时“agent”", "use one of answer"]),
    ],
)
def test_a_threshold_on_a_timer_names_one_that_there_is(
    place: Path, timer: str, words: list[str]
) -> None:
    place.write_text(
        "name: n\nduration_s: 1\n"
        f"callers: [{{arrival: {{kind: steady, per_s: 1}}, sipp: {{file: {CALLER}}}}}]\n"
        f"thresholds: [{{figure: rtd_{timer}_p99_ms, at_most: 1}}]\n"
    )
    found = []
    try:
        load_scenario(place, figures=NAMES)
    except ScenarioError as error:
        found = [str(problem) for problem in error.problems]
    assert len(found) == bool(words), found
    assert all(word in found[0] for word in words)


def test_a_threshold_on_a_timer_without_a_sipp_scenario_says_what_to_do(place: Path) -> None:
    place.write_text(GOOD.replace("figure: failed", "figure: rtd_answer_p99_ms"))
    with pytest.raises(ScenarioError, match="write rtd at a step"):
        load_scenario(place, figures=NAMES)
