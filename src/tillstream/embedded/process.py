"""One server as a child process: started on a free loopback port in a folder of its own, stopped by its own pid.

In: what a subclass says about its server: the command line, and a probe that tells whether *this* process answers.
Out: a server that is ready, its address, its log; and, after `stop`, no process and no temporary file. The same holds
when this program is killed, ends without `stop`, or gets a Ctrl-C: between it and the server stands `guard.py`.

A free port is found by binding to port 0 and letting go; another program may take it in between. So each probe asks
the server who it is, and a server that lost its port is started again on another one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar

HOST = "127.0.0.1"
# chDB is a library of 555 MB: 0.8 s when it is in the page cache, 11 s when it was not on a busy machine.
READY_S_MAX = 60.0
# Between two probes: the fastest server is up in 30 ms.
PROBE_EVERY_S = 0.02
# A probe talks over loopback to a server that does nothing else, and is repeated; a stranger may never answer it.
PROBE_S_MAX = 0.5
# Losing the race for a port twice in a row is already improbable.
START_ATTEMPTS_MAX = 3
# How long a server may take to end after SIGTERM: Redis and chDB were seen to need 0.2 s; a disk may be busy.
GRACE_S = 5.0
# The guard gives the server its grace and then kills it; this is what the guard itself may take on top.
GUARD_S_MAX = 3.0
# What of the log is read for an error: enough for a panic and its message, bounded because a log may be long.
LOG_TAIL_BYTES = 4096
LOG_TAIL_LINES = 12
MESSAGE_LOG_LINES = 3
# Redis and aiohttp say "address already in use", Tansu says "Address in use".
PORT_TAKEN_MARKS = ("already in use", "address in use")


class ServerError(Exception):
    """An embedded server cannot be started, or did not answer; one line, with the end of the server's log.

    `log_tail` holds the last lines of the log (at most 12), empty where there is none.
    """

    def __init__(self, message: str, log_tail: tuple[str, ...] = ()) -> None:
        lines = " | ".join(line.strip() for line in log_tail[-MESSAGE_LOG_LINES:])
        super().__init__(f"{message}: {lines}" if lines else message)
        self.log_tail = log_tail


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Server(ABC):
    """A child server process. `start` and `stop` it, or use it as a context manager, which gives its address.

    `folder` holds its data and `server.log`: without one, a temporary folder that `stop` removes; a given folder is
    kept unless `keep` says otherwise. `port` 0 takes a free one, and keeps it for a later `start` of the same object.
    Starting several at once: `launch` each, then `wait_until_ready` each; neither uses threads.
    """

    name: ClassVar[str]
    grace_s: ClassVar[float] = GRACE_S

    def __init__(self, folder: Path | None = None, *, port: int = 0, keep: bool | None = None) -> None:
        self._given_folder = folder
        self._keep = folder is not None if keep is None else keep
        self._fixed_port = port != 0
        self._guard: subprocess.Popen[bytes] | None = None
        self._attempts = 0
        self._ready_by = 0.0
        self.port = port
        self.folder = folder if folder is not None else Path()
        # Given to the server where it can carry it, so that a probe can tell it from a stranger on the same port.
        self.instance = secrets.token_hex(8)

    @property
    @abstractmethod
    def address(self) -> str:
        """What a client connects to."""

    @abstractmethod
    def command(self) -> list[str]:
        """The server's command line, on `self.port` and `self.folder`; ServerError where its binary is missing."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether this very process serves on `self.port`; OSError counts as no."""

    def environment(self) -> Mapping[str, str]:
        """What is added to this program's environment for the server."""
        return {}

    @property
    def log_path(self) -> Path:
        """Where the server's output goes."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        """The server's own process id; ServerError where it was never started."""
        try:
            return int((self.folder / "server.pid").read_text())
        except (OSError, ValueError):
            raise ServerError(f"{self.name} has no process") from None

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended since."""
        return self._guard is not None and self._guard.poll() is None and not (self.folder / "server.exit").exists()

    def launch(self) -> None:
        """Start the process without waiting for it; ServerError where its binary is missing or it runs already.

        One that has ended by itself is started again, in its folder and on its port.
        """
        if self.running:
            raise ServerError(f"{self.name} is already started")
        self._end_guard()
        self._attempts = 0
        self._ready_by = time.monotonic() + READY_S_MAX
        if self._given_folder is not None:
            self._given_folder.mkdir(parents=True, exist_ok=True)
            self.folder = self._given_folder.resolve()
        elif not self.folder.is_absolute():
            self.folder = Path(tempfile.mkdtemp(prefix=f"tillstream-{self.name}-")).resolve()
        try:
            self._spawn()
        except BaseException:
            self.stop()
            raise

    def wait_until_ready(self) -> str:
        """Wait until the launched server answers, at most 60 s from `launch`; returns its address.

        ServerError where it ended or stayed silent: it is then stopped, and its folder removed if temporary.
        """
        try:
            while not self._ready():
                taken = self._port_was_taken()
                if taken and not self._fixed_port and self._attempts < START_ATTEMPTS_MAX:
                    self._end_guard()
                    self.port = 0
                    self._spawn()
                elif taken:
                    raise ServerError(f"{self.name} cannot have port {self.port}", self.log_tail())
                elif not self.running:
                    raise ServerError(f"{self.name} ended while starting", self.log_tail())
                elif time.monotonic() > self._ready_by:
                    raise ServerError(f"{self.name} did not answer within {READY_S_MAX:.0f} s", self.log_tail())
                time.sleep(PROBE_EVERY_S)
        except BaseException:
            self.stop()
            raise
        return self.address

    def start(self) -> str:
        """`launch` and `wait_until_ready`: returns the address."""
        self.launch()
        return self.wait_until_ready()

    def stop(self) -> None:
        """End the server: SIGTERM, and SIGKILL after its `grace_s`. Remove its folder, if temporary.

        Does nothing where it is stopped already.
        """
        try:
            self._end_guard()
        finally:
            if not self._keep and self.folder.is_absolute():
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder = Path() if self._given_folder is None else self.folder

    def kill(self) -> None:
        """SIGKILL the server, as a crash would, and keep its folder: `start` brings it back on the same port."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
        self._end_guard()

    def log_tail(self) -> tuple[str, ...]:
        """The last lines of the server's log, at most 12; empty where there is none."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(max(0, self.log_path.stat().st_size - LOG_TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ()
        return tuple(line for line in lines if line.strip())[-LOG_TAIL_LINES:]

    def _spawn(self) -> None:
        self._attempts += 1
        self.port = self.port or free_port()
        for stale in ("server.pid", "server.exit"):
            (self.folder / stale).unlink(missing_ok=True)
        removal = "keep" if self._keep else "remove"
        guard = [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py"))]
        with self.log_path.open("wb") as log:
            self._guard = subprocess.Popen(
                [*guard, str(os.getpid()), str(self.folder), removal, str(self.grace_s), *self.command()],
                cwd=self.folder,
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _ready(self) -> bool:
        try:
            return self.running and self.answers()
        except (OSError, ServerError):
            return False

    def _port_was_taken(self) -> bool:
        """Tansu may live on after it failed to listen, so the log is asked and not the process."""
        tail = " ".join(self.log_tail()).lower()
        return any(mark in tail for mark in PORT_TAKEN_MARKS)

    def _end_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is None:
            return
        guard.terminate()
        try:
            guard.wait(self.grace_s + GUARD_S_MAX)
        except BaseException as error:
            # Too slow, or a second Ctrl-C: the server dies with its guard.
            guard.kill()
            guard.wait(GUARD_S_MAX)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
