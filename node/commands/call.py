"""`cti95598 call`: a SIP caller that plays, presses keys and records what it hears."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cti import audio
from cti.phone import T1_S, Phone, PhoneCall, PhoneSettings, phone_media
from cti.sip.messages.uri import SipUri
from cti.sip.sessions.session import SessionEnd
from cti.sip.transports.transport import Hop
from domain.failures import CATALOGUE, Code, PlatformError
from node.commands.far_host import address_of

_ANSWER_TIMEOUT_S = 60.0
_PROMPT_TIMEOUT_S = 120.0
_LONGEST_CALL_S = 3600.0
# On this machine nobody is half a second away; a wrong port is told after 6 s and not after 32.
_LOOPBACK_T1_S = 0.1
_PRESS = re.compile(r"(?P<keys>[0-9*#A-Da-d]+)(?:@(?P<at>\d+(?:\.\d+)?)s?)?")
_console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class Press:
    """Keys to press: `at_s` after the answer, or when None after the next prompt has ended."""

    keys: str
    at_s: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What the caller does in the call."""

    presses: tuple[Press, ...]
    play: Path | None
    record: Path | None
    duration_s: float


def call_command(
    uri: Annotated[
        str, typer.Argument(help="Whom to call, such as sip:95598@127.0.0.1:5060.", metavar="URI")
    ],
    from_number: Annotated[
        str, typer.Option("--from", help="The caller's number.", metavar="NUMBER")
    ] = "13812345678",
    play: Annotated[
        Path | None,
        typer.Option(help="Play this file once (WAV, PCM16, mono, 8 kHz).", exists=True),
    ] = None,
    tone: Annotated[
        float | None, typer.Option(help="Play a tone instead, to the end.", metavar="HZ")
    ] = None,
    press: Annotated[
        str,
        typer.Option(
            help='Keys and when: "1@4s,0@20s" counts from the answer; "1,0" presses each key '
            "when the prompt before it has ended.",
            metavar="KEYS",
        ),
    ] = "",
    record: Annotated[
        Path | None, typer.Option(help="Record what is heard into this WAV file.", metavar="WAV")
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(min=0, help="Hang up after this many seconds; else the far end does."),
    ] = None,
    transport: Annotated[str, typer.Option(help="udp or tcp.")] = "udp",
    local_ip: Annotated[str, typer.Option(help="Address to call from.")] = "127.0.0.1",
) -> None:
    """拨打电话:播放、按键并录下听到的声音。 Call, press keys, record what is heard.

    Prints what happens, with seconds since dialling.
    Exit status: 0 answered, 1 not answered, 2 the command line is wrong.

    Example: cti95598 call sip:95598@127.0.0.1:5060 --press "1,0"
    """
    try:
        presses = parse_presses(press)
        target = _target(uri)
        _check_files(play, tone)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if transport not in {"udp", "tcp"}:
        raise typer.BadParameter(f"--transport {transport}: udp or tcp")
    far_ip = address_of(target.host)
    if record is not None:
        record.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="cti95598-call-") as scratch:
        plan = Plan(
            presses,
            audio.write_tone(Path(scratch) / "tone.wav", tone, 1000) if tone else play,
            record or Path(scratch) / "heard.wav",
            _LONGEST_CALL_S if duration is None else duration,
        )
        settings = PhoneSettings(
            user=from_number,
            local_ip=local_ip,
            transport=transport,
            t1_s=_LOOPBACK_T1_S if far_ip.startswith("127.") else T1_S,
        )
        server = Hop("tcp" if transport == "tcp" else "udp", far_ip, target.port or 5060)
        try:
            answered = asyncio.run(_call(settings, server, uri, plan, loop_tone=tone is not None))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except PlatformError as error:
            _console.print(f"失败:{error.failure.zh} · failed: {error.detail}")
            raise typer.Exit(1) from error
    if answered and record is not None:
        _console.print(f"录音 recording: {record}")
    raise typer.Exit(0 if answered else 1)


def parse_presses(text: str) -> tuple[Press, ...]:
    """Read the value of --press; ValueError tells what is wrong."""
    presses = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _PRESS.fullmatch(part)
        if match is None:
            raise ValueError(f'--press {part!r}: write keys 0-9 * # A-D, with "@4s" for a time')
        at_s = match["at"]
        presses.append(Press(match["keys"].upper(), None if at_s is None else float(at_s)))
    return tuple(presses)


def _target(uri: str) -> SipUri:
    try:
        target = SipUri.parse(uri)
    except ValueError:
        raise ValueError(f"{uri}: is no SIP address; write sip:NUMBER@HOST:PORT") from None
    if not target.user:
        raise ValueError(f"{uri}: says no number; write sip:NUMBER@HOST:PORT")
    return target


def _check_files(play: Path | None, tone: float | None) -> None:
    if play is not None and tone is not None:
        raise ValueError("--play and --tone: choose one")
    if tone is not None and not 20 <= tone < audio.SAMPLE_RATE_HZ / 2:
        raise ValueError(f"--tone {tone:g}: between 20 and 3999 Hz")
    if play is not None:
        channels = audio.read_wav(play)
        if len(channels) != 1 or channels[0].rate_hz != audio.SAMPLE_RATE_HZ:
            raise ValueError(
                f"--play {play}: has {len(channels)} channels at {channels[0].rate_hz} Hz, "
                "needs one at 8000 Hz"
            )


class _Diary:
    """Prints what happens, with the seconds since dialling."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()

    def note(self, zh: str, en: str) -> None:
        _console.print(f"{time.monotonic() - self._begun_s:8.3f} s  {zh} · {en}")


async def _call(
    settings: PhoneSettings, server: Hop, uri: str, plan: Plan, *, loop_tone: bool
) -> bool:
    diary = _Diary()
    async with phone_media() as media:
        phone = Phone(settings, media)
        await phone.open()
        diary.note(f"呼叫 {uri}", "calling")
        call = phone.dial(uri, server, record=plan.record)
        try:
            if not await _answered(call, diary):
                return False
            if plan.play is not None:
                call.play(plan.play, loop=loop_tone)
            await _talk(call, plan, diary)
        finally:
            call.hang_up()
            await phone.aclose()
            await _tidy(call)
    return True


async def _answered(call: PhoneCall, diary: _Diary) -> bool:
    try:
        if await call.wait_ringing(_ANSWER_TIMEOUT_S) and not call.is_answered:
            diary.note("振铃", "ringing")
        await call.wait_answered(_ANSWER_TIMEOUT_S)
    except TimeoutError:
        diary.note("无人接听", f"nobody answered within {_ANSWER_TIMEOUT_S:.0f} s")
        return False
    except PlatformError as error:
        diary.note(*_reason(call.ended.result(), error))
        return False
    diary.note("接通", "answered")
    return True


def _reason(end: SessionEnd, error: PlatformError) -> tuple[str, str]:
    failure = CATALOGUE[error.code]
    if error.code in {Code.SIP_TIMEOUT, Code.SIP_TRANSPORT}:
        remedy = "is the platform running (make run), are address and port right?"
        return "无法连接:对方没有响应", f"not reachable: nothing answers SIP there; {remedy}"
    return (
        f"被拒绝:{failure.zh}",
        f"refused: {end.status} {end.reason} ({failure.en})",
    )


async def _talk(call: PhoneCall, plan: Plan, diary: _Diary) -> None:
    pressing = asyncio.create_task(_press_all(call, plan.presses, diary))
    try:
        end = await call.wait_ended(plan.duration_s)
    except TimeoutError:
        diary.note("挂机", "hung up")
        return
    finally:
        pressing.cancel()
    diary.note(
        "对方挂机" if end.by_peer else "通话结束",
        f"far end hung up {end.reason}".strip() if end.by_peer else f"call ended: {end.code}",
    )


async def _press_all(call: PhoneCall, presses: tuple[Press, ...], diary: _Diary) -> None:
    since_ms = 0
    for press in presses:
        if press.at_s is not None:
            await asyncio.sleep(max(0.0, press.at_s - call.talk_s))
        else:
            try:
                await call.wait_pause(_PROMPT_TIMEOUT_S, since_ms=since_ms)
            except (TimeoutError, PlatformError):
                diary.note(f"未按键 {press.keys}", "not pressed: no prompt came to an end")
                return
        await call.press(press.keys)
        since_ms = call.heard().duration_ms
        diary.note(f"按键 {press.keys}", f"pressed {press.keys}")


async def _tidy(call: PhoneCall) -> None:
    try:
        await call.wait_closed(2)
    except TimeoutError:
        _console.print("录音可能不完整 · the recording may be incomplete")
    except PlatformError as error:
        _console.print(f"录音失败 · {error}")
