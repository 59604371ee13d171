"""Prompts of this node on their way to the media process: each content once."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import structlog

from cti.media_remote.link import MediaAddress, MediaLink
from cti.media_remote.prompt_cache import MAX_PROMPT_BYTES
from cti95598.media.v1 import media_pb2 as pb
from domain.tasks import end_tasks

_log = structlog.get_logger(__name__)

_PIECE_BYTES = 256 * 1024
_MOST_NAMED = 16_384
_TRIES = 5
_RETRY_S = 0.5

_Key = tuple[str, int, int]


class PromptShipping:
    """Names files as they are now, and gives the engine what it does not have.

    Only files that a command has named are given away, whatever the engine asks for.
    """

    def __init__(self, link: MediaLink, address: MediaAddress, node: str) -> None:
        self._link = link
        self._address = address
        self._node = node
        self._named: OrderedDict[str, None] = OrderedDict()
        self._shipping: dict[_Key, asyncio.Task[None]] = {}

    def file(self, path: str) -> pb.PromptFile:
        """Name a file."""
        self._named[path] = None
        self._named.move_to_end(path)
        if len(self._named) > _MOST_NAMED:
            self._named.popitem(last=False)
        try:
            facts = Path(path).stat()
        except (OSError, ValueError):
            return pb.PromptFile(path=path)  # the engine asks for it, and is told then
        return pb.PromptFile(path=path, modified_ns=facts.st_mtime_ns, size_bytes=facts.st_size)

    def ship(self, file: pb.PromptFile) -> None:
        """Give the engine a file's content, unless that is being done."""
        key = (file.path, file.modified_ns, file.size_bytes)
        if key not in self._shipping:
            task = asyncio.get_running_loop().create_task(self._ship(file))
            self._shipping[key] = task
            task.add_done_callback(lambda _: self._shipping.pop(key, None))

    async def aclose(self) -> None:
        """Ship no more."""
        await end_tasks(list(self._shipping.values()))

    async def _ship(self, file: pb.PromptFile) -> None:
        try:
            if file.path not in self._named:
                raise ValueError(f"{file.path}: no command has named it")  # noqa: TRY301
            data = await asyncio.to_thread(_read, Path(file.path))
        except (OSError, ValueError) as error:
            self._fail(file, str(error))
            return
        for left in reversed(range(_TRIES)):
            try:
                await self._give(file, data)
            except grpc.aio.AioRpcError as error:
                _log.warning("prompt_not_shipped", path=file.path, reason=error.details())
                if not left:
                    self._fail(file, f"{file.path}: {error.details()}")
                else:
                    await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _give(self, file: pb.PromptFile, data: bytes) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        request = pb.HasPromptRequest(node=self._node, file=file, sha256=sha256)
        metadata = self._address.metadata
        if (await self._link.stub.HasPrompt(request, metadata=metadata)).known:
            return
        await self._link.stub.ShipPrompt(_pieces(sha256, data), metadata=metadata)
        await self._link.stub.HasPrompt(request, metadata=metadata)

    def _fail(self, file: pb.PromptFile, error: str) -> None:
        missing = pb.PromptMissing(file=file, error=error)
        self._link.send(pb.Command(prompt_missing=missing))


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_PROMPT_BYTES + 1)
    if len(data) > MAX_PROMPT_BYTES:
        raise ValueError(f"{path}: too long to play")
    return data


def _pieces(sha256: str, data: bytes) -> Iterator[pb.PromptPiece]:
    yield pb.PromptPiece(sha256=sha256, data=data[:_PIECE_BYTES])
    for at in range(_PIECE_BYTES, len(data), _PIECE_BYTES):
        yield pb.PromptPiece(data=data[at : at + _PIECE_BYTES])
