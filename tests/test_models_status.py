"""`tillstream models status`: what the latest signed checkpoint says, for a person and for a machine."""

import asyncio
import json
import random

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator
from msgspec import to_builtins

from tests.redis_servers import RedisServer, redis_server_fixture
from tests.test_learning import START, history, later
from tillstream.cli import main
from tillstream.models.checkpoints import Signer
from tillstream.models.contest import Contest
from tillstream.models.learning import Learner
from tillstream.models.status import status_of
from tillstream.models.uplift import share_difference
from tillstream.schemas.export import MODELS_STATUS, json_schemas
from tillstream.schemas.models_status import ModelsStatus
from tillstream.sinks.checkpoints import CheckpointStore
from tillstream.sinks.redis import connect

KEY = "an installation's key"

servers = redis_server_fixture(scope="module")


@pytest.fixture
def redis(servers: RedisServer) -> RedisServer:
    servers.flush()
    return servers


def learned(count: int = 700, turn: int | None = None) -> Learner:
    """A learner behind `count` decisions, some of which still wait."""
    learner = Learner(["ftrl", "logistic"])
    for one in history(count, 4, turn):
        learner.take(one)
    return learner


def stored(redis: RedisServer, learner: Learner, key: str = KEY) -> None:
    async def save() -> None:
        async with connect(redis.url if not redis.cluster else redis.url.replace("redis://", "redis+cluster://")) as client:
            await CheckpointStore(client).save(699, Signer(key.encode()).pack(learner, 699), {})

    asyncio.run(save())


def asked(redis: RedisServer, *options: str, key: str = KEY) -> Result:
    address = redis.url if not redis.cluster else redis.url.replace("redis://", "redis+cluster://")
    return CliRunner().invoke(main, ["models", "status", *options], env={"TILLSTREAM_REDIS": address, "TILLSTREAM_IDENTITY_KEY": key})


def test_status_counts_models_windows_and_uplift_as_the_learner_has_them() -> None:
    learner = learned()
    found = status_of(learner, 699, 1.5)
    (offer,) = found.offers
    assert found.checkpoint is not None
    assert (found.checkpoint.offset, found.checkpoint.age_s, found.checkpoint.as_of) == (699, 1.5, learner.as_of)
    assert (offer.offer_id, offer.version, offer.lessons) == ("cheese", f"ftrl.{offer.lessons}", learner.offers["cheese"].contest.lessons)
    assert [(model.name, model.role) for model in offer.models] == [("ftrl", "champion"), ("logistic", "challenger")]
    assert all(model.figures.decisions == offer.lessons for model in offer.models)
    assert offer.waiting_treated + offer.waiting_control == found.checkpoint.waiting == len(learner.pending) > 0
    assert offer.waiting_control == sum(one.decided.group == "control" for one in learner.pending.values()) > 0
    arms = learner.offers["cheese"].purchases
    assert (offer.uplift.treated, offer.uplift.control) == (arms["treated"].decisions, arms["control"].decisions)
    assert offer.uplift.buyers is not None
    assert offer.uplift.buyers.estimate == share_difference(arms["treated"], arms["control"]).estimate
    assert 2 <= len(offer.models[0].figures.calibration) <= 10
    assert sum(group.decisions for group in offer.models[0].figures.calibration) == offer.lessons


def test_status_of_a_drift_and_a_promotion_tells_when_and_by_which_figures() -> None:
    learner = Learner(["logistic", "ftrl"])
    for one in [*history(6_000, 6, turn=3_000), later()]:
        learner.take(one)
    events = status_of(learner, 0, 0.0).offers[0].events
    drift = next(one for one in events if one.what == "drift")
    assert (drift.look, drift.before) == (None, drift.model)
    assert drift.at > START
    contest, chance = Contest(["logistic", "forest"]), random.Random(5)
    for _ in range(600):
        features = {"a": float(chance.random() < 0.5), "b": float(chance.random() < 0.5)}
        outcome = chance.random() < (0.5 if features["a"] != features["b"] else 0.05)
        contest.learn(features, contest.scores(features), outcome, 0.05, START)
    learner.offers["cheese"].contest = contest
    (promotion,) = status_of(learner, 0, 0.0).offers[0].events
    assert (promotion.what, promotion.before, promotion.model, promotion.at) == ("promotion", "logistic", "forest", START)
    assert promotion.look is not None
    assert promotion.look.decisions == 500
    assert promotion.look.level == 0.025
    assert promotion.look.gain > 1.96 * promotion.look.error > 0


def test_status_of_an_offer_with_a_single_control_decision_knows_no_uplift() -> None:
    learner = Learner(["logistic"])
    for one in [*list(history(4, 4))[:3], later()]:
        learner.take(one)
    (offer,) = status_of(learner, 0, 0.0).offers
    assert offer.uplift.control < 2
    assert (offer.uplift.buyers, offer.uplift.amount) == (None, None)


def test_command_prints_json_of_the_exported_schema_and_a_table(redis: RedisServer) -> None:
    learner = learned()
    stored(redis, learner)
    result = asked(redis, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert list(Draft202012Validator(json_schemas()[MODELS_STATUS]).iter_errors(found)) == []
    assert 0 <= found["checkpoint"]["age_s"] < 60
    assert found["offers"] == to_builtins(status_of(learner, 699, 0.0))["offers"]
    text = asked(redis, "--offer", "cheese")
    assert text.exit_code == 0
    assert "cheese: decided by ftrl." in text.stdout
    assert "uplift: share of buyers" in text.stdout


def test_command_before_the_first_checkpoint_says_that_nothing_is_learned(redis: RedisServer) -> None:
    assert asked(redis).stdout.startswith("nothing is learned yet")
    result = asked(redis, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, to_builtins(ModelsStatus(None, [])))


def test_command_refuses_a_foreign_checkpoint_and_an_unknown_offer_in_one_line(redis: RedisServer) -> None:
    stored(redis, learned(20))
    foreign = asked(redis, key="another installation's key")
    assert foreign.exit_code == 1
    assert "not signed with this installation's `identity_key`" in foreign.stderr
    unknown = asked(redis, "--offer", "chese")
    assert unknown.exit_code == 2
    assert "'chese'" in unknown.stderr
    assert "did you mean 'cheese'?" in unknown.stderr
    keyless = asked(redis, key="")
    assert keyless.exit_code == 2
    assert "identity_key" in keyless.stderr
