"""`make demo`: the main job of the platform on a real call, told and checked step by step.

A caller and an agent's phone, both of this process, speak SIP and RTP with the platform, which runs
as a child; the agent's toolbar speaks gRPC, the business system HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import grpc

from cti.phone import phone_media
from demo.performance import DemoStoppedError, Performance
from demo.platform import RunningPlatform, StartError
from demo.ports import STANDARD_PORTS, Ports, free_ports
from demo.prompts import ExpectedPrompts
from demo.story import Story, console
from demo.verdict import report
from domain.failures import PlatformError

_LONGEST_S = 170.0
_HEARD = "heard"


def main() -> None:
    """Run the demo; exit status 0 only if all was checked and found right."""
    parser = argparse.ArgumentParser(
        prog="make demo", description="主要业务演示 · shows the main job on a real call"
    )
    parser.add_argument("--data", type=Path, default=Path(".data/demo"), help="data directory")
    options = parser.parse_args()
    try:
        passed = asyncio.run(_demo(options.data))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("\n已中断 · interrupted")
        sys.exit(130)
    sys.exit(0 if passed else 1)


async def _demo(data: Path) -> bool:
    story = Story()
    _stop_in_order()
    try:
        async with AsyncExitStack() as leaving:
            # The time a first start needs for its stores and prompts is not the demo's.
            platform = RunningPlatform(data, _ports(story))
            leaving.push_async_callback(platform.stop)
            await _start(platform, story)
            async with asyncio.timeout(_LONGEST_S):
                await _perform(platform, story)
            story.tell("停止平台", "the platform stops")
    except StartError as error:
        story.check(False, "平台启动", "platform started", str(error), str(data))
    except TimeoutError:
        story.check(False, "按时完成", "finished in time", f"not within {_LONGEST_S:.0f} s")
    story.verdict()
    return story.passed


async def _perform(platform: RunningPlatform, story: Story) -> None:
    directory = _fresh(platform.directory.root / _HEARD)
    prompts = ExpectedPrompts(
        platform.flow_file, platform.flow_file.parent / "prompts", platform.directory.prompts
    )
    await prompts.load()
    async with phone_media() as media:
        performance = Performance(platform, media, prompts, story, directory)
        try:
            await performance.run()
        except DemoStoppedError:
            story.tell("演示中止", "the demo cannot go on")
        except (PlatformError, TimeoutError, grpc.aio.AioRpcError) as error:
            words = str(error) or f"no answer in time ({type(error).__name__})"
            story.check(False, "演示步骤", "step of the demo", words, str(platform.log))
        if performance.evidence.sip_call_id:
            await report(platform, story, performance.evidence)


async def _start(platform: RunningPlatform, story: Story) -> None:
    story.tell("启动平台与业务系统", "starting the platform and the business system")
    if not any(platform.directory.prompts.rglob("*.wav")):
        story.tell(
            "首次启动:合成全部提示音,约需半分钟", "first start: making all prompts from text"
        )
    await platform.start()
    ports = platform.ports
    story.tell(
        f"平台就绪:SIP {ports.sip},gRPC {ports.grpc},HTTP {ports.http},业务系统 {ports.business}",
        "the platform is ready, on its embedded Redis and PostgreSQL",
    )


def _ports(story: Story) -> Ports:
    taken = STANDARD_PORTS.taken()
    if not taken:
        return STANDARD_PORTS
    story.tell(
        f"端口 {', '.join(map(str, taken))} 已被占用,改用其他端口",
        "standard ports are in use, others are taken",
    )
    return free_ports()


def _fresh(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def _stop_in_order() -> None:
    """Let Ctrl-C and SIGTERM end the demo by way of its `finally`s, so that children stop."""
    loop = asyncio.get_running_loop()
    demo = asyncio.current_task(loop)
    assert demo is not None  # noqa: S101 - called from a coroutine
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, demo.cancel)


if __name__ == "__main__":
    main()
