from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cti import audio
from node.commands.call import Press, call_command, parse_presses

app = typer.Typer()
app.command("call")(call_command)


@pytest.mark.parametrize(
    ("text", "presses"),
    [
        ("", ()),
        ("1", (Press("1", None),)),
        ("1@4s, 0@20.5s", (Press("1", 4.0), Press("0", 20.5))),
        ("12345678#,1@3", (Press("12345678#", None), Press("1", 3.0))),
        ("*a", (Press("*A", None),)),
    ],
)
def test_presses_are_keys_with_or_without_a_time(text: str, presses: tuple[Press, ...]) -> None:
    assert parse_presses(text) == presses


@pytest.mark.parametrize("text", ["x", "1@", "1@soon", "1@4s0", "@3"])
def test_other_presses_are_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match="write keys"):
        parse_presses(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sip:127.0.0.1"], "says no number"),
        (["95598"], "is no SIP address"),
        (["sip:95598@127.0.0.1", "--tone", "5"], "between 20 and 3999"),
        (["sip:95598@127.0.0.1", "--press", "1@soon"], "write keys"),
        (["sip:95598@127.0.0.1", "--transport", "tls"], "udp or tcp"),
        (["sip:95598@127.0.0.1", "--duration", "-1"], "--duration"),
        (["sip:95598@nowhere.invalid"], "no such host"),
        (["sip:95598@127.0.0.1", "--play", "stereo.wav"], "2 channels"),
        (["sip:95598@127.0.0.1", "--play", "text.wav"], "not a WAV file"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mono = audio.write_tone(tmp_path / "stereo.wav", 440, 100).read_bytes()
    Path("stereo.wav").write_bytes(mono[:22] + b"\x02\x00" + mono[24:])
    Path("text.wav").write_text("la la la")
    result = CliRunner(env={"TERM": "dumb", "COLUMNS": "300"}).invoke(app, arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_an_address_that_is_not_ours_is_told_without_a_traceback() -> None:
    result = CliRunner().invoke(app, ["sip:95598@localhost", "--local-ip", "192.0.2.1"])
    assert result.exit_code == 1
    assert "192.0.2.1" in result.output
    assert isinstance(result.exception, SystemExit)
