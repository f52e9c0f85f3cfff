"""Champions reach those who decide: what a learner wrote is asked for a score, and what can't be read changes nothing."""

import asyncio

from tests.redis_servers import RedisServer, redis_server_fixture
from tests.test_offer_events import DECIDED, raw
from tillstream.models.checkpoints import Signer
from tillstream.models.learning import Learner
from tillstream.schemas.offers import decode_outcome
from tillstream.sinks.checkpoints import CheckpointStore
from tillstream.sinks.redis import connect
from tillstream.streams.scoring import Champions

redis_server = redis_server_fixture(kinds=("valkey",))


def learner(lessons: int) -> Learner:
    """One that saw so many decisions come to nothing."""
    found = Learner()
    for number in range(lessons + 1):
        at = f"2026-03-{1 + number:02}T12:00:00+00:00"
        data = DECIDED | {"decision_id": f"d{number}", "answer_by": at}
        found.take(decode_outcome(raw("offer.decided", data).replace(b"2026-03-07T17:42:10+01:00", at.encode())))
    return found


def test_latest_champion_scores_and_names_its_version(redis_server: RedisServer) -> None:
    async def run() -> None:
        client = connect(redis_server.url)
        store, signer = CheckpointStore(client), Signer(b"of-these-tests")
        champions = Champions(store, signer)
        await champions.refresh()
        features = {"views_10min": 1.0}
        assert champions.score("m", "cheese", features) is None
        taught = learner(9)
        await store.save(9, signer.pack(taught, 9), signer.pack_champions(taught, 9))
        await champions.refresh()
        said = champions.score("m", "cheese", features)
        assert said is not None
        assert said.features == features
        assert 0 <= said.score < 0.5
        assert champions.score("m", "other", features) is None
        assert champions.score("m", "cheese", {"views_10min": float("nan")}) is None
        stranger = Signer(b"somebody-else")
        await store.save(10, stranger.pack(taught, 10), stranger.pack_champions(taught, 10))
        await champions.refresh()
        assert champions.score("m", "cheese", features) == said
        await client.aclose()

    asyncio.run(run())
