"""A headless Chromium for tests, driven by its DevTools protocol over two pipes: no port, no further package.

In: expressions to evaluate in a page, addresses to go to. Out: values as JSON. Its profile is a folder of the test's.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

COMMAND = "chromium"
"""Debian's package and command; .ci/run installs it."""

FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-default-browser-check",
)  # fmt: skip

ANSWER_S = 60.0
"""The first start on a machine shared with others takes longest."""

PIPES = 'exec "$@" 3<&"$IN" 4>&"$OUT"'
"""The protocol's file descriptors are these two, by number."""


class Chromium:
    """One browser with one page."""

    def __init__(self, folder: Path, *flags: str) -> None:
        to_browser, to_us = os.pipe(), os.pipe()
        sandbox = ["--no-sandbox"] if os.getuid() == 0 else []  # Chromium does not run as root otherwise; it sees this test's pages only.
        command = [COMMAND, *FLAGS, *sandbox, *flags, f"--user-data-dir={folder}", "about:blank"]
        with (folder.parent / "chromium.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", PIPES, "bash", *command],
                env={**os.environ, "IN": str(to_browser[0]), "OUT": str(to_us[1]), "HOME": str(folder)},
                pass_fds=(to_browser[0], to_us[1]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(to_browser[0])
        os.close(to_us[1])
        self.to, self.back = os.fdopen(to_browser[1], "wb", buffering=0), os.fdopen(to_us[0], "rb", buffering=0)
        os.set_blocking(to_us[0], False)
        self.read = b""
        self.calls = 0
        self.session: str | None = None
        self.events: list[dict[str, Any]] = []

    def open(self) -> None:
        """Attaches to the page."""
        (page,) = [each for each in self.call("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One call of the protocol, and its result."""
        self.calls += 1
        session = {} if self.session is None else {"sessionId": self.session}
        self.to.write(json.dumps({"id": self.calls, "method": method, "params": params, **session}).encode() + b"\0")
        while True:
            message = self.message()
            if message.get("id") == self.calls:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def message(self) -> dict[str, Any]:
        """The next message of the browser."""
        deadline = time.monotonic() + ANSWER_S
        while b"\0" not in self.read:
            assert time.monotonic() < deadline, "Chromium says nothing"
            part = self.back.read(1 << 20)
            assert part != b"", "Chromium has ended"
            if part is None:
                time.sleep(0.005)
            else:
                self.read += part
        first, self.read = self.read.split(b"\0", 1)
        message: dict[str, Any] = json.loads(first)
        return message

    def go(self, address: str) -> None:
        """Leaves the page for another, and waits until that one is loaded."""
        before = len(self.events)
        result = self.call("Page.navigate", url=address)
        assert "errorText" not in result, result
        while not any(is_loaded(event, result["loaderId"]) for event in self.events[before:]):
            self.events.append(self.message())

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; promises are waited for."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def said(self) -> list[str]:
        """What the browser wrote into the console by itself, refusals among it, since `events` was cleared."""
        return [event["params"]["entry"]["text"] for event in self.events if event.get("method") == "Log.entryAdded"]

    def close(self) -> None:
        """Ends the browser; its pid is that of the command, which the shell became."""
        self.to.close()  # A browser whose pipe is closed ends.
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.back.close()


def is_loaded(event: dict[str, Any], loader: str) -> bool:
    """Whether an event tells that this very page is loaded, and not one that was on its way before it."""
    said = event.get("params", {})
    return event.get("method") == "Page.lifecycleEvent" and (said["name"], said["loaderId"]) == ("load", loader)


@contextmanager
def chromium(folder: Path, *flags: str) -> Iterator[Chromium]:
    """A browser; its profile is a new folder in `folder`. The test is skipped where there is none."""
    if shutil.which(COMMAND) is None:
        pytest.skip("NOT TESTED IN A BROWSER: no chromium on PATH (Debian's package chromium)")
    profile = folder / "chromium"
    profile.mkdir()
    browser = Chromium(profile, *flags)
    try:
        browser.open()
        yield browser
    finally:
        browser.close()
