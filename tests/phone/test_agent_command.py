from __future__ import annotations

import socket
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from node.commands import agent as agent_module

app = typer.Typer()
app.command("agent")(agent_module.agent_command)


def run(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    passwords = {"CTI95598_PASSWORD": "a", "CTI95598_PHONE_PASSWORD": "b"}
    nowhere = str(tmp_path / "none.yaml")
    runner = CliRunner(env={"TERM": "dumb", "COLUMNS": "300", **passwords})
    result = runner.invoke(app, ["--agent", "1001", "--credentials", nowhere, *arguments])
    assert isinstance(result.exception, SystemExit)  # and no traceback
    return result.exit_code, result.output


def test_a_silent_registrar_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "_REGISTER_TIMEOUT_S", 0.1)
    with socket.socket(type=socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        status, output = run(tmp_path, "--sip", address)
    assert status == 1
    assert f"nothing answers SIP at {address}" in output


def test_an_unknown_host_is_told(tmp_path: Path) -> None:
    status, output = run(tmp_path, "--sip", "nowhere.invalid:5060")
    assert status == 2
    assert "no such host" in output
