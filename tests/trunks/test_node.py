"""Trunks of a whole platform as operators see them."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from typer.testing import CliRunner

from cti.sip.sessions.session import InviteSession
from cti.sip.transports.transport import Hop
from node.cli import app
from tests.node.running import until
from tests.node.test_serve import Serve
from tests.sip_session.observer import Recorder
from tests.trunks.conftest import PROBE, Carrier

pytestmark = pytest.mark.stores


async def command(*arguments: str, entered: str = "") -> tuple[int, str]:
    """Run `cti95598`; return its status and what it prints."""
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments, input=entered)
    return result.exit_code, result.output


def configure(serve: Serve, *carriers: Carrier) -> None:
    serve.write_config(callers={"lists": [{"name": "spam", "kind": "black", "file": "spam.txt"}]})
    config = yaml.safe_load(serve.config.read_text())
    config["tenants"][0]["trunks"] += [
        {"name": f"carrier{at}", "server": carrier.server, "probe": PROBE, "auth_user": "4008"}
        for at, carrier in enumerate(carriers)
    ]
    serve.config.write_text(yaml.safe_dump(config, allow_unicode=True))


async def gateway(serve: Serve, page: str) -> str:
    url = f"http://127.0.0.1:{serve.ports[2]}/{page}"
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        assert response.status == 200
        return await response.text()


async def trunks(serve: Serve) -> dict[str, dict[str, Any]]:
    return {row["trunk"]: row for row in json.loads(await gateway(serve, "trunks"))}


def call(carrier: Carrier, serve: Serve, caller: str) -> tuple[InviteSession, Recorder]:
    told = Recorder()
    session = carrier.agent.invite(
        "sip:95598@127.0.0.1",
        from_=f"sip:{caller}@127.0.0.1",
        hop=Hop("udp", "127.0.0.1", serve.ports[0]),
        sdp=b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        b"m=audio 40000 RTP/AVP 8\r\n",
        observer=told,
    )
    return session, told


async def test_operators_see_trunks_and_blocked_callers(
    tmp_path: Path, carriers: list[Carrier]
) -> None:
    serve = Serve(tmp_path)
    (tmp_path / "spam.txt").write_text("1700*  nuisance\n")
    configure(serve, carriers[0])
    await serve.start()
    try:
        await serve.says("Ctrl-C")

        async def is_up() -> bool:
            return bool((await trunks(serve))["carrier0"]["state"] == "up")

        await until(is_up)
        assert not (await trunks(serve))["loopback"]["is_outbound"]
        assert 'trunk_up{tenant="demo",trunk="carrier0"} 1.0' in await gateway(serve, "metrics")
        data = str(serve.data)
        status, shown = await command("trunks", "--data", data)
        assert status == 0
        for words in ("carrier0", "正常 up", "loopback", "仅呼入", "0/2000"):
            assert words in shown

        _, told = call(carriers[1], serve, "17001234567")
        end = await told.end()
        assert (end.status, end.by_peer) == (603, True)

        async def is_recorded() -> bool:
            found = await command("records", "--data", data, "--number-list", "spam", "--json")
            return [row["caller"] for row in json.loads(found[1])] == ["17001234567"]

        await until(is_recorded)
        _, shown = await command("records", "--data", data, "--number-list", "other", "--json")
        assert json.loads(shown) == []

        configure(serve, *carriers)
        status, _ = await command(
            "trunks", "--config", str(serve.config), "--data", data,
            "--set-password", "demo/carrier1", entered="agreed\n",
        )  # fmt: skip
        assert status == 0
        assert "agreed" in (serve.data / "secrets.yaml").read_text()
        serve.process.send_signal(signal.SIGHUP)
        await serve.says("were read again")
        assert set(await trunks(serve)) == {"loopback", "carrier0", "carrier1"}
        serve.process.send_signal(signal.SIGINT)
        assert await serve.ends() == 0
        assert "Traceback" not in serve.output
    finally:
        if serve.process.returncode is None:
            serve.process.kill()
            await serve.ends()


async def test_what_the_command_cannot_do_is_told(tmp_path: Path) -> None:
    status, shown = await command("trunks", "--data", str(tmp_path))
    assert status == 1
    assert "没有运行的实例" in shown
    status, shown = await command("trunks", "--data", str(tmp_path), "--set-password", "demo/x")
    assert status == 1
    assert "demo/loopback" in shown
    status, shown = await command(
        "trunks", "--data", str(tmp_path), "--set-password", "demo/loopback"
    )
    assert status == 1
    assert "不用密码" in shown
