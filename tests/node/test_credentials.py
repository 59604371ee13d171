"""Passwords: made once, kept as hashes, in files that only their owner reads."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from domain.failures import Code, PlatformError
from node.clients import Clients, ClientSettings, Right
from node.config import DEMO_CONFIG, PlatformSettings, load_config
from node.credentials import Credentials, ensure_credentials, read_plain_passwords


@pytest.fixture
def settings() -> PlatformSettings:
    return load_config(DEMO_CONFIG).settings


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "secrets.yaml", tmp_path / "demo-credentials.yaml"


def test_first_start_makes_passwords_that_are_right(
    settings: PlatformSettings, files: tuple[Path, Path]
) -> None:
    credentials = ensure_credentials(settings, *files)
    plain = read_plain_passwords(files[1])
    password = plain.agents["demo"]["1001"]
    assert len(password) >= 16
    assert credentials.verify_agent("demo", "1001", password)
    assert not credentials.verify_agent("demo", "1001", password + "x")
    assert not credentials.verify_agent("demo", "1002", password)
    assert not credentials.verify_agent("demo", "9999", password)
    assert not credentials.verify_agent("other", "1001", password)


def test_a_configuration_without_agents_starts_as_well(
    settings: PlatformSettings, files: tuple[Path, Path]
) -> None:
    nobody = [tenant.model_copy(update={"agents": []}) for tenant in settings.tenants]
    for _ in range(2):
        credentials = ensure_credentials(settings.model_copy(update={"tenants": nobody}), *files)
        assert not credentials.verify_agent("demo", "1001", "any")


def test_phones_hashes_are_those_of_digest(
    settings: PlatformSettings, files: tuple[Path, Path]
) -> None:
    ha1 = ensure_credentials(settings, *files).ha1("demo", "1001")
    a1 = f"1001:cti95598:{read_plain_passwords(files[1]).phones['demo']['1001']}".encode()
    assert ha1 == {
        "MD5": hashlib.md5(a1, usedforsecurity=False).hexdigest(),
        "SHA-256": hashlib.sha256(a1).hexdigest(),
    }


def test_a_program_gets_a_token_and_is_known_by_it(
    settings: PlatformSettings, files: tuple[Path, Path]
) -> None:
    client = ClientSettings(id="asr", rights=frozenset({Right.AUDIO_LIVE}))
    tenant = settings.tenants[0].model_copy(update={"clients": [client]})
    changed = settings.model_copy(update={"tenants": [tenant]})
    ensure_credentials(settings, *files)
    credentials = ensure_credentials(changed, *files)
    token = read_plain_passwords(files[1]).clients["demo"]["asr"]
    assert len(token) == 64
    assert token not in files[0].read_text()
    assert credentials.client(token) == ("demo", "asr")
    assert credentials.client("") is None
    assert ensure_credentials(changed, *files).client(token) == ("demo", "asr")


def test_rights_are_those_of_the_present_configuration(
    settings: PlatformSettings, files: tuple[Path, Path]
) -> None:
    asr = ClientSettings(id="asr")
    tenant = settings.tenants[0].model_copy(update={"clients": [asr]})
    credentials = ensure_credentials(settings.model_copy(update={"tenants": [tenant]}), *files)
    token = read_plain_passwords(files[1]).clients["demo"]["asr"]
    configured: list[ClientSettings | None] = [asr]
    clients = Clients(lambda: credentials, lambda *_: configured[0])
    for now, code in ((asr, Code.RIGHT_MISSING), (None, Code.TOKEN_INVALID)):
        configured[0] = now
        with pytest.raises(PlatformError) as refused:
            clients.authorized(token, Right.AUDIO_LIVE)
        assert refused.value.code == code
    configured[0] = ClientSettings(id="asr", rights=frozenset({Right.AUDIO_LIVE}))
    assert clients.authorized(token, Right.AUDIO_LIVE) == ("demo", "asr")


def test_files_are_private_and_hold_no_password_twice(
    settings: PlatformSettings, files: tuple[Path, Path]
) -> None:
    ensure_credentials(settings, *files)
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    hashes = files[0].read_text()
    plain = read_plain_passwords(files[1])
    for kind in (plain.agents, plain.phones):
        for password in kind["demo"].values():
            assert password not in hashes


def test_a_second_start_changes_nothing(
    settings: PlatformSettings, files: tuple[Path, Path]
) -> None:
    ensure_credentials(settings, *files)
    before = [file.read_text() for file in files]
    ensure_credentials(settings, *files)
    assert [file.read_text() for file in files] == before


def test_a_new_agent_gets_a_password_and_the_others_keep_theirs(
    settings: PlatformSettings, files: tuple[Path, Path]
) -> None:
    few = settings.tenants[0].model_copy(update={"agents": settings.tenants[0].agents[:1]})
    ensure_credentials(settings.model_copy(update={"tenants": [few]}), *files)
    first = read_plain_passwords(files[1]).agents["demo"]["1001"]
    credentials = ensure_credentials(settings, *files)
    plain = read_plain_passwords(files[1]).agents["demo"]
    assert plain["1001"] == first
    assert credentials.verify_agent("demo", "1005", plain["1005"])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_reach_is_refused(
    settings: PlatformSettings, files: tuple[Path, Path], mode: int
) -> None:
    ensure_credentials(settings, *files)
    files[0].chmod(mode)
    with pytest.raises(PlatformError, match="chmod 600"):
        Credentials.load(files[0], "cti95598")


def test_another_realm_is_refused(settings: PlatformSettings, files: tuple[Path, Path]) -> None:
    ensure_credentials(settings, *files)
    with pytest.raises(PlatformError, match="realm"):
        Credentials.load(files[0], "example.org")


@pytest.mark.parametrize("text", ["", "[", "realm: 5", "realm: x\nsurprise: hunter2\n"])
def test_a_spoilt_file_is_refused_without_being_quoted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "secrets.yaml"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(PlatformError) as caught:
        Credentials.load(file, "cti95598")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("stored", ["", "scrypt$1$1", "scrypt$0$8$1$AA==$AA==", "x$2$8$1$A$A"])
def test_a_spoilt_hash_lets_nobody_in(tmp_path: Path, stored: str) -> None:
    file = tmp_path / "secrets.yaml"
    file.write_text(f"realm: r\ntenants: {{t: {{agents: {{a: '{stored}'}}}}}}\n")
    file.chmod(0o600)
    assert not Credentials.load(file, "r").verify_agent("t", "a", "")
