"""What docs/trunks.md says is what the platform does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from cti.sdp import Codec, SrtpPolicy
from cti.settings import AccessCodeSettings, TrunkSettings
from cti.trunks.outside_number import dial_form
from cti.trunks.rewriting import rewritten
from cti.trunks.settings import (
    CallerPolicySettings,
    CodecOrder,
    NumberListSettings,
    NumberRule,
    NumberRules,
    OutboundSettings,
    ProbeSettings,
    RegisterSettings,
)
from cti.trunks.tenant_access import TenantAccess
from domain.failures import Code, PlatformError
from node.cli import app
from node.commands.trunks import _table
from node.config import DEMO_CONFIG, Config, load_config
from node.credentials import ensure_credentials

PAGE = Path("docs/trunks.md").read_text(encoding="utf-8")
_IN_OTHER_PAGES = {"allow_refer"}


def table(heading: str) -> Iterator[list[str]]:
    """Yield the rows of the table below a heading of columns."""
    lines = PAGE[PAGE.index(heading) :].splitlines()[2:]
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


@pytest.fixture
def example(tmp_path: Path) -> Config:
    (tmp_path / "flows").mkdir()
    for flow in ("hotline", "suzhou"):
        (tmp_path / f"flows/{flow}.yaml").write_text("")
    listed = PAGE.partition("    # nuisance.txt\n")[2].partition("\n\n")[0]
    (tmp_path / "nuisance.txt").write_text(listed.replace("    ", "", 1).replace("\n    ", "\n"))
    (tmp_path / "mobiles.txt").write_text("1381234\n")
    (tmp_path / "platform.yaml").write_text(PAGE.partition("```yaml\n")[2].partition("```")[0])
    return load_config(tmp_path / "platform.yaml")


def access(config: Config) -> TenantAccess:
    (found,) = config.access()
    return found


def test_the_example_is_a_whole_configuration(example: Config) -> None:
    telecom, unicom = access(example).trunks
    assert [str(network) for network in telecom.addresses] == ["192.0.2.0/28"]
    assert unicom.register_ is not None
    assert example.callers.black("13812345678") == "nuisance"
    assert example.callers.black("17001234567") == "nuisance"


def test_the_other_trunks_are_some() -> None:
    lines = [
        line.strip()
        for line in PAGE.splitlines()
        if "{name: " in line and "authentication: " in line
    ]
    trunks = [TrunkSettings.model_validate(yaml.safe_load(line)[0]) for line in lines]
    assert [trunk.name for trunk in trunks] == ["roaming", "sbc"]


def test_the_example_of_codecs() -> None:
    text = PAGE.partition("## Codecs")[2].partition("    tenants:\n")[2].partition("\n\n")[0]
    ((tenant,), _) = yaml.safe_load(text), None
    del tenant["id"]
    (trunk,) = map(TrunkSettings.model_validate, tenant.pop("trunks"))
    assert tenant == {
        "codecs": ["PCMA", "PCMU", "G729"],
        "codec_order": CodecOrder.OURS,
        "srtp": SrtpPolicy.OPTIONAL,
    }
    assert (trunk.codecs, trunk.srtp) == ([Codec.PCMA], SrtpPolicy.OFF)


def test_the_worked_examples_of_rules() -> None:
    rows = list(table("| rules | number | becomes |"))
    assert len(rows) >= 9
    for rules, number, expected in rows:
        made = [NumberRule.model_validate(rule) for rule in yaml.safe_load(rules)]
        assert rewritten([rule.rewriting for rule in made], number) == expected, rules


def test_the_worked_examples_of_calls_out(example: Config) -> None:
    own = access(example)
    rows = list(table("| dialled | sent | why |"))
    assert len(rows) >= 11
    for dialled, sent, _ in rows:
        if sent != "refused":
            assert dial_form(dialled, own.outbound, own.home_mobiles) == sent
            continue
        with pytest.raises(PlatformError) as caught:
            dial_form(dialled, own.outbound, own.home_mobiles)
        assert caught.value.code is Code.NUMBER_FORBIDDEN
    abroad = own.outbound.model_copy(update={"allow_international": True})
    assert dial_form("+442071234567", abroad, None) == "00442071234567"


def test_every_setting_is_told() -> None:
    models: list[type[BaseModel]] = [
        TrunkSettings, ProbeSettings, RegisterSettings, NumberRule, NumberRules,
        NumberListSettings, CallerPolicySettings, OutboundSettings, AccessCodeSettings,
    ]  # fmt: skip
    for model in models:
        fields = {info.alias or name for name, info in model.model_fields.items()}
        for field in fields - _IN_OTHER_PAGES:
            assert any(f"{mark}{field}" in PAGE for mark in "` {"), f"{model.__name__}.{field}"


def test_the_numbers_told_are_the_defaults() -> None:
    trunk = TrunkSettings.model_validate({"name": "a", "server": "192.0.2.1"})
    for words in (
        f"every {trunk.probe.interval_s:.0f} s (`interval_s`",
        f"within {trunk.probe.timeout_s:.0f} s (`timeout_s`",
        f"after {trunk.probe.down_after} in a row (`down_after`",
        f"after {trunk.probe.up_after} answer (`up_after`",
        f"within {trunk.answer_within_s:.0f} s (`answer_within_s`",
        f"within {trunk.progress_within_s:.0f} s (`progress_within_s`",
        f"({trunk.max_calls} and {trunk.max_calls_per_second} unless given)",
    ):
        assert words in PAGE


def test_the_columns_are_those_of_the_command() -> None:
    headings = {str(column.header) for column in _table([]).columns}
    told = {row[0] for row in table("| column | meaning |")}
    assert told <= headings
    assert headings - told == {"租户 tenant", "中继 trunk"}


def test_the_command_for_passwords_keeps_one(example: Config, tmp_path: Path) -> None:
    data, config = tmp_path / "data", str(example.path)
    arguments = ["trunks", "--config", config, "--data", str(data), "--set-password", "sh/unicom"]
    result = CliRunner().invoke(app, arguments, input="agreed\n")
    assert result.exit_code == 0, result.output
    credentials = ensure_credentials(
        example.settings, data / "secrets.yaml", data / "demo-credentials.yaml"
    )
    assert credentials.carrier_password("sh", "unicom") == "agreed"


def test_the_carrier_of_the_demo_configuration_only_wants_its_comments_away(
    tmp_path: Path,
) -> None:
    text = DEMO_CONFIG.read_text(encoding="utf-8").replace("\n      # ", "\n      ")
    flows = (DEMO_CONFIG.parent / "../../flows").resolve()
    (tmp_path / "platform.yaml").write_text(text.replace("../../flows", str(flows)))
    trunks = access(load_config(tmp_path / "platform.yaml")).trunks
    assert [trunk.name for trunk in trunks] == ["loopback", "telecom"]
