"""The guard of one server process: its parent, so that nothing outlives the program that asked for it.

In: argv `PARENT_PID FOLDER remove|keep GRACE_S COMMAND...`. Out: the server as a child, `FOLDER/server.pid` while it
is being run, `FOLDER/server.exit` (its exit code) once it ended.

It runs in a session of its own, so a Ctrl-C in the terminal reaches neither it nor the server. It ends the server when

1. it is told to (SIGTERM): the folder is left to whoever told it;
2. the program that asked for the server is gone, by SIGKILL too: then the folder is removed here, if it is temporary.

Where the guard itself is killed, Linux kills the server with it (PR_SET_PDEATHSIG). That signal alone would not do in
the program itself: it fires when the *thread* that forked ends, and it removes no files.

The file is run by its path under `python -I -S`, imports nothing of ours, and starts in about 20 ms.
"""

import ctypes
import os
import select
import shutil
import signal
import sys
import time

# How often the guard looks whether its parent lives: five wake-ups a second cost nothing, and nobody waits for more.
PARENT_CHECK_S = 0.2
# From <sys/prctl.h>.
PR_SET_PDEATHSIG = 1


def spawn(command: list[str], folder: str) -> int:
    """Fork and execute `command`; returns its pid. The child writes server.pid before it becomes the server."""
    guard_pid = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != guard_pid:
                os._exit(1)
        with open(os.path.join(folder, "server.pid"), "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error.strerror}\n".encode())
    finally:
        # Reached only where exec failed: the child must never run on as a second guard.
        os._exit(127)


def listen() -> int:
    """Have every signal that matters written to a pipe; returns its reading end."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        # Only a signal that has a handler is written to the pipe.
        signal.signal(number, lambda *_: None)
    return wake_read


def watch(server_pid: int, parent_pid: int, folder: str, grace_s: float, wake_read: int) -> None:
    """Return once the server has ended and there is nothing to wait for any more: told to stop, or orphaned.

    `grace_s`: how long it may take to end after SIGTERM, before SIGKILL.
    """
    told = False
    running = True
    kill_at: float | None = None
    while True:
        if running:
            ended, status = os.waitpid(server_pid, os.WNOHANG)
            if ended:
                running = False
                with open(os.path.join(folder, "server.exit"), "w", encoding="ascii") as file:
                    file.write(str(os.waitstatus_to_exitcode(status)))
        if told or os.getppid() != parent_pid:
            if not running:
                return
            if kill_at is None:
                os.kill(server_pid, signal.SIGTERM)
                kill_at = time.monotonic() + grace_s
            elif time.monotonic() > kill_at:
                os.kill(server_pid, signal.SIGKILL)
        if select.select([wake_read], [], [], min(PARENT_CHECK_S, grace_s))[0]:
            told = told or bool(set(os.read(wake_read, 64)) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def main(argv: list[str]) -> int:
    """Guard one server; see the module's docstring for `argv`."""
    parent_pid, folder, removal, grace_s, command = int(argv[0]), argv[1], argv[2], float(argv[3]), argv[4:]
    wake_read = listen()
    watch(spawn(command, folder), parent_pid, folder, grace_s, wake_read)
    if removal == "remove" and os.getppid() != parent_pid:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
