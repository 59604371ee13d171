"""Copies of prompts: whole ones only, each content once, and no more than the limit says."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from cti.media_remote import prompt_cache
from cti.media_remote.prompt_cache import FileVersion, PromptCache

KEPT_FOR_CERTAIN_S = 120.0


def version(name: str, node: str = "node1") -> FileVersion:
    return FileVersion(node, f"/prompts/{name}.wav", 1, 1000)


def take(cache: PromptCache, name: str, now_s: float, *, node: str = "node1") -> FileVersion:
    """Ship 1000 octets, all the same, and say which file has them."""
    data = name.encode() * (1000 // len(name))
    sha256 = hashlib.sha256(data).hexdigest()
    prompt = cache.incoming(sha256)
    prompt.write(data[:600])
    prompt.write(data[600:])
    cache.keep(prompt, now_s)
    file = version(name, node)
    assert cache.bind(file, sha256)
    return file


def test_the_least_used_go_first(tmp_path: Path) -> None:
    cache = PromptCache(tmp_path, limit_bytes=3000)
    a, b, c = (take(cache, name, at_s) for at_s, name in enumerate("abc"))
    assert cache.size_bytes == 3000
    assert cache.find(a, 10.0) is not None  # used last
    d = take(cache, "d", 1000.0)
    assert cache.find(b, 1000.0) is None
    assert all(cache.find(each, 1000.0) for each in (a, c, d))
    assert cache.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir()) == 3000


def test_what_was_just_asked_for_stays_beyond_the_limit(tmp_path: Path) -> None:
    """The engine may not have read it yet."""
    cache = PromptCache(tmp_path, limit_bytes=2000)
    files = [take(cache, name, 0.0) for name in "abcd"]
    assert cache.size_bytes == 4000
    assert all(cache.find(file, 0.0) for file in files)
    latest = take(cache, "e", KEPT_FOR_CERTAIN_S)
    assert cache.size_bytes == 2000
    assert [each for each in (*files, latest) if cache.find(each, 121.0)] == [files[3], latest]


def test_the_limit_holds_for_what_an_earlier_process_left(tmp_path: Path) -> None:
    former = PromptCache(tmp_path)
    for at_s, name in enumerate("abcd"):
        path = former.find(take(former, name, 0.0), 0.0)
        assert path is not None
        os.utime(path, (at_s, at_s))
    former.incoming("0" * 64).write(b"cut off")
    cache = PromptCache(tmp_path, limit_bytes=2000)
    assert cache.size_bytes == 2000
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".wav"] * 2
    data_of_d = hashlib.sha256(b"d" * 1000).hexdigest()
    assert cache.bind(version("d"), data_of_d), "the youngest stay"


def test_nodes_share_contents_but_not_names(tmp_path: Path) -> None:
    cache = PromptCache(tmp_path)
    one = take(cache, "a", 0.0)
    assert cache.find(version("a", "node2"), 0.0) is None
    other = take(cache, "a", 0.0, node="node2")
    assert cache.find(one, 0.0) == cache.find(other, 0.0)
    assert cache.size_bytes == 1000


def test_what_is_not_as_it_should_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PromptCache(tmp_path)
    for name in ("", "../../etc/passwd", "A" * 64):
        with pytest.raises(ValueError, match="not a SHA-256"):
            cache.incoming(name)
    prompt = cache.incoming("0" * 64)
    prompt.write(b"something else")
    with pytest.raises(ValueError, match="another"):
        cache.keep(prompt, 0.0)
    prompt.drop()
    monkeypatch.setattr(prompt_cache, "MAX_PROMPT_BYTES", 10)
    prompt = cache.incoming("0" * 64)
    with pytest.raises(ValueError, match="too long"):
        prompt.write(b"elevenbytes")
    prompt.drop()
    assert list(tmp_path.iterdir()) == []
    assert cache.size_bytes == 0
