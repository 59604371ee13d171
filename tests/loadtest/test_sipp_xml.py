"""Scenarios of sipp's own XML are understood; what is not supported is a fault with its line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cti import audio
from loadtest.rtp_capture import write_capture
from loadtest.scenario.captured import CaptureError, read_capture
from loadtest.scenario.loader import ScenarioError, load_scenario
from loadtest.scenario.sipp_steps import (
    Act,
    Keyword,
    Match,
    PlayCapture,
    PlaySound,
    PressKeys,
    Receive,
    Send,
    SippScenario,
    Wait,
)
from loadtest.scenario.sipp_xml import SippError, load_fields, load_sipp

FOLDERS = (Path(__file__).parents[2] / "loadtest" / "scenarios", Path(__file__).parent / "sipp")
OURS = sorted(file for folder in FOLDERS for file in folder.glob("*.xml"))
"""Of load runs, and further ones that sipp itself plays."""
GOOD = """\
<?xml version="1.0" encoding="UTF-8"?>
<scenario name="good">
  <send retrans="500" start_rtd="answer" lost="5">
    <![CDATA[

      INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
      Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
      From: <sip:[field0]@[local_ip]>;tag=[pid]c[call_number+10]
      To: <sip:[service]@[remote_ip]>
      Call-ID: [call_id]
      CSeq: [cseq] INVITE
      [authentication username=[field0] password=secret]
      Content-Length: [len]

      v=0
      m=audio [media_port+2] RTP/AVP 8

    ]]>
  </send>
  <recv response="100" optional="true"/>
  <recv response="200" rtd="answer" rrs="true" timeout="5000" ontimeout="end">
    <action>
      <ereg regexp="tag=([[:alnum:]]+)" search_in="hdr" header="To:" assign_to="all,tag"/>
      <log message="tag [$tag]"/>
    </action>
  </recv>
  <pause distribution="uniform" min="100" max="300"/>
  <nop next="end" test="tag" chance="0.5">
    <action>
      <exec play_pcap_audio="key.pcap"/>
      <exec rtp_stream="hello.wav,-1,8"/>
      <exec play_dtmf="12#"/>
    </action>
  </nop>
  <pause milliseconds="50"/>
  <label id="end"/>
  <recv request="BYE|INFO" regexp_match="true" crlf="true"/>
  <ResponseTimeRepartition value="10, 20"/>
</scenario>
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_capture(tmp_path / "key.pcap", frequency_hz=440, duration_ms=400, keys={100: "1"})
    audio.write_tone(tmp_path / "hello.wav", 440, 100)
    return tmp_path / "scenario.xml"


def load(place: Path, text: str) -> SippScenario:
    place.write_text(text)
    return load_sipp(place)


def problems_of(place: Path, text: str) -> list[str]:
    with pytest.raises(SippError) as caught:
        load(place, text)
    return [str(problem) for problem in caught.value.problems]


def test_steps_and_what_they_say_are_read(place: Path) -> None:
    scenario = load(place, GOOD)
    send, trying, answer, pause, act, fixed, bye = scenario.steps
    assert isinstance(send, Send)
    assert (send.retransmit_s, send.onward.lost, send.onward.starts_timer) == (0.5, 0.05, "answer")
    assert (send.message.method, send.message.cseq_method) == ("INVITE", "INVITE")
    assert send.message.header_lines[0] == (
        "INVITE sip:", Keyword("service"), "@", Keyword("remote_ip"), ":", Keyword("remote_port"),
        " SIP/2.0",
    )  # fmt: skip
    assert Keyword("call_number", 10) in send.message.header_lines[2]
    assert send.message.header_lines[6] == (
        Keyword("authentication", user=(Keyword("field", argument="0"),), password=("secret",)),
    )
    assert send.message.body == (
        "v=0", "\r\n", "m=audio ", Keyword("media_port", 2), " RTP/AVP 8", "\r\n",
    )  # fmt: skip
    assert isinstance(trying, Receive)
    assert trying.optional == "here"
    assert isinstance(answer, Receive)
    assert (answer.status, answer.timeout_s, answer.timeout_step) == ("200", 5.0, 6)
    assert answer.keeps_routes
    ereg = answer.actions[0]
    assert isinstance(ereg, Match)
    assert ereg.header == "to"
    assert ereg.assign_to == ("all", "tag")
    found = ereg.expression.search("<sip:a@b>;tag=x1y")
    assert found is not None
    assert found[1] == "x1y"
    assert isinstance(pause, Wait)
    assert (pause.kind, pause.first_s, pause.second_s) == ("uniform", 0.1, 0.3)
    assert isinstance(act, Act)
    assert (act.onward.next_step, act.onward.test, act.onward.chance) == (6, "tag", 0.5)
    capture, sound, keys = act.actions
    assert isinstance(capture, PlayCapture)
    assert [(round(at_s, 3), key) for at_s, key in capture.capture.keys] == [(0.1, "1")]
    assert isinstance(sound, PlaySound)
    assert (sound.file, sound.times) == (place.with_name("hello.wav"), 0)
    assert isinstance(keys, PressKeys)
    assert isinstance(fixed, Wait)
    assert fixed.first_s == 0.05
    assert isinstance(bye, Receive)
    assert bye.expression is not None
    assert scenario.longest_s(pause_s=60) == pytest.approx(5 + 0.3 + 0.05)
    assert scenario.dials
    assert scenario.needs_fields
    assert scenario.needs_media


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.stem)
def test_our_own_scenarios_for_sipp_are_understood(file: Path, place: Path) -> None:
    scenario = load_sipp(file, keys=["phones_port"], folders=[place.parent])
    assert scenario.dials == (file.stem not in {"carrier", "echo", "agent_phone"})


@pytest.mark.peer
@pytest.mark.parametrize("name", ["uac", "uas", "branchc", "regexp"])
def test_scenarios_of_sipp_itself_are_understood(name: str, tmp_path: Path) -> None:
    shown = subprocess.run(["sipp", "-sd", name], capture_output=True, text=True, check=False)
    (tmp_path / "sipp.xml").write_text(shown.stdout[shown.stdout.index("<?xml") :])
    scenario = load_sipp(tmp_path / "sipp.xml")
    assert scenario.dials == (name != "uas")


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("</send>", "</sent>", 19, ["not XML", "mismatched"]),
        ("</scenario>", "<pause/></scenarios>", 39, ["not XML", "mismatched"]),
        ("<ResponseTimeR", "<timewait/><pause/><ResponseTimeR", 38, ["after <timewait>"]),
        ("<send retrans", "<sendCmd/><send retrans", 3, ["<sendCmd> is not supported", "send"]),
        ("start_rtd=", "start_txn=", 3, ["start_txn of <send>", "did you mean start_rtd"]),
        ('retrans="500"', 'retrans="soon"', 3, ["retrans='soon' is no fit number"]),
        ('lost="5"', 'lost="500"', 3, ["lost='500'", "0 to 100"]),
        ("[remote_port]", "[remote_prot]", 6, ["[remote_prot]", "did you mean remote_port"]),
        ("[remote_port]", "[remote_port", 6, ["square bracket is not closed"]),
        ("[media_port+2]", "[tdmmap]", 16, ["the keyword [tdmmap] is not supported"]),
        ("password=secret", "aka_OP=0x0", 12, ["aka_OP is not supported in [authentication]"]),
        ("INVITE sip:", "Invite sip:", 6, ["neither a request nor a response"]),
        ("Call-ID: [call_id]", "Call-ID: 12", 6, ["no Call-ID by which the call is known"]),
        ("CSeq: [cseq] INVITE", "X: 1", 6, ["the request has no CSeq", "CSeq: 1 INVITE"]),
        ('response="200"', 'response="2000"', 21, ["'2000' is no status"]),
        ('response="200"', 'response="200" request="BYE"', 21, ["either request or response"]),
        ('rtd="answer" rrs', 'rtd="anser" rrs', 21, ["'anser' is never begun", "mean answer"]),
        ('rrs="true"', 'rrs="perhaps"', 21, ["rrs='perhaps' is no truth value"]),
        (' timeout="5000"', "", 21, ["ontimeout without timeout"]),
        ('ontimeout="end"', 'ontimeout="and"', 21, ["no label 'and'", "did you mean end"]),
        ('regexp="tag=(', 'regexp="tag=((', 23, ["the expression is wrong"]),
        ('assign_to="all,tag"', 'assign_to="a,b,c"', 23, ["3 variables for an expression of 1"]),
        ('assign_to="all,tag"', "", 23, ["assign_to of <ereg> is missing"]),
        ('header="To:"', "", 23, ["header of <ereg> is missing"]),
        ('search_in="hdr"', 'search_in="head"', 23, ["search_in='head'", "msg, hdr"]),
        ("<log message", "<assignstr message", 24, ["<assignstr> is not supported"]),
        ('distribution="uniform"', 'distribution="pareto"', 27, ["'pareto' is not supported"]),
        ('min="100"', 'min="400"', 27, ["max is below min"]),
        ('max="300"', "", 27, ["max of <pause> is missing"]),
        ('chance="0.5"', 'chance="5"', 28, ["chance='5' is no fit number"]),
        ('next="end" test', "test", 28, ["next of <nop> is missing"]),
        ("key.pcap", "kex.pcap", 30, ["no file", "kex.pcap", "beside the scenario"]),
        (
            "play_pcap_audio",
            "play_pcap_video",
            30,
            ["play_pcap_video of <exec>", "play_pcap_audio"],
        ),
        ("key.pcap", "hello.wav", 30, ["cannot be played", "no packet capture"]),
        ("hello.wav,-1", "key.pcap,-1", 31, ["cannot be played", "not a WAV"]),
        ("hello.wav,-1", "hello.wav,x", 31, ["'x' is no number of times"]),
        ("exec rtp_stream=", "exec command=", 31, ["command of <exec> is not supported"]),
        ('play_dtmf="12#"', 'play_dtmf="1-2"', 32, ["'1-2' are no keys"]),
        ('play_dtmf="12#"', 'int_cmd="stop_now"', 32, ["'stop_now' is not supported"]),
        ('<label id="end"/>', "<label/>", 36, ["id of <label> is missing"]),
        ('<label id="end"/>', '<label id="_unexp.main"/>', 36, ["'_unexp.main' is not supported"]),
        ('<recv request="BYE|INFO" regexp_match="true"', "<pause", 20, []),
    ],
)
def test_a_fault_is_named(place: Path, old: str, new: str, line: int, words: list[str]) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if not words:  # a step that is right is no fault
        load(place, text)
        return
    found = problems_of(place, text)
    assert any(
        f"scenario.xml:{line}:" in problem and all(word in problem for word in words)
        for problem in found
    ), found
    assert all("Remedy: " in problem and "改法:" in problem for problem in found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<senario/>", ["<senario> is not supported", "did you mean scenario"]),
        ("<scenario/>", ["1: ", "the scenario has no steps"]),
        ("<scenario><send/></scenario>", ["there is no message in this send"]),
        (
            '<scenario>\n<recv response="1" optional="true"/>\n<pause/></scenario>',
            ["2: ", "'1' is no status"],
        ),
        (
            '<scenario>\n<recv response="180" optional="true"/>\n<pause/></scenario>',
            ["2: ", "no recv that must come follows"],
        ),
        (
            '<!DOCTYPE s [<!ENTITY a "b">]>\n<scenario name="&a;"/>',
            ["1: ", "the entity a is not allowed"],
        ),
        ("no xml", ["1: ", "not XML"]),
    ],
)
def test_what_is_no_scenario_is_refused(place: Path, text: str, words: list[str]) -> None:
    found = problems_of(place, text)
    assert any(all(word in problem for word in words) for problem in found), found


def test_a_capture_is_read_as_the_sound_and_keys_that_were_written(tmp_path: Path) -> None:
    path = write_capture(
        tmp_path / "a.pcap", frequency_hz=1000, duration_ms=1000, keys={200: "5", 600: "#"}
    )
    capture = read_capture(path)
    assert [(round(at_s, 3), key) for at_s, key in capture.keys] == [(0.2, "5"), (0.6, "#")]
    assert capture.duration_s == pytest.approx(1.0)
    assert capture.sound.duration_ms == 1000
    tones = audio.tone_spans(capture.sound, 1000)
    assert [(span.start_ms, span.end_ms) for span in tones] == [(0, 200), (320, 600), (720, 1000)]
    assert audio.level_dbfs(capture.sound.between(0, 200)) == pytest.approx(-12.0, abs=0.3)
    with pytest.raises(CaptureError, match="cut off"):
        read_capture(_written(tmp_path, path.read_bytes()[:-1]))
    with pytest.raises(CaptureError, match="no RTP"):
        read_capture(_written(tmp_path, path.read_bytes()[:24]))


def _written(folder: Path, data: bytes) -> Path:
    path = folder / "damaged.pcap"
    path.write_bytes(data)
    return path


def test_fields_are_rows_of_texts_with_keywords(tmp_path: Path) -> None:
    table = tmp_path / "phones.csv"
    table.write_text("SEQUENTIAL\n# comment\n1001;[authentication username=1001 password=x]\n")
    ((user, authentication),) = load_fields(table)
    assert user == ("1001",)
    assert authentication == (Keyword("authentication", user=("1001",), password=("x",)),)
    table.write_text("RANDOM\n1001\n")
    with pytest.raises(SippError, match="not SEQUENTIAL"):
        load_fields(table)
    table.write_text("SEQUENTIAL\n1001;[nothing]\n")
    with pytest.raises(SippError, match=r"phones\.csv:2: .*\[nothing\]"):
        load_fields(table)


def test_a_load_scenario_tells_the_faults_of_its_sipp_scenario(place: Path) -> None:
    whole = place.with_name("whole.yaml")
    whole.write_text(
        "name: n\nduration_s: 1\ncallers:\n  - arrival: {kind: steady, per_s: 1}\n"
        "    sipp: {file: scenario.xml}\n"
    )
    place.write_text(GOOD.replace("[remote_port]", "[port]"))
    with pytest.raises(ScenarioError, match=r"(?s)scenario\.xml:6: .*\[port\]"):
        load_scenario(whole)
    place.write_text(GOOD)
    with pytest.raises(ScenarioError, match=r"(?s)whole\.yaml:5: .*uses \[field0\]"):
        load_scenario(whole)
    place.write_text('<scenario><recv request="INVITE"/></scenario>')
    with pytest.raises(ScenarioError, match=r"(?s)whole\.yaml:5: .*begins none"):
        load_scenario(whole)
