"""Between machines: certificates and tokens, and clear words for whoever has them wrong."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from cti.media import Codec, Connection, PortClosed, RecordingEnded
from cti.media_remote.client import RemoteEngine
from cti.media_remote.link import MediaAddress
from cti.media_remote.server import MediaServer, MediaServerSettings, ServerKeys
from cti.settings import MediaSettings
from cti95598.events.v1.events_pb2 import Event
from domain.events import EventStamp
from domain.failures import Code, PlatformError
from domain.ids import NodeId, TenantId
from node.cli import app
from node.media import NodeMedia
from tests.media.peer import PCMA_SILENCE, Events, Peer, rtp
from tests.peers.waiting import wait_until
from tests.sip_core.certificates import Authority

# An address for documentation (RFC 5737): no machine of a test has it.
ELSEWHERE = "192.0.2.7"
PATIENCE_S = 30.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def write_keys(authority: Authority, directory: Path) -> ServerKeys:
    leaf = authority.ca.issue_cert("127.0.0.1")
    keys = ServerKeys(directory / "certificate.pem", directory / "key.pem")
    keys.certificate.write_bytes(leaf.cert_chain_pems[0].bytes())
    keys.key.write_bytes(leaf.private_key_pem.bytes())
    return keys


@pytest.fixture
async def server(tmp_path: Path, authority: Authority) -> AsyncIterator[MediaServer]:
    settings = MediaServerSettings(
        port=0,
        port_min=48_500,
        port_max=48_999,
        quarantine_ms=0,
        keys=write_keys(authority, tmp_path),
        tokens={"node1": "first", "node2": "second"},
    )
    server = MediaServer(settings, tmp_path / "media")
    await server.start()
    yield server
    await server.stop()


def engine_of(
    address: MediaAddress, directory: Path, events: Events, *, node: str = "node1"
) -> RemoteEngine:
    return RemoteEngine(
        address,
        node=node,
        local_ips=["127.0.0.1"],
        recordings=directory,
        stock=4,
        on_event=events.on_event,
    )


async def test_media_over_tls(
    server: MediaServer, authority: Authority, tmp_path: Path, events: Events
) -> None:
    """Commands, events, and files both ways."""
    ca = authority.ca_file.read_bytes()
    address = MediaAddress("127.0.0.1:{1}".format(*server.address), ca, "first")
    engine = engine_of(address, tmp_path, events)
    assert await engine.start(PATIENCE_S)
    peer = await Peer.open()
    port, number = engine.open_port("127.0.0.1")
    engine.connect(port, Connection("127.0.0.1", peer.port, Codec.PCMA, 8))
    recording = engine.start_recording(str(tmp_path / "kept.wav"), [port], None)
    await peer.stream(number, [rtp(8, index, index * 160, PCMA_SILENCE) for index in range(5)])
    engine.stop_recording(recording)
    ended = await events.wait(RecordingEnded, recording=recording)
    assert ended.error == ""
    assert (tmp_path / "kept.wav").stat().st_size == ended.size_bytes
    assert engine.status.reason == ""
    await engine.aclose()


async def test_a_certificate_is_renewed_in_mid_call(
    server: MediaServer, authority: Authority, tmp_path: Path, events: Events
) -> None:
    target = "127.0.0.1:{1}".format(*server.address)
    former = engine_of(
        MediaAddress(target, authority.ca_file.read_bytes(), "first"), tmp_path, events
    )
    assert await former.start(PATIENCE_S)
    port, _ = former.open_port("127.0.0.1")
    # Half of the renewal: the key is of another certificate, and the former pair is served.
    keys = ServerKeys(tmp_path / "certificate.pem", tmp_path / "key.pem")
    certificate = keys.certificate.read_bytes()
    other = Authority(tmp_path)
    write_keys(other, tmp_path)
    renewed = keys.certificate.read_bytes()
    keys.certificate.write_bytes(certificate)
    for ca, is_whole in ((authority, False), (other, True)):
        if is_whole:
            keys.certificate.write_bytes(renewed)
        address = MediaAddress(target, ca.ca_file.read_bytes(), "second")
        engine = engine_of(address, tmp_path, Events(), node="node2")
        assert await engine.start(PATIENCE_S)
        await engine.aclose()
    assert former.status.is_up
    former.close_port(port)
    await events.wait(PortClosed, port=port)
    await former.aclose()


@pytest.mark.parametrize("wrong", ["token", "another's token", "no token", "authority", "no TLS"])
async def test_a_node_that_is_not_let_in_knows_why(
    server: MediaServer,
    authority: Authority,
    tmp_path: Path,
    events: Events,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
) -> None:
    monkeypatch.setattr("cti.media_remote.link._WELCOME_WITHIN_S", 0.5)
    ca: bytes | None = authority.ca_file.read_bytes()
    token = {"token": "guess", "another's token": "second", "no token": ""}.get(wrong, "first")
    expected = "wrong token for this node"
    if wrong == "authority":
        ca = Authority(tmp_path).ca_file.read_bytes()
        expected = "engine_ca"
    elif wrong == "no TLS":
        ca, expected = None, "does not answer"
    target = "127.0.0.1:{1}".format(*server.address)
    engine = engine_of(MediaAddress(target, ca, token), tmp_path, events)
    assert not await engine.start(0.1)
    await wait_until(lambda: expected in engine.status.reason, PATIENCE_S, expected)
    with pytest.raises(PlatformError) as failure:
        engine.open_port("127.0.0.1")
    assert failure.value.code is Code.MEDIA_UNAVAILABLE
    assert server.host.current("node1") is None
    await engine.aclose()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", f"{ELSEWHERE}:50055"], "give --certificate and --key"),
        (["--listen", "[2001:db8::7]:50055"], "give --certificate and --key"),
        (["--listen", "media.example:50055"], "give --certificate and --key"),
        (["--listen", f"{ELSEWHERE}:50055", "--certificate", "CERT"], "belong together"),
        (["--listen", f"{ELSEWHERE}:50055", "--certificate", "CERT", "--key", "CERT"], "--allow"),
        (["--certificate", "nowhere.pem", "--key", "CERT"], "nowhere.pem: No such file"),
        (["--certificate", "CERT", "--key", "CA"], "no PEM certificate and its key"),
        (["--listen", "127.0.0.1"], "write HOST:PORT"),
        (["--listen", "127.0.0.1:70000"], "write HOST:PORT"),
    ],
)
def test_a_media_process_beyond_loopback_is_secured_or_refused(
    authority: Authority, tmp_path: Path, arguments: list[str], words: str
) -> None:
    certificate = str(authority.issue("127.0.0.1"))
    files = {"CERT": certificate, "CA": str(authority.ca_file)}
    given = [files.get(each, each) for each in arguments]
    result = CliRunner().invoke(app, ["media", "--data", str(tmp_path / "media"), *given])
    assert result.exit_code == 1
    assert words in result.output


def test_tokens_are_made_once_and_kept_private(tmp_path: Path) -> None:
    data = tmp_path / "media"
    command = ["media", "--data", str(data), "--listen", f"{ELSEWHERE}:50055", "--allow", "node1"]
    contents = []
    for _ in range(2):
        # It is not served without a certificate, but it is known by then who may come.
        assert CliRunner().invoke(app, command).exit_code == 1
        contents.append((data / "media-tokens.yaml").read_text())
    assert contents[0] == contents[1]
    assert stat.S_IMODE((data / "media-tokens.yaml").stat().st_mode) == 0o600
    (data / "media-tokens.yaml").chmod(0o644)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "chmod 600" in result.output


class _Nobody:
    def publish(self, event: Event) -> None:
        """Nobody wants to know."""


def node_media(settings: MediaSettings, directory: Path, token: str) -> NodeMedia:
    return NodeMedia(
        settings,
        node="node1",
        directory=directory,
        recordings=directory,
        token=lambda: token,
        events=EventStamp(NodeId("node1"), _Nobody()),
        tenant=TenantId("demo"),
    )


def test_a_node_wants_an_authority_and_a_token_for_another_machine(
    authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match="engine_ca"):
        MediaSettings(engine=f"{ELSEWHERE}:50055")
    settings = MediaSettings(engine=f"{ELSEWHERE}:50055", engine_ca=authority.ca_file)
    with pytest.raises(PlatformError, match="media_token"):
        node_media(settings, tmp_path, "")
    missing = settings.model_copy(update={"engine_ca": tmp_path / "nowhere.pem"})
    with pytest.raises(PlatformError, match=r"nowhere\.pem: No such file"):
        node_media(missing, tmp_path, "secret")
