"""Finished recordings on their way from the media process to this node's disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import grpc
import grpc.aio
import structlog

from cti.media import RecordingEnded
from cti.media_remote.link import MediaAddress, MediaLink
from cti95598.media.v1 import media_pb2 as pb
from domain.tasks import end_tasks

_log = structlog.get_logger(__name__)

_AT_ONCE = 4
_RETRY_S = 1.0
_LONGEST_RETRY_S = 30.0
_HASH_BYTES = 1 << 20


class Deliver(Protocol):
    """Takes a recording that is in its place."""

    def __call__(self, ended: RecordingEnded, *, is_own: bool) -> None:
        """`is_own`: this process began it."""


class _SpoiltError(Exception):
    """What came is not what was recorded."""


@dataclass(frozen=True, slots=True)
class _Parcel:
    name: str
    ended: RecordingEnded
    is_own: bool


class RecordingDelivery:
    """Fetches each recording until it is here whole, then lets the engine remove its own copy.

    Nothing counts before the file has the SHA-256 that the engine has told and is on the disk.
    """

    def __init__(
        self, link: MediaLink, address: MediaAddress, node: str, *, below: Path, deliver: Deliver
    ) -> None:
        self._link = link
        self._address = address
        self._node = node
        self._below = below
        self._deliver = deliver
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._stuck: set[str] = set()

    @property
    def waiting(self) -> int:
        """Count what is on its way."""
        return len(self._fetching)

    def fetch(self, name: str, ended: RecordingEnded, own_path: str | None) -> None:
        """Begin to fetch a recording, unless that is being done."""
        if name in self._fetching:
            return
        if own_path is None and not Path(ended.path).resolve().is_relative_to(
            self._below.resolve()
        ):
            _log.error("recording_of_no_place_of_ours", path=ended.path)
            return
        parcel = _Parcel(name, ended, own_path is not None)
        task = asyncio.get_running_loop().create_task(self._fetch(parcel))
        self._fetching[name] = task
        task.add_done_callback(lambda _: self._fetching.pop(name, None))

    async def done(self) -> None:
        """Wait until everything is here for which there is a place."""
        while on_its_way := [
            task for name, task in self._fetching.items() if name not in self._stuck
        ]:
            await asyncio.wait(on_its_way, timeout=_RETRY_S)

    async def aclose(self) -> None:
        """Fetch no more; the rest is told again to the next session."""
        await end_tasks(list(self._fetching.values()))

    async def _fetch(self, parcel: _Parcel) -> None:
        pause_s = _RETRY_S
        while True:
            try:
                async with self._turns:
                    if parcel.ended.sha256:
                        await self._bring(parcel)
                break
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    _log.error("recording_gone", path=parcel.ended.path)
                    return
                _log.warning("recording_fetch_broke", reason=error.details())
            except _SpoiltError as error:
                _log.error("recording_spoilt", path=parcel.ended.path, reason=str(error))
            except OSError as error:
                # Told at once, as by an engine inside; it is kept as soon as there is a place.
                _log.error("recording_not_kept", path=parcel.ended.path, reason=str(error))
                self._stuck.add(parcel.name)
                if parcel.is_own:
                    self._deliver(replace(parcel.ended, error=str(error)), is_own=True)
                    parcel = replace(parcel, is_own=False)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)
        self._stuck.discard(parcel.name)
        self._deliver(parcel.ended, is_own=parcel.is_own)
        await self._forget(parcel.name)

    async def _bring(self, parcel: _Parcel) -> None:
        """Put the file in its place; what has come before the stream broke is kept for the next."""
        path = Path(parcel.ended.path)
        part = path.with_name(f"{path.name}.{parcel.name}.part")
        offset = await asyncio.to_thread(_size_of, part)
        request = pb.FetchRecordingRequest(node=self._node, name=parcel.name, offset=offset)
        async for piece in self._link.stub.FetchRecording(request, metadata=self._address.metadata):
            await asyncio.to_thread(_append, part, piece.data)
        await asyncio.to_thread(_place, part, path, parcel.ended.sha256)

    async def _forget(self, name: str) -> None:
        request = pb.ForgetRecordingRequest(node=self._node, name=name)
        try:
            await self._link.stub.ForgetRecording(request, metadata=self._address.metadata)
        except grpc.aio.AioRpcError as error:
            # It is told again to the next session, and written once more over itself.
            _log.warning("recording_not_forgotten", reason=error.details())


def _size_of(part: Path) -> int:
    part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return part.stat().st_size if part.exists() else 0


def _append(part: Path, data: bytes) -> None:
    with part.open("ab") as file:
        file.write(data)


def _place(part: Path, path: Path, sha256: str) -> None:
    with part.open("ab+") as file:
        os.fsync(file.fileno())
        file.seek(0)
        digest = hashlib.sha256()
        while data := file.read(_HASH_BYTES):
            digest.update(data)
    if digest.hexdigest() != sha256:
        part.unlink()
        raise _SpoiltError("its SHA-256 is another one; it is fetched again")
    part.replace(path)
    # The name is to survive as well before the engine is let remove its copy.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
