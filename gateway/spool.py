"""A bounded queue on disk: what was appended is there after a kill -9 or a power cut, and is read in order.

In: bodies of records; `append` returns when they are synced to disk, and those that arrive during a sync share the next one. Out: `read`
gives the oldest, `acknowledge` lets go of them. A file (`segments.py`) is deleted when all of it is acknowledged. A spool that is opened
goes on in a new file, so an end that was torn off stays what it is: the last thing in its file, and no record.

Delivery: at least once, in order. Where reading had come to is not stored; after a restart each file that is still there is read from
its beginning.
"""

import asyncio
import fcntl
import logging
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tillstream.gateway.segments import (
    DAMAGED,
    READ_BYTES,
    Found,
    framed,
    is_torn,
    read_from,
    records_in,
    segment_numbers,
    segment_path,
    sync_folder,
)

SEGMENT_BYTES_MAX = 8 * 1024 * 1024
"""A file that reaches this is closed; small enough that draining gives room back early, large enough that few files are made."""

WAITING_BYTES_MAX = 16 * 1024 * 1024
"""What may wait in memory for a disk that is slow: a second of the heaviest traffic."""

LOCK = "lock"

log = logging.getLogger("tillstream.spool")


class SpoolFull(Exception):
    """The spool has no room, or the disk does not keep up; nothing was taken."""


class SpoolFailed(Exception):
    """The disk refused; what was to be appended counts as not taken."""


class SpoolInUse(Exception):
    """Another process has the folder."""


class Batch(NamedTuple):
    """Records in order; `segment` and `end` are where reading goes on once they are acknowledged."""

    bodies: list[bytes]
    segment: int
    end: int


class _Append(NamedTuple):
    data: bytes
    records: int
    done: asyncio.Future[None]


class Spool:
    """The spool in one folder, which it creates and has for itself until `close`. All work on files is done in one thread.

    Attributes:
        records: how many are to be acknowledged, those on their way to the disk included; 0 means empty.
        bytes: what they take on disk; at most `bytes_max`.

    Raises:
        SpoolInUse: another process has the folder.
        OSError: the folder can't be made, read or written.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder, self.bytes_max = folder, bytes_max
        self.lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self.lock)
            raise SpoolInUse(f"{folder}: another process has this spool; give each gateway a folder of its own") from None
        self.segments = deque(segment_numbers(folder))
        self.next_number = self.segments[-1] + 1 if self.segments else 0
        self.position = 0
        self.bytes = sum(segment_path(folder, number).stat().st_size for number in self.segments)
        self.records = sum(len(self._whole(number)) for number in self.segments)
        self.file: int | None = None  # Its descriptor, and how much of it is synced.
        self.written = 0
        self.waiting: list[_Append] = []
        self.flushing: asyncio.Task[None] | None = None
        self.thread = ThreadPoolExecutor(1, "spool")

    async def append(self, bodies: Sequence[bytes]) -> None:
        """Takes records, all or none; they are synced to disk when this returns.

        Raises:
            SpoolFull: they would go beyond `bytes_max`, or too much waits for the disk.
            SpoolFailed: the disk refused them.
            ValueError: a body is empty or longer than a record may be.
        """
        data = b"".join(framed(body) for body in bodies)
        waiting = sum(len(append.data) for append in self.waiting)
        if self.bytes + len(data) > self.bytes_max or waiting + len(data) > WAITING_BYTES_MAX:
            raise SpoolFull(f"{self.folder}: {self.bytes} of {self.bytes_max} bytes are taken, {waiting} more wait for the disk")
        append = _Append(data, len(bodies), asyncio.get_running_loop().create_future())
        self.bytes += len(data)
        self.records += append.records
        self.waiting.append(append)
        if self.flushing is None or self.flushing.done():
            self.flushing = asyncio.create_task(self._flush())
        await asyncio.shield(append.done)

    async def read(self, records_max: int) -> Batch | None:
        """The oldest records that are not acknowledged, at most `records_max` or 2 MiB; None: there are none on disk."""
        batch, freed = await asyncio.get_running_loop().run_in_executor(self.thread, self._read, records_max)
        self.bytes -= freed
        return batch

    async def acknowledge(self, batch: Batch) -> None:
        """Lets go of what `read` gave; files with nothing else in them are deleted."""
        self.bytes -= await asyncio.get_running_loop().run_in_executor(self.thread, self._let_go, batch)
        self.records -= len(batch.bodies)

    async def close(self) -> None:
        """Ends after the appends so far, and gives the folder free; what is not acknowledged stays."""
        if self.flushing is not None:
            await self.flushing
        self.thread.shutdown(wait=True)
        self._close_file()
        os.close(self.lock)

    async def _flush(self) -> None:
        while self.waiting:
            group, self.waiting = self.waiting, []
            try:
                await asyncio.get_running_loop().run_in_executor(self.thread, self._write, b"".join(append.data for append in group))
                failure = None
            except Exception as error:  # Whatever it was, nobody may wait for ever.
                failure = error
                log.error("spool_failed folder=%s error=%s", self.folder, error)
            for append in group:
                if failure is not None:
                    self.bytes -= len(append.data)
                    self.records -= append.records
                    append.done.set_exception(SpoolFailed(f"{self.folder}: {failure}"))
                    append.done.exception()  # Whoever waited may have been cancelled, and nobody else asks.
                else:
                    append.done.set_result(None)

    def _write(self, data: bytes) -> None:
        """One group to disk, whole and synced, or not at all."""
        try:
            if self.file is None or self.written >= SEGMENT_BYTES_MAX:
                self._open_file()
            file = self.file
            assert file is not None
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
        except OSError:
            # What a failed sync left on disk nobody knows: the file is cut where it was right and not written to again.
            if self.file is not None:
                with suppress(OSError):
                    os.ftruncate(self.file, self.written)
                self._close_file()
            raise
        self.written += len(data)

    def _open_file(self) -> None:
        self._close_file()
        number = self.next_number
        self.file = os.open(segment_path(self.folder, number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self.next_number, self.written = number + 1, 0
        self.segments.append(number)
        sync_folder(self.folder)

    def _close_file(self) -> None:
        if self.file is not None:
            os.close(self.file)
            self.file = None

    def _read(self, records_max: int) -> tuple[Batch | None, int]:
        freed = 0
        while self.segments:
            number = self.segments[0]
            found: list[Found] = []
            for record in records_in(read_from(segment_path(self.folder, number), self.position), self.position):
                found.append(record)
                if len(found) == records_max:
                    break
            if found:
                return Batch([record.body for record in found], number, found[-1].end), freed
            freed += self._drop(number)
        return None, freed

    def _let_go(self, batch: Batch) -> int:
        self.position = batch.end
        # Also the file that is being written, where it has nothing else: an empty spool is an empty folder.
        if self.position < segment_path(self.folder, batch.segment).stat().st_size:
            return 0
        return self._drop(batch.segment)

    def _drop(self, number: int) -> int:
        """Removes the oldest file, which was read to its end; gives its size.

        What is in it that is no record, and not just torn off, is kept for a person to look at.
        """
        path = segment_path(self.folder, number)
        size = path.stat().st_size
        rest = read_from(path, self.position)
        if self.file is not None and number == self.next_number - 1:
            self._close_file()
        if rest and not is_torn(rest):
            path.rename(path.with_suffix(DAMAGED))
            log.error("spool_damaged file=%s from_byte=%d bytes=%d", path.with_suffix(DAMAGED), self.position, size - self.position)
        else:
            path.unlink()
            if rest:
                log.warning("spool_torn file=%s bytes=%d", path, len(rest))
        self.segments.popleft()
        self.position = 0
        return size

    def _whole(self, number: int) -> list[int]:
        """Where each record of a segment ends."""
        path, at, ends = segment_path(self.folder, number), 0, list[int]()
        while data := read_from(path, at):
            ends += [found.end for found in records_in(data, at)]
            if not ends or ends[-1] == at or len(data) < READ_BYTES:
                break
            at = ends[-1]
        return ends
