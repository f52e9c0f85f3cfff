"""A real Apache Kafka cluster for tests: three nodes, KRaft, on free loopback ports, in a temporary folder.

In: the version named in tests/kafka/pom.xml, whose jars Maven copies into `$XDG_CACHE_HOME/tillstream/kafka-<version>`
once. Out: `bootstrap`, and nodes that can be killed and started again.

    with KafkaCluster(folder) as cluster:
        Producer({"bootstrap.servers": cluster.bootstrap})
        cluster.kill(2)
        cluster.start(2)

Only this, of the brokers that tests can have, proves transactions, fencing, compaction and the loss of a broker.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

POM = Path(__file__).parent / "kafka" / "pom.xml"
NODES = 3
# Three JVMs start together on two cores in about ten seconds; a busy machine gets six times that.
START_S = 60.0
# Maven fetches about 45 jars, once.
MAVEN_S = 600.0

# C1 only and the serial collector: tests pay for start-up, not for throughput.
JAVA = (
    *("java", "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)

PROPERTIES = """process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=BROKER://127.0.0.1:{port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={folder}/data
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
offsets.topic.num.partitions=3
transaction.state.log.num.partitions=3
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
num.network.threads=2
num.io.threads=4
log.cleaner.backoff.ms=1000
"""


def why_unavailable() -> str | None:
    """Say what is missing to run a cluster here; None where nothing is."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    return f"Apache Kafka needs {' and '.join(missing)} on PATH" if missing else None


def jars() -> Path:
    """The folder of the broker's jars; fetched by Maven the first time."""
    version = re.findall(r"<version>([\d.]+)</version>", POM.read_text())[-1]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tillstream"
    folder = cache / f"kafka-{version}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        # Renamed when complete, so that an interrupted download is never taken for a broker.
        with tempfile.TemporaryDirectory(dir=cache) as partial:
            command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
            subprocess.run([*command, f"-DoutputDirectory={partial}/libs"], check=True, timeout=MAVEN_S)
            try:
                os.rename(f"{partial}/libs", folder)
            except OSError:
                # Somebody else was faster.
                if not folder.is_dir():
                    raise
    return folder


@contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Ports of the loopback interface that nobody listens on; reserved until the block ends."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for held in sockets:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
        yield [held.getsockname()[1] for held in sockets]
    finally:
        for held in sockets:
            held.close()


class KafkaCluster:
    """Three nodes, numbered 1 to 3, each broker and controller; data and logs live in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._class_path = f"{jars()}/*"
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        with free_ports(2 * NODES) as ports:
            self._ports = ports[:NODES]
            self._controller_ports = ports[NODES:]
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in self._ports)

    def __enter__(self) -> Self:
        try:
            self._format()
            for node in range(1, NODES + 1):
                self._launch(node)
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self, node: int) -> None:
        """Start a node that was killed, and wait until all nodes are back."""
        self._launch(node)
        self.wait_until_ready()

    def kill(self, node: int) -> None:
        """End a node as a power cut would."""
        process = self._running.pop(node)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End all nodes."""
        # The data is temporary, so no node has anything to hand over.
        for process in self._running.values():
            process.kill()
        for process in self._running.values():
            process.wait()
        self._running.clear()

    def wait_until_ready(self) -> None:
        """Wait until every started node serves; raises TimeoutError with the end of its log."""
        deadline = time.monotonic() + START_S
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        while time.monotonic() < deadline:
            for node, process in self._running.items():
                if process.poll() is not None:
                    raise RuntimeError(f"Kafka node {node} ended:\n{self._log_end(node)}")
            try:
                # A node just killed is listed until its session ends, so each is asked in person as well.
                for node in self._running:
                    socket.create_connection(("127.0.0.1", self._ports[node - 1]), 1).close()
                if len(admin.list_topics(timeout=2).brokers) == len(self._running):
                    return
            except (KafkaException, OSError):
                pass
            time.sleep(0.1)
        raise TimeoutError("\n".join(self._log_end(node) for node in self._running))

    def _format(self) -> None:
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(self._controller_ports, start=1))
        cluster_id = uuid.uuid4().hex[:22]
        formatting = []
        for node in range(1, NODES + 1):
            folder = self._node_folder(node)
            folder.mkdir(parents=True)
            (folder / "server.properties").write_text(
                PROPERTIES.format(
                    node=node,
                    voters=voters,
                    port=self._ports[node - 1],
                    controller_port=self._controller_ports[node - 1],
                    folder=folder,
                )
            )
            tool = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(folder / "server.properties")]
            with (folder / "log").open("ab") as log:
                formatting.append(subprocess.Popen([*self._java(), *tool], stdout=log, stderr=log))
        for node, process in enumerate(formatting, start=1):
            if process.wait(START_S) != 0:
                raise RuntimeError(f"Kafka's storage could not be formatted:\n{self._log_end(node)}")

    def _launch(self, node: int) -> None:
        folder = self._node_folder(node)
        with (folder / "log").open("ab") as log:
            self._running[node] = subprocess.Popen(
                [*self._java(), "kafka.Kafka", str(folder / "server.properties")], stdout=log, stderr=log, cwd=folder
            )

    def _java(self) -> list[str]:
        return [*JAVA, "-cp", self._class_path]

    def _node_folder(self, node: int) -> Path:
        return self.folder / f"node-{node}"

    def _log_end(self, node: int) -> str:
        return (self._node_folder(node) / "log").read_text(errors="replace")[-2000:]
