"""The watch sees a process's CPU, what it holds, and its metrics, and outlives their silence."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from loadtest.cpu import machine_time, usage_of
from loadtest.figures.process_watch import METRICS, ProcessWatch, read_metrics

_SHARED_BYTES = 128 * 2**20
_BURN = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"


@pytest.fixture
def burner() -> Iterator[subprocess.Popen[bytes]]:
    """A child that has spent half a second of CPU and waits."""
    child = subprocess.Popen(
        [sys.executable, "-c", _BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.readline()
    yield child
    child.kill()
    child.communicate()


def test_a_process_is_seen_with_what_it_spent_and_holds(burner: subprocess.Popen[bytes]) -> None:
    usage = usage_of(burner.pid)
    assert usage.cpu_s["python"] >= 0.48  # the kernel tells it in steps of 10 ms
    assert usage.resident_bytes > 2**20
    assert usage.descriptors >= 3
    assert usage.threads == 1


def test_a_child_counts_with_its_parent_unless_it_is_left_out(
    burner: subprocess.Popen[bytes],
) -> None:
    with_child = usage_of(os.getpid())
    without = usage_of(os.getpid(), without=[burner.pid])
    assert with_child.cpu_s["python"] - without.cpu_s["python"] >= 0.4
    assert with_child.resident_bytes > without.resident_bytes


def test_memory_that_processes_share_counts_once() -> None:
    program = f"""
import mmap, os
shared = mmap.mmap(-1, {_SHARED_BYTES})
shared[:] = bytes({_SHARED_BYTES})
if not os.fork():
    sum(shared[::4096])
    print(flush=True)
input()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        parent.stdout.readline()
        usage = usage_of(parent.pid)
        assert usage.threads == 2
        assert _SHARED_BYTES < usage.resident_bytes < 2 * _SHARED_BYTES
    finally:
        parent.communicate(b"\n\n")


def test_a_process_that_is_gone_counts_nothing() -> None:
    usage = usage_of(2**22 + 1)
    assert (usage.cpu_s, usage.resident_bytes, usage.threads) == ({}, 0, 0)


def test_the_machine_is_not_busier_than_its_time() -> None:
    machine = machine_time()
    assert 0 < machine.busy_s <= machine.total_s


class _Platform(BaseHTTPRequestHandler):
    paths: ClassVar[list[str]] = []
    text = b""

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_response(200 if self.text else 503)
        self.end_headers()
        self.wfile.write(self.text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def platform() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Platform)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    _Platform.paths.clear()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_only_what_is_wanted_is_asked_of_the_platform(platform: str) -> None:
    _Platform.text = b"# HELP calls_live x\ncalls_live 7.0\n"
    look = ProcessWatch([], [platform, platform]).look()
    assert look.metrics is not None
    assert look.metrics.values == {"calls_live": 14.0}  # two nodes
    assert look.platform is None
    assert all(name in _Platform.paths[0] for name in METRICS)


def test_a_platform_that_does_not_answer_is_seen_without_metrics(platform: str) -> None:
    _Platform.text = b""
    look = ProcessWatch([os.getpid()], [platform]).look()
    assert (look.metrics, look.answer_s) == (None, None)
    assert look.platform is not None


def test_the_watch_looks_when_it_is_told_to_and_when_it_stops() -> None:
    watch = ProcessWatch(every_s=3600)
    watch.start()
    _wait(lambda: len(watch.looks) == 1)
    watch.look_now()
    _wait(lambda: len(watch.looks) == 2)
    watch.stop()
    assert len(watch.looks) == 3
    assert watch.looks[0].at_s < watch.looks[2].at_s


def test_labels_are_summed_and_bins_kept_apart() -> None:
    metrics = read_metrics(
        'sip_x_total{a="1"} 2.0\nsip_x_total{a="2"} 3.0\n'
        'event_loop_delay_seconds_bucket{le="0.001"} 4.0\n'
        'event_loop_delay_seconds_bucket{le="+Inf"} 9.0\n'
        'event_row_delay_seconds_bucket{le="+Inf"} 1.0\n'
        'event_row_delay_seconds_bucket{le="+Inf"} 2.0\n'
    )
    assert metrics.values == {"sip_x_total": 5.0}
    assert metrics.bins == {
        "event_loop_delay_seconds": {0.001: 4.0, float("inf"): 9.0},
        "event_row_delay_seconds": {float("inf"): 3.0},
    }


def _wait(condition: object) -> None:
    assert callable(condition)
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)
