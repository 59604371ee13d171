"""`cti95598 listen`: hear a call while it goes on, and keep it as a file; an example subscriber."""

from __future__ import annotations

import asyncio
import os
import wave
from array import array
from pathlib import Path
from typing import Annotated

import grpc
import grpc.aio
import typer
from rich.console import Console

from cti.audio import Sound, level_dbfs
from cti95598.recording.v1 import live_audio_pb2 as pb
from cti95598.recording.v1.live_audio_pb2_grpc import LiveAudioStub
from domain.failures import Code, PlatformError

_TOKEN_VARIABLE = "CTI95598_TOKEN"  # noqa: S105 - the variable's name
_PROGRESS_MS = 1000
_console = Console(highlight=False, soft_wrap=True)


class TwoSidedFile:
    """A WAV file of two channels; audio that did not come is silence in it."""

    def __init__(self, path: Path, rate_hz: int) -> None:
        self._file = wave.open(str(path), "wb")  # noqa: SIM115 - closed by `close`
        self._file.setnchannels(2)
        self._file.setsampwidth(2)
        self._file.setframerate(rate_hz)
        self._rate_hz = rate_hz
        self._frames = 0

    def write(self, start_ms: int, left: bytes, right: bytes) -> None:
        """Write a piece to its place in time; both sides are PCM16 of the same length."""
        missing = start_ms * self._rate_hz // 1000 - self._frames
        if missing > 0:
            self._put(bytes(4 * missing))
        pairs = array("h", bytes(len(left) + len(right)))
        pairs[0::2], pairs[1::2] = array("h", left), array("h", right)
        self._put(pairs.tobytes())

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def _put(self, frames: bytes) -> None:
        self._file.writeframesraw(frames)
        self._frames += len(frames) // 4


def listen_command(
    call_id: Annotated[str, typer.Argument(help="The call, as events and toolbars name it.")],
    wav: Annotated[Path, typer.Option(help="Where to write what is heard (two channels).")],
    grpc_address: Annotated[
        str,
        typer.Option("--grpc", help="The gRPC address of the call's node.", metavar="HOST:PORT"),
    ] = "127.0.0.1:50051",
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the client's token; else ${_TOKEN_VARIABLE}.", exists=True),
    ] = None,
) -> None:
    """实时收听一个通话 · Hear a call while it goes on: caller left, agent right.

    For clients of the configuration with the right audio.live. Ends with the call, or with Ctrl-C.
    """
    try:
        asyncio.run(listen(grpc_address, _token(token_file), call_id, wav, _console))
    except KeyboardInterrupt:
        _console.print(f"已停止,录音在 {wav} · stopped, what was heard is in {wav}", markup=False)
    except grpc.aio.AioRpcError as error:
        typer.echo(error.details() or str(error.code()), err=True)
        raise typer.Exit(1) from None
    except PlatformError as error:
        typer.echo(error.detail, err=True)
        raise typer.Exit(1) from None


async def listen(target: str, token: str, call_id: str, wav: Path, console: Console) -> None:
    """Write a call to a file while it goes on; AioRpcError where that is refused."""
    async with grpc.aio.insecure_channel(target) as channel:
        metadata = (("authorization", f"Bearer {token}"),)
        stream = LiveAudioStub(channel).Listen(pb.ListenRequest(call_id=call_id), metadata=metadata)
        file: TwoSidedFile | None = None
        try:
            async for message in stream:
                if message.HasField("call"):
                    file = TwoSidedFile(wav, message.call.sample_rate_hz)
                    console.print(
                        f"开始收听 · listening  {message.call.call_id}  "
                        f"{message.call.access_code} {message.call.language}",
                        markup=False,
                    )
                elif message.HasField("piece") and file is not None:
                    piece = message.piece
                    file.write(piece.start_ms, piece.left, piece.right)
                    if piece.start_ms % _PROGRESS_MS == 0:
                        console.print(_progress(piece), markup=False)
                elif message.HasField("end"):
                    console.print(_ending(message.end, wav), markup=False)
        finally:
            if file is not None:
                file.close()


def _progress(piece: pb.AudioPiece) -> str:
    left, right = (level_dbfs(Sound(array("h", side))) for side in (piece.left, piece.right))
    return (
        f"  {piece.start_ms // 1000:4d} 秒 s  客户 caller {left:5.0f} dBFS  "
        f"坐席 agent {right:5.0f} dBFS  丢失 dropped {piece.dropped_ms} ms"
    )


def _ending(end: pb.CallAudioEnd, wav: Path) -> str:
    return (
        f"通话结束:{end.words_zh} · the call has ended: {end.words_en}\n"
        f"  {end.duration_ms / 1000:.1f} 秒 s,丢失 dropped {end.dropped_ms} ms,{wav}"
    )


def _token(file: Path | None) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8").strip()
    token = os.environ.get(_TOKEN_VARIABLE, "").strip()
    if not token:
        raise PlatformError(
            Code.TOKEN_INVALID,
            f"没有令牌:请设置 {_TOKEN_VARIABLE} 或 --token-file · "
            f"no token: set {_TOKEN_VARIABLE}, or give --token-file",
        )
    return token
