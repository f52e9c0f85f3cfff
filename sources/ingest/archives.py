"""Files as they come: plain, `.gz` or `.zip`, unpacked as a stream and within bounds.

Nothing is written to disk and no name inside an archive is used as a path, so none can lead out of a folder. What unpacks to more than
RATIO_MAX times its size, or to more than UNPACKED_MAX, is refused while it is read.
"""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

UNPACKED_MAX = 16 * 1024**3
"""More is no export of a day, and would fill a machine's patience."""

RATIO_MAX = 200
"""Repetitive CSV shrinks to a fiftieth; a bomb to a thousandth."""

RATIO_FROM = 1024 * 1024
"""Below this size no ratio is suspicious."""

MEMBERS_MAX = 10_000

GZIP, ZIP = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")


class Damaged(Exception):
    """A file that cannot be unpacked, or not any further; the message is fit for a user."""


class Member(NamedTuple):
    """One file: the archive's own, or one inside of it."""

    name: str
    stream: BinaryIO


class Budget:
    """What an archive may unpack to, all its files together: they may overlap."""

    def __init__(self, packed: int) -> None:
        self.most = min(UNPACKED_MAX, max(RATIO_FROM, packed * RATIO_MAX))
        self.given = 0

    def take(self, size: int) -> None:
        """Raises Damaged where it is used up."""
        self.given += size
        if self.given > self.most:
            raise Damaged(f"unpacks to more than {self.most} bytes, more than {RATIO_MAX} times its size: refused as a bomb")


class Bounded(io.RawIOBase):
    """A stream that ends with Damaged where it gives more than it may, or breaks off."""

    def __init__(self, inner: BinaryIO, budget: Budget) -> None:
        self.inner = inner
        self.budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            piece = self.inner.read(len(buffer))
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise Damaged(f"cannot be unpacked: {error}") from None
        self.budget.take(len(piece))
        buffer[: len(piece)] = piece
        return len(piece)


def members(file: BinaryIO, name: str) -> Iterator[Member]:
    """The files in a file, each to be read before the next is asked for; told by their first bytes, not by their names.

    Raises:
        Damaged: an archive that is none, encrypted, or of too many files.
    """
    head = file.read(4)
    file.seek(0)
    budget = Budget(file.seek(0, io.SEEK_END))
    file.seek(0)
    if head[:2] == GZIP:
        with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
            yield Member(name, _bounded(unpacked, budget))  # type: ignore[arg-type]
    elif head in ZIP:
        yield from _zipped(file, budget)
    else:
        yield Member(name, file)


def _zipped(file: BinaryIO, budget: Budget) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeError, RuntimeError) as error:
        raise Damaged(f"no zip archive: {error}") from None
    with archive:
        infos = sorted((info for info in archive.infolist() if not info.is_dir()), key=lambda info: info.filename)
        if len(infos) > MEMBERS_MAX:
            raise Damaged(f"the archive has {len(infos)} files, at most {MEMBERS_MAX} are taken")
        for info in infos:
            with _opened(archive, info, budget) as stream:
                yield Member(info.filename, stream)


@contextmanager
def _opened(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> Iterator[BinaryIO]:
    """One file of an archive."""
    if info.flag_bits & 0x1:
        raise Damaged(f"{info.filename!r} is encrypted")
    try:
        inner = archive.open(info)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeError, RuntimeError) as error:
        raise Damaged(f"{info.filename!r} cannot be unpacked: {error}") from None
    with inner:
        yield _bounded(inner, budget)  # type: ignore[arg-type]


def _bounded(inner: BinaryIO, budget: Budget) -> BinaryIO:
    return Bounded(inner, budget)  # type: ignore[return-value]
