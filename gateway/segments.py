"""Records in a file, each with its length and a checksum in front, so that an end that was torn off is told from a record.

    length    uint32, little-endian: bytes of the body, 1 to `BODY_BYTES_MAX`
    checksum  uint32, little-endian: CRC-32 of the length's four bytes and the body
    body      bytes

A length of 0 is none: a disk that was cut off may leave a tail of zeros, whose checksum would hold.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

HEADER = struct.Struct("<II")
LENGTH = struct.Struct("<I")

READ_BYTES = 2 * 1024 * 1024
"""Read at a time; no record is larger, so that what is read from the beginning of a record has the whole of it."""

BODY_BYTES_MAX = READ_BYTES - HEADER.size

SUFFIX = ".spool"
DAMAGED = ".damaged"


class Found(NamedTuple):
    """A record, and where in the file it ends."""

    body: bytes
    end: int


def framed(body: bytes) -> bytes:
    """A record as it stands in the file.

    Raises:
        ValueError: the body is empty, or longer than `BODY_BYTES_MAX`.

    >>> framed(b"receipt").hex(" ", -4)
    '07000000 54cd498c 72656365 697074'
    """
    if not 1 <= len(body) <= BODY_BYTES_MAX:
        raise ValueError(f"a record has 1 to {BODY_BYTES_MAX} bytes, not {len(body)}")
    length = LENGTH.pack(len(body))
    return b"".join((length, LENGTH.pack(crc32(body, crc32(length))), body))


def records_in(data: bytes, begin: int = 0) -> Iterator[Found]:
    """The records in `data`, which stands at `begin` in the file, up to the first that is not whole or not right.

    >>> [found.body for found in records_in(framed(b"one") + framed(b"two")[:-1])]
    [b'one']
    """
    at = 0
    while at + HEADER.size <= len(data):
        length, checksum = HEADER.unpack_from(data, at)
        body = data[at + HEADER.size : at + HEADER.size + length]
        if not 1 <= length == len(body) or crc32(body, crc32(data[at : at + LENGTH.size])) != checksum:
            return
        at += HEADER.size + length
        yield Found(body, begin + at)


def is_torn(data: bytes) -> bool:
    """Whether `data`, which begins where a record should and is none, is what a process leaves that died while it wrote one.

    >>> is_torn(framed(b"one")[:-1]), is_torn(framed(b"one")[:-1] + b"!")
    (True, False)
    """
    if len(data) < HEADER.size:
        return True
    length: int = LENGTH.unpack_from(data)[0]
    return len(data) < HEADER.size + length <= READ_BYTES


def read_from(path: Path, begin: int) -> bytes:
    """At most `READ_BYTES` of a file."""
    with path.open("rb") as file:
        file.seek(begin)
        return file.read(READ_BYTES)


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:012}{SUFFIX}"


def segment_numbers(folder: Path) -> list[int]:
    """The segments in a folder, oldest first."""
    return sorted(int(path.stem) for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit())


def sync_folder(folder: Path) -> None:
    """Makes names that were created in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
