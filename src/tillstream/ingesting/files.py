"""Which files there are to take, whether they are complete, and where they go when they are done.

Only regular files count: a link in a drop folder could lead anywhere. A file is complete when its size and time have not changed for
`stable_s` seconds, or when its marker lies beside it.
"""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tillstream.errors import UsageError
from tillstream.ingesting.rejects import SUFFIX
from tillstream.sources.ingest.mapping import Files

READ_BYTES = 1024 * 1024


class Look(NamedTuple):
    """A file's size and time, and when it was first seen so."""

    size: int
    changed_ns: int
    seen_s: float


class Opened(NamedTuple):
    """An open file, the hash of its content, and when it was last changed."""

    file: BinaryIO
    content: str
    changed_ns: int

    @property
    def changed(self) -> bool:
        """Whether somebody has written to it since."""
        return os.fstat(self.file.fileno()).st_mtime_ns != self.changed_ns


class Watchman:
    """Knows which files of a folder are complete."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.looks: dict[Path, Look] = {}

    def waiting_s(self, path: Path) -> float:
        """How long a file is to be left alone yet, seconds; 0 where it is complete.

        Raises:
            UsageError: it is not there.
        """
        try:
            found = path.lstat()
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None
        if self.files.marker is not None:
            return 0.0 if path.with_name(path.name + self.files.marker).exists() else float("inf")
        look = self.looks.get(path)
        if look is None or (look.size, look.changed_ns) != (found.st_size, found.st_mtime_ns):
            self.looks[path] = look = Look(found.st_size, found.st_mtime_ns, time.monotonic())
        age = time.time() - found.st_mtime
        unchanged = max(time.monotonic() - look.seen_s, age)
        return max(0.0, self.files.stable_s - unchanged)


def candidates(target: Path, files: Files) -> list[Path]:
    """The file itself, or the files of a folder that the mapping takes, by name.

    Raises:
        UsageError: there is nothing there.
    """
    if not target.is_dir():
        if not target.is_file() or target.is_symlink():
            raise UsageError(f"{target}: no such file or folder" if not target.is_symlink() else f"{target}: a link; name the file itself")
        return [target]
    try:
        entries = sorted(os.scandir(target), key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError(f"{target}: {error.strerror}") from None
    ours = (SUFFIX, files.marker) if files.marker else (SUFFIX,)
    return [
        Path(entry.path)
        for entry in entries
        if entry.is_file(follow_symlinks=False)
        and fnmatchcase(entry.name, files.pattern)
        and not entry.name.startswith(".")
        and not entry.name.endswith(ours)
    ]


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """A file, open and hashed.

    Raises:
        UsageError: it cannot be read, or is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    with open(descriptor, "rb", buffering=0) as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{path}: no regular file")
        content = blake2b(digest_size=16)
        while piece := file.read(READ_BYTES):
            content.update(piece)
        file.seek(0)
        yield Opened(file, content.hexdigest(), found.st_mtime_ns)


def rejects_path(path: Path, content: str, files: Files) -> Path:
    """Where the rejects of a file go: beside it, or into the mapping's folder; the content's hash keeps days of one name apart."""
    folder = path.parent / files.rejects if files.rejects is not None else path.parent
    return folder / f"{path.name}.{content[:8]}{SUFFIX}"


def put_away(path: Path, content: str, files: Files) -> Path:
    """Moves a file that is done, and its marker, as the mapping says; where it is now.

    Raises:
        UsageError: it cannot be moved.
    """
    if files.done is None:
        return path
    folder = path.parent / files.done
    place = folder / path.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if place.exists():
            place = folder / f"{path.stem}.{content[:8]}{path.suffix}"
        path.rename(place)
        if files.marker is not None:
            path.with_name(path.name + files.marker).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot be moved to {str(folder)!r}: {error.strerror}; correct files.done in the mapping") from None
    return place
