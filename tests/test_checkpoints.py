"""The learner's checkpoint: signed, atomic, and enough to go on from after a kill -9 as if nothing had happened."""

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.redis_servers import RedisServer, redis_server_fixture
from tests.test_learning import history, later
from tillstream.models.checkpoints import CheckpointRefused, Head, Signer, champions
from tillstream.models.learning import Learner
from tillstream.schemas.offers import decode_outcome
from tillstream.sinks.checkpoints import LEARNER, CheckpointStore
from tillstream.sinks.redis import connect
from tillstream.sinks.writer import Writer
from tillstream.streams.learn import Learn
from tillstream.streams.scoring import Champions

KEY = b"an installation's key"
EVERY = 50
"""Records between two checkpoints of the process that is killed."""

servers = redis_server_fixture(scope="module")


@pytest.fixture
def redis(servers: RedisServer) -> RedisServer:
    servers.flush()
    return servers


def learned(count: int = 400) -> Learner:
    learner = Learner()
    for one in history(count, 4):
        learner.take(one)
    return learner


def known(learner: Learner) -> dict[str, object]:
    """All that decisions and reports could see of a learner."""
    book = learner.offers["cheese"]
    asked = [{"coupons": float(n % 2), "noise": n / 3} for n in range(20)]
    return {
        "scores": [book.contest.scores(one) for one in asked], "version": book.contest.version, "purchases": book.purchases,
        "amounts": book.amounts, "counts": learner.counts, "pending": sorted(learner.pending),
        "auc": book.contest.champion.validation.auc(), "log_loss": book.contest.champion.validation.log_loss(),
    }  # fmt: skip


def test_checkpoint_packed_and_unpacked_is_the_same_learner() -> None:
    learner = learned()
    found, offset = Signer(KEY).unpack(Signer(KEY).pack(learner, 399))
    assert offset == 399
    assert known(found) == known(learner)


def test_learn_starting_on_a_checkpoint_that_somebody_else_wrote_begins_anew(redis: RedisServer) -> None:
    if redis.kind != "valkey":
        pytest.skip("what differs between servers is tested below")

    async def scenario() -> None:
        async with connect(redis.url) as client:
            store = CheckpointStore(client)
            learn = Learn(store, Writer({"bootstrap.servers": "127.0.0.1:1"}), Signer(KEY))
            await store.save(10**6, Signer(b"another key").pack(learned(10), 10**6), {})
            assert await learn.start() == 0
            assert await store.load() is None
            await store.save(7, Signer(KEY).pack(learned(10), 7), {})
            assert await learn.start() == 8

    asyncio.run(scenario())


def test_champions_follow_the_learner_and_leave_out_what_is_not_signed(redis: RedisServer) -> None:
    if redis.kind != "valkey":
        pytest.skip("what differs between servers is tested below")
    learner, features = learned(), {"coupons": 1.0, "noise": 0.0}

    async def scenario() -> None:
        async with connect(redis.url) as client:
            store, signer = CheckpointStore(client), Signer(KEY)
            here = Champions(store, signer)
            await here.refresh()
            assert here.score("m", "cheese", features) is None
            packed = signer.pack_champions(learner, 5)
            await store.save(5, signer.pack(learner, 5), packed | {"tea": b"forged" + packed["cheese"]})
            await here.refresh()
            judgement = here.score("m", "cheese", features)
            assert judgement is not None
            assert (judgement.model, judgement.version) == (champions(learner)["cheese"].name, learner.offers["cheese"].contest.version)
            assert judgement.score == champions(learner)["cheese"].score(features)
            assert judgement.features == features
            assert here.score("m", "tea", features) is None

    asyncio.run(scenario())


class Attack:
    """A pickle of it makes a folder when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def test_checkpoint_that_is_not_signed_runs_no_code(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    good = Signer(KEY).pack(learned(10), 9)
    attack = pickle.dumps(Attack(str(folder)))
    for raw in (attack, b"", good[:20], good[:36] + attack, good[:-200] + attack, b"TSL1" + bytes(32) + attack):
        with pytest.raises(CheckpointRefused, match="not signed"):
            Signer(KEY).unpack(raw)
    assert not folder.exists()
    pickle.loads(attack)
    assert folder.exists(), "the attack works where it is read"


def test_checkpoint_with_any_byte_changed_or_of_another_key_is_refused() -> None:
    raw = Signer(KEY).pack(Learner(["logistic"]), 9)
    for place in range(0, len(raw), 7):
        with pytest.raises(CheckpointRefused):
            Signer(KEY).unpack(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    with pytest.raises(CheckpointRefused, match="identity_key"):
        Signer(b"another").unpack(raw)


def test_checkpoint_of_another_river_is_refused_with_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Signer(KEY).pack(Learner(["logistic"]), 9)
    monkeypatch.setattr("tillstream.models.checkpoints.version", lambda _: "9.9")
    with pytest.raises(CheckpointRefused, match=r"River 0\..*and 9\.9"):
        Signer(KEY).unpack(raw)


def test_checkpoint_of_a_champion_is_no_learner() -> None:
    learner = learned()
    packed = Signer(KEY).pack_champions(learner, 399)["cheese"]
    with pytest.raises(CheckpointRefused, match="a champion, not a learner"):
        Signer(KEY).unpack(packed)
    champion = Signer(KEY).unpack_champion(packed)
    assert champion.version == champions(learner)["cheese"].version
    assert champion.score({"coupons": 1.0}) == champions(learner)["cheese"].score({"coupons": 1.0})
    assert msgspec.json.decode(packed[40 : 40 + int.from_bytes(packed[36:40])], type=Head).offset == 399


def test_store_takes_only_what_is_ahead_and_champions_with_it(redis: RedisServer) -> None:
    async def scenario() -> None:
        async with connect(redis.url if not redis.cluster else redis.url.replace("redis://", "redis+cluster://")) as client:
            store = CheckpointStore(client)
            assert await store.load() is None
            assert await store.offset() is None
            assert await store.save(10, b"ten", {"cheese": b"c10", "tea": b"t10"})
            assert await store.save(20, b"twenty", {"cheese": b"c20"})
            assert not await store.save(15, b"of a zombie", {"cheese": b"c15"})
            assert not await store.save(20, b"again", {})
            assert await store.load() == (20, b"twenty")
            assert await store.champions() == {"cheese": b"c20"}
            await store.forget()
            assert await store.load() is None

    asyncio.run(scenario())


async def learn_from(lines: list[bytes], url: str) -> None:
    """What the process that is killed does: goes on behind the checkpoint, and writes one every `EVERY` records."""
    async with connect(url) as client:
        store, signer = CheckpointStore(client), Signer(KEY)
        stored = await store.load()
        learner, offset = (Learner(), -1) if stored is None else signer.unpack(stored.checkpoint)
        for number, line in enumerate(lines):
            if number > offset:
                learner.take(decode_outcome(line))
                if number % EVERY == EVERY - 1:
                    await store.save(number, signer.pack(learner, number), signer.pack_champions(learner, number))


def test_learner_killed_again_and_again_ends_as_one_that_never_was(redis: RedisServer, tmp_path: Path) -> None:
    if redis.kind != "valkey":
        pytest.skip("what differs between servers is tested above")
    topic = tmp_path / "outcomes.jsonl"
    events = [*history(700, 5), later()]
    events = events[: len(events) // EVERY * EVERY]
    topic.write_bytes(b"\n".join(msgspec.json.encode(one) for one in events))
    call = f"asyncio.run(learn_from(pathlib.Path({str(topic)!r}).read_bytes().splitlines(), {redis.url!r}))"
    code = f"import asyncio, pathlib; from tests.test_checkpoints import learn_from; {call}"
    stands: list[int] = []
    for kills in range(20):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent.parent)
        began = int(stands[-1]) if stands else -1
        while process.poll() is None and (kills >= 2 or offset_of(redis) < began + 4 * EVERY):
            time.sleep(0.005)
        if process.poll() is None and kills < 2:
            process.send_signal(signal.SIGKILL)
        process.wait()
        stands.append(offset_of(redis))
        if process.returncode == 0:
            break
    assert process.returncode == 0
    assert len(stands) == 3, "killed twice, then to the end"
    assert 0 < stands[0] < stands[1] < stands[2] == len(events) - 1
    never_killed = Learner()
    for one in events:
        never_killed.take(one)
    with redis.client() as client:
        found, _ = Signer(KEY).unpack(client.hget(LEARNER, "checkpoint"))
    assert known(found) == known(never_killed)


def offset_of(redis: RedisServer) -> int:
    with redis.client() as client:
        return int(client.hget(LEARNER, "offset") or -1)
