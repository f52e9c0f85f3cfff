"""The embedded servers: they start, they are what they claim, and nothing of them is left, however one stops."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.redis_servers import RedisServer, redis_server  # noqa: F401
from tillstream.embedded import process
from tillstream.embedded.broker import Broker
from tillstream.embedded.clickhouse import ClickHouse
from tillstream.embedded.process import Server, ServerError
from tillstream.embedded.redis import Redis
from tillstream.embedded.system import System

# A guard notices its parent's death in 0.2 s and gives its server 5 s; the rest is a busy machine.
GONE_S_MAX = 20.0

# Starts a System, says where it is, and waits; on Ctrl-C says whether Redis still answered, and leaves in order.
PROGRAM = """
import json, sys, time
from tillstream.embedded.redis import served_by
from tillstream.embedded.system import System
system = System()
with system:
    try:
        print(json.dumps({"pids": [s.pid for s in system.servers] + [s._guard.pid for s in system.servers],
                          "folders": [str(s.folder) for s in system.servers]}), flush=True)
        time.sleep(120)
    except KeyboardInterrupt:
        time.sleep(0.5)
        print(json.dumps({"answered": served_by(system.redis.port) == system.redis.pid}), flush=True)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie, whose parent has not looked yet, does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def assert_gone(pids: list[int], folders: list[str]) -> None:
    deadline = time.monotonic() + GONE_S_MAX
    while any(alive(pid) for pid in pids) or any(Path(folder).exists() for folder in folders):
        assert time.monotonic() < deadline, (pids, folders)
        time.sleep(0.05)


@pytest.fixture
def program() -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A program of its own that holds a System, in a process group of its own as in a terminal."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as child:
        try:
            assert child.stdout is not None
            yield child, json.loads(child.stdout.readline())
        finally:
            child.kill()


def test_system_stopped_leaves_no_process_and_no_file() -> None:
    system = System()
    with system as addresses:
        pids = [server.pid for server in system.servers]
        folders = [str(server.folder) for server in system.servers]
        assert all(alive(pid) for pid in pids)
        assert addresses.kafka == f"127.0.0.1:{system.broker.port}"
        assert addresses.redis == f"redis://127.0.0.1:{system.redis.port}/0"
        assert addresses.clickhouse == f"http://127.0.0.1:{system.clickhouse.port}"
    assert not any(alive(pid) for pid in pids)
    assert not any(Path(folder).exists() for folder in folders)
    system.stop()


def test_system_of_a_program_killed_is_gone_with_its_files(
    program: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    child, said = program
    assert all(alive(pid) for pid in said["pids"])
    child.kill()
    assert_gone(said["pids"], said["folders"])


def test_system_of_a_program_terminated_is_gone_with_its_files(
    program: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    child, said = program
    child.terminate()
    assert_gone(said["pids"], said["folders"])


def test_system_on_ctrl_c_serves_until_the_program_stops_it(
    program: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    child, said = program
    os.killpg(child.pid, signal.SIGINT)
    assert child.stdout is not None
    assert json.loads(child.stdout.readline()) == {"answered": True}
    assert child.wait(GONE_S_MAX) == 0
    assert not any(alive(pid) for pid in said["pids"])
    assert not any(Path(folder).exists() for folder in said["folders"])


def test_guard_killed_takes_its_server_with_it() -> None:
    server = Redis()
    server.start()
    assert server._guard is not None
    server._guard.kill()
    assert_gone([server.pid], [])
    server.stop()
    assert not server.folder.is_absolute()


def test_systems_side_by_side_are_separate() -> None:
    with System() as one, System() as other:
        assert len({one.kafka, one.redis, one.clickhouse, other.kafka, other.redis, other.clickhouse}) == 6
        with redis.Redis.from_url(one.redis) as first, redis.Redis.from_url(other.redis) as second:
            first.set("key", 1)
            assert second.get("key") is None


@pytest.mark.parametrize("keep", [False, True])
def test_system_in_a_given_folder_keeps_its_files_only_if_told(tmp_path: Path, keep: bool) -> None:
    (tmp_path / "mine").write_text("stays")
    with System(tmp_path, keep=keep):
        assert {path.name for path in tmp_path.iterdir()} == {"mine", "broker", "redis", "clickhouse"}
    assert (tmp_path / "mine").exists()
    assert (tmp_path / "clickhouse" / "data").exists() is keep
    if keep:
        with pytest.raises(ServerError, match="earlier system"):
            System(tmp_path).start()
        assert (tmp_path / "clickhouse" / "data").exists()


@pytest.mark.parametrize("kind", [Broker, Redis, ClickHouse])
def test_server_whose_port_was_taken_takes_another(kind: Callable[[], Server], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        real, given = process.free_port, [taken]
        monkeypatch.setattr(process, "free_port", lambda: given.pop() if given else real())
        server = kind()
        with server:
            assert server.port != taken
            assert server.answers()


@pytest.mark.parametrize("kind", [Broker, Redis, ClickHouse])
def test_server_with_a_fixed_port_that_is_taken_says_so_in_one_line(kind: Callable[..., Server]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        server = kind(port=port)
        with pytest.raises(ServerError, match=f"cannot have port {port}: .*(?i:address)") as caught:
            server.start()
        assert "\n" not in str(caught.value)
        assert caught.value.log_tail
        assert not server.folder.is_absolute()


def test_server_that_ends_while_starting_shows_its_log() -> None:
    with pytest.raises(ServerError, match=r"redis ended while starting: .*nonsense"):
        Redis(options=("--nonsense", "1")).start()


@pytest.mark.parametrize("kind", [Broker, Redis, ClickHouse])
def test_server_without_its_wheel_names_the_extra(
    kind: Callable[[], Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(f"{kind.__module__}.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerError, match=r"tillstream\[demo\]"):
        kind().start()


def test_redis_killed_comes_back_on_its_port_with_what_it_appended() -> None:
    server = Redis(append_only=True)
    with server as url:
        with redis.Redis.from_url(url) as client:
            client.config_set("appendfsync", "always")
            client.set("key", 7)
        server.kill()
        assert not server.running
        assert server.start() == url
        with redis.Redis.from_url(url) as client:
            assert client.get("key") == b"7"


def test_server_that_ended_by_itself_starts_again_on_its_port() -> None:
    server = Redis()
    with server as address:
        os.kill(server.pid, signal.SIGTERM)
        deadline = time.monotonic() + GONE_S_MAX
        while server.running:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert server.start() == address
        assert server.answers()
        with pytest.raises(ServerError, match="already started"):
            server.launch()


def test_redis_evicts_nothing_and_writes_no_snapshot() -> None:
    with Redis() as url, redis.Redis.from_url(url) as client:
        settings: dict[str, str] = client.config_get("maxmemory-policy", "save", "appendonly", "bind")
        assert settings == {"maxmemory-policy": "noeviction", "save": "", "appendonly": "no", "bind": "127.0.0.1"}


def test_broker_gives_back_what_was_produced() -> None:
    with Broker() as bootstrap:
        common = {"bootstrap.servers": bootstrap}
        admin = AdminClient(common)
        admin.create_topics([NewTopic("t", 2, 1)])["t"].result(10)
        producer = Producer({**common, "partitioner": "murmur2_random"})
        for number in range(100):
            producer.produce("t", value=str(number), key=str(number % 7), headers=[("h", b"1")])
        assert producer.flush(10) == 0
        consumer = Consumer({**common, "group.id": "g"})
        try:
            # Assigned, not subscribed: joining a group takes Tansu half of the session timeout.
            consumer.assign([TopicPartition("t", partition, OFFSET_BEGINNING) for partition in range(2)])
            values: set[int] = set()
            deadline = time.monotonic() + 30
            while len(values) < 100 and time.monotonic() < deadline:
                for message in consumer.consume(100, 0.2):
                    assert message.error() is None
                    values.add(int(message.value() or b""))
            assert values == set(range(100))
        finally:
            consumer.close()


FUNCTION = """#!lua name=tillstream_test
redis.register_function('add_once', function(keys, args)
  if redis.call('HGET', keys[1], 'offset') ~= args[1] and args[1] ~= '' then return -1 end
  redis.call('HSET', keys[1], 'offset', args[2])
  return redis.call('HINCRBY', keys[1], 'points', args[3])
end)
"""


def test_redis_function_runs_on_every_kind(redis_server: RedisServer) -> None:  # noqa: F811
    redis_server.flush()
    for server in redis_server.servers:
        with redis.Redis.from_url(server.address) as node:
            node.function_load(FUNCTION, replace=True)
    client = redis_server.client()
    try:
        for tag in ("{p0}", "{p17}", "{p31}"):
            key = f"{tag}:balances"
            assert client.fcall("add_once", 1, key, "", "10", "5") == 5
            assert client.fcall("add_once", 1, key, "10", "17", "5") == 10
            assert client.fcall("add_once", 1, key, "10", "17", "5") == -1
            assert client.hgetall(key) == {b"offset": b"17", b"points": b"10"}
    finally:
        client.close()
    redis_server.flush()


def test_compose_file_is_small_and_listens_on_loopback_only() -> None:
    yaml = pytest.importorskip("yaml", reason="NOT CHECKED: compose.yaml needs PyYAML to be read")
    compose = yaml.safe_load((Path(__file__).parents[1] / "compose.yaml").read_text(encoding="utf-8"))
    assert set(compose["services"]) == {"kafka", "valkey", "clickhouse"}
    for service in compose["services"].values():
        assert service["healthcheck"]["test"][0] == "CMD"
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert all(volume.split(":")[0] in compose["volumes"] for volume in service["volumes"])
        assert ":" in service["image"]
