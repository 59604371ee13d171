"""A far end of very many calls: answers at once, plays a tone, and is hung up on.

    python -m loadtest.far_end HOST

It tells its SIP port in a line, and ends when its standard input does. Its media engine looks at
quiet streams at its own times, so that who sends to it does not have to wake it for each packet.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import uvloop

from cti import audio
from demo.ports import wide_rtp
from loadtest.figures.tally import Tally
from loadtest.generator.agents import AgentPhones
from loadtest.generator.callers import AnsweredCallers
from loadtest.generator.media import Media
from loadtest.generator.sip_line import SipLine
from loadtest.scenario.model import Agents
from node.commands.serve import allow_open_files

_TONE_HZ, _TONE_MS = 1000, 1000


async def _answer_all(host: str) -> None:
    loop = asyncio.get_running_loop()
    line, media = SipLine(host), Media(host, wide_rtp())
    with tempfile.TemporaryDirectory(prefix="cti95598-far-") as folder:
        voice = audio.write_wav(Path(folder) / "tone.wav", audio.tone(_TONE_HZ, _TONE_MS))
        plan = Agents(count=1, talk_s=0)
        AgentPhones(line, media, plan, voice, AnsweredCallers(), Tally(loop.time))
        print(line.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    line.close()
    await media.aclose()


if __name__ == "__main__":
    allow_open_files()
    uvloop.run(_answer_all(sys.argv[1]))
