"""The ports, the names and the RTP ranges of many workers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from node.config import DEMO_CONFIG, Config, ConfigError, load_config
from node.workers import Worker, check_workers, dispatcher_list, worker_config, workers_of


def configs(config: Config, count: int, step: int = 10) -> list[Config]:
    return [worker_config(config, each) for each in workers_of(count, step)]


def changed(directory: Path, **sections: dict[str, Any]) -> Config:
    """The demo configuration with other values in some of its sections."""
    document = yaml.safe_load(DEMO_CONFIG.read_text(encoding="utf-8"))
    document["flows"] = str(DEMO_CONFIG.parent.parent.parent / "flows")
    for name, values in sections.items():
        document[name] |= values
    path = directory / "platform.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True))
    return load_config(path)


def test_each_port_is_ten_above_the_one_before() -> None:
    settings = [each.settings for each in configs(load_config(DEMO_CONFIG), 3)]
    assert [each.node for each in settings] == ["node1-1", "node1-2", "node1-3"]
    assert [{one.port for one in each.sip.listen} for each in settings] == [{5060}, {5070}, {5080}]
    assert [each.grpc.port for each in settings] == [50051, 50061, 50071]
    assert [each.http.port for each in settings] == [8095, 8105, 8115]
    ranges = [(each.media.port_min, each.media.port_max) for each in settings]
    assert ranges == [(20000, 23331), (23332, 26663), (26664, 29995)]


def test_a_port_of_which_any_will_do_stays_so() -> None:
    assert Worker(3, 4).port(0) == 0


@given(st.integers(1, 16), st.integers(1, 16), st.integers(1, 1000))
def test_a_worker_is_told_who_it_is_in_one_word(number: int, workers: int, step: int) -> None:
    worker = Worker(number, workers, step)
    assert Worker.parse(str(worker)) == worker


@given(st.integers(1, 16), st.integers(1024, 40_000), st.integers(700, 20_000))
def test_rtp_ranges_are_equal_even_and_apart(count: int, low: int, ports: int) -> None:
    config = load_config(DEMO_CONFIG)
    media = config.settings.media.model_copy(update={"port_min": low, "port_max": low + ports - 1})
    settings = config.settings.model_copy(update={"media": media})
    parts = [
        (each.settings.media.port_min, each.settings.media.port_max)
        for each in configs(Config(settings, config.path), count)
    ]
    assert parts[0][0] >= low
    assert parts[-1][1] < low + ports
    assert len({high - first for first, high in parts}) == 1
    assert all(first % 2 == 0 and high % 2 == 1 for first, high in parts)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(parts))
    assert low + ports - 1 - parts[-1][1] <= 2 * count + 1


def test_kamailio_gets_the_addresses_of_all() -> None:
    written = dispatcher_list(configs(load_config(DEMO_CONFIG), 2))
    assert [line.split()[:2] for line in written.splitlines()[1:]] == [
        ["1", "sip:127.0.0.1:5060"],
        ["1", "sip:127.0.0.1:5070"],
    ]


@pytest.mark.parametrize(
    ("sections", "workers", "place", "words"),
    [
        ({"media": {"port_min": 20000, "port_max": 20099}}, 4, "media.port_min", "gets only 24"),
        ({"media": {"port_min": 20000, "port_max": 20099}}, 4, "media.port_min", "160 ports"),
        ({"grpc": {"port": 65530}}, 2, "grpc.port", "would be 65540"),
        ({"grpc": {"port": 8105}}, 2, "http.port", "would use port 8105"),
        (
            {"media": {"engine": "192.0.2.1:50055", "engine_ca": "ca.pem"}},
            2,
            "media.engine",
            "a media process on this machine",
        ),
    ],
)
def test_what_does_not_suffice_is_told_with_its_line_and_remedy(
    tmp_path: Path, sections: dict[str, dict[str, Any]], workers: int, place: str, words: str
) -> None:
    config = changed(tmp_path, **sections)
    with pytest.raises(ConfigError) as raised:
        check_workers(config, workers_of(workers))
    (problem,) = raised.value.problems
    assert problem.path == place
    assert words in str(problem)
    assert problem.line > 1
    assert "Remedy" in str(problem)


def test_two_workers_never_share_a_port() -> None:
    check_workers(load_config(DEMO_CONFIG), workers_of(16))
