"""The agent that learns, in a running system: outcomes from Kafka to models in Redis, across a kill -9."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.pipeline_harness import SETTLED_S, Stage, stage, until
from tests.test_checkpoints import known
from tests.test_learning import history, later
from tillstream.installation import WorkerProcess
from tillstream.models.checkpoints import Signer
from tillstream.models.learning import Learner
from tillstream.schemas.events import Malformed
from tillstream.schemas.offers import decode_outcome
from tillstream.simulate import IDENTITY_KEY
from tillstream.sinks.checkpoints import LEARNER, MODELS
from tillstream.streams.topics import OUTCOMES

pytestmark = pytest.mark.slow


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path) as running:
        yield running


def offset(here: Stage) -> int:
    """Up to which record the checkpoint has learned."""
    with here.client() as client:
        return int(client.hget(LEARNER, "offset") or -1)


def test_learn_outcomes_become_models_and_a_killed_worker_goes_on_from_its_checkpoint(here: Stage, tmp_path: Path) -> None:
    raws = [msgspec.json.encode(one) for one in [*history(700, 5), later()]]
    raws.insert(300, b'{"type": "offer.decided"}')
    first, rest = raws[:450], raws[450:]
    here.send(first, OUTCOMES, "d")
    worker = WorkerProcess(here.config, "models", tmp_path / "killed")
    worker.start()
    until(lambda: offset(here) == len(first) - 1, "a checkpoint", SETTLED_S, worker)
    here.send(rest[:200], OUTCOMES, "d")  # Perhaps read, not yet in a checkpoint.
    os.kill(worker.pid, signal.SIGKILL)
    worker.stop()
    here.send(rest[200:], OUTCOMES, "d")
    again = WorkerProcess(here.config, "models", tmp_path / "again")
    again.start()
    try:
        until(lambda: offset(here) == len(raws) - 1, "the end", SETTLED_S, again)
    finally:
        again.stop()
    never_killed = Learner()
    for raw in raws:
        try:
            never_killed.take(decode_outcome(raw))
        except Malformed:
            continue
    with here.client() as client:
        found, _ = Signer(IDENTITY_KEY).unpack(client.hget(LEARNER, "checkpoint"))
        champion = Signer(IDENTITY_KEY).unpack_champion(client.hget(MODELS, "cheese"))
    assert known(found) == known(never_killed)
    assert champion.version == never_killed.offers["cheese"].contest.version
    assert [letter.path for letter in here.dead_letters()] == ["$"]
