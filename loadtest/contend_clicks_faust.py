"""Contender: a stock Faust agent that scores page views, one event at a time, as Faust's documentation advises.

Per page view: decode, one Redis pipeline, the visitor's state with the page view in it, the features of one offer, one
`predict_proba_one` of that offer's River pipeline, and, where the score is as high as the offer asks for, one trigger. Event, states,
features and models are tillstream's own, so that both come to the same numbers; raw bytes, `redis.asyncio` with hiredis, the Cython
stream, concurrency and a producer that lingers, as in contend_faust.py.

It is let off: it writes no state of visitors, which would be a second round trip, looks at one offer of twenty (the first whose
trigger agrees, else the first of all), asks no registry, knows neither consent nor caps, budgets, control groups or cool-downs, records
no decision and no features, and after a crash it triggers again. Page views that no offer answers to are scored as well.
"""

import asyncio
import logging
import tempfile
from datetime import UTC, datetime
from typing import Any

import faust
import redis.asyncio

from loadtest.clicks_load import MEMBERS, goods_of, matched, program
from loadtest.contend_faust import CONCURRENCY, create_app
from loadtest.contender import Clock, Task, read_task, run_app
from loadtest.load import IDENTITY_KEY, PARTITIONS
from tillstream.collector import spare_the_collector
from tillstream.kernels.instants import instant_ms
from tillstream.kernels.offering import Placed, offers_in_force
from tillstream.kernels.timetable import Timetable
from tillstream.models.checkpoints import Signer
from tillstream.models.features.declared import features
from tillstream.models.features.purchases import decode_purchases
from tillstream.models.features.visits import decode_visits, seen
from tillstream.models.propensity import RiverModel, squashed
from tillstream.schemas.clickstream import ClickEvent, decode_click
from tillstream.sinks.checkpoints import CheckpointStore
from tillstream.sinks.features import PURCHASES, VISITS
from tillstream.streams.groups import partition_of
from tillstream.streams.topics import CLICKSTREAM, TRIGGERS


class Scores:
    """The offers with a model, and their River pipelines."""

    def __init__(self, by_offer: dict[str, bytes]) -> None:
        signer = Signer(IDENTITY_KEY.encode())
        self.estimators: dict[str, Any] = {}
        for offer_id, packed in by_offer.items():
            model = signer.unpack_champion(packed).model
            assert isinstance(model, RiverModel)
            self.estimators[offer_id] = model.estimator
        placed = offers_in_force(Timetable([program()]), datetime.now(UTC).date())
        self.placed = [one for one in placed if one.offer.id in self.estimators]

    def offer_of(self, click: ClickEvent, at_ms: int) -> Placed:
        """The offer that a page view is scored for."""
        return next((match.placed for match in matched(self.placed, click, at_ms)), self.placed[0])

    def score(self, placed: Placed, known: dict[str, float]) -> float:
        """What the offer's model says."""
        return float(self.estimators[placed.offer.id].predict_proba_one(squashed(known)).get(True, 0.0))


def add_agent(app: faust.App, task: Task, scores: Scores, clock: Clock, done: asyncio.Event) -> None:
    """The agent; a member's account is known by the visitor, as everywhere in this load."""
    raw: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    clickstream, triggers = app.topic(CLICKSTREAM, **raw), app.topic(TRIGGERS, **raw)
    client = redis.asyncio.from_url(task.redis)

    @app.agent(clickstream, name="score", concurrency=CONCURRENCY)
    async def score(stream: Any) -> None:
        async for event in stream.events():
            clock.start()
            click = decode_click(event.value)
            visitor, at_ms = click.data.visitor_id, instant_ms(click.time)
            number = int(visitor[1:])
            account = f"m{number}" if number < MEMBERS else ""
            async with client.pipeline(transaction=False) as pipeline:
                pipeline.get(VISITS.key(partition_of(visitor, PARTITIONS), visitor))
                pipeline.get(PURCHASES.key(partition_of(account, PARTITIONS), account))
                found, bought = await pipeline.execute()
            visits = seen(None if found is None else decode_visits(found), click, at_ms)
            placed = scores.offer_of(click, at_ms)
            purchases = None if bought is None else decode_purchases(bought)
            said = scores.score(placed, features(visits, purchases, goods_of(placed.offer.goods), click.time))
            if said >= float(placed.offer.min_score or 0):
                await triggers.send(key=visitor.encode(), value=f'{{"offer_id":"{placed.offer.id}","score":{said}}}'.encode())
            if clock.add(1):
                done.set()


async def stored_champions(url: str) -> dict[str, bytes]:
    """What tillstream's worker would decide by."""
    async with redis.asyncio.from_url(url) as client:
        return await CheckpointStore(client).champions()


async def work(task: Task) -> None:
    """Runs the app until everything is scored."""
    clock, done = Clock(task.receipts), asyncio.Event()
    by_offer = await stored_champions(task.redis)
    with tempfile.TemporaryDirectory(prefix="loadtest-") as folder:
        app = create_app(task, folder)
        add_agent(app, task, Scores(by_offer), clock, done)
        spare_the_collector()
        await run_app(app, clock, done)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(work(read_task()))
