"""Bots that flood, and bytes that are no page view: what they cost is bounded, counted, and held up by nobody else."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import thread_time
from typing import Any

import pytest

from tests.pipeline_harness import PARTITIONS, Stage, stage
from tests.test_erasure_race import Room
from tests.test_offer_kills import enrolled, page
from tillstream.models.features.visits import encode_visits
from tillstream.schemas.clickstream import decode_click
from tillstream.schemas.events import Malformed
from tillstream.sinks.redis import connect, load_library
from tillstream.sinks.writer import Writer
from tillstream.streams.groups import partition_of
from tillstream.streams.observe import Arrived, Seen, fold
from tillstream.streams.topics import CLICKSTREAM

EVENTS_MAX = 120
STATE_BYTES_MAX = 2_048
MINUTE_MS = 60_000

FLOOD = 1_500
"""Through Kafka and Redis; the 100,000 go through the fold alone."""

HELD_BYTES_MAX = 16_384
"""All that Redis holds of one browser and its member: its state, what offers counted, what was decided."""


def view(visitor: str, number: int, at_ms: int, item: str = "", member: str | None = None) -> Arrived:
    """A page view that comes as it happens."""
    event = page(member or "nobody", number, datetime.fromtimestamp(at_ms / 1_000, UTC))
    event["data"] |= {"visitor_id": visitor, "items": [{"item_id": item or "s1", "item_category": f"dairy/{item}"}]}
    if member is None:
        del event["data"]["member"]
    return Arrived(decode_click(json.dumps(event).encode()), at_ms, at_ms, number)


def test_bot_with_a_hundred_thousand_pages_in_a_minute_leaves_a_small_state_and_takes_little_work() -> None:
    pages = [view("bot", number, number % MINUTE_MS, f"goods {number}", "m1" if number % 2 else "m2") for number in range(1_000)]
    found: dict[str, bytes] = {}
    folded: list[Seen] = []
    for batch in range(100):
        new = fold([*pages, view("other", batch, batch)], found, EVENTS_MAX)
        found |= {one.arrived.click.data.visitor_id: encode_visits(one.visits) for one in new}
        folded += new
    assert [one.arrived.click.data.visitor_id for one in folded].count("bot") == EVENTS_MAX
    assert [one.arrived.click.data.visitor_id for one in folded].count("other") == 100
    assert len(found["bot"]) <= STATE_BYTES_MAX


def test_visitor_who_flooded_counts_again_in_the_next_minute() -> None:
    first = fold([view("v", number, number) for number in range(EVENTS_MAX + 50)], {}, EVENTS_MAX)
    after = fold([view("v", 1_000 + number, MINUTE_MS + number) for number in range(2)], {"v": encode_visits(first[-1].visits)}, EVENTS_MAX)
    assert (len(first), len(after)) == (EVENTS_MAX, 2)
    assert after[-1].visits.pages == EVENTS_MAX + 2


def best_s(work: Callable[[], Any]) -> float:
    """The least CPU time of some runs: what others do on this machine only adds."""
    times = []
    for _ in range(7):
        began = thread_time()
        work()
        times.append(thread_time() - began)
    return min(times)


GOOD = json.dumps(page("m1", 1, datetime(2026, 3, 7, tzinfo=UTC))).encode()

BAD = {
    "cut off": GOOD[:-1],
    "no text": b"\xff" * len(GOOD),
    "of another type": GOOD.replace(b"web.", b"receipt."),
    "ill-typed at its end": GOOD[:-2] + b', "items": 5}}',
    "nested": b"[" * len(GOOD),
    "deeply nested inside": GOOD[:-2] + b', "x": ' + b"[" * 50_000,
    "too large": b" " * 2_000_000,
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
def test_what_is_no_page_view_is_refused_as_fast_as_a_good_one_of_its_size_is_read(raw: bytes) -> None:
    with pytest.raises(Malformed):
        decode_click(raw)

    def refused() -> None:
        for _ in range(300):
            with suppress(Malformed):
                decode_click(raw)

    def read() -> None:
        for _ in range(300):
            decode_click(GOOD)

    # The sentence of the error is in it; a good page view goes on to be folded, looked up and written.
    per_byte = max(1.0, min(len(raw), 65_536) / len(GOOD))
    assert best_s(refused) < 4 * per_byte * best_s(read)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("floods")) as there:
        yield there


def test_flood_of_a_member_is_bounded_in_redis_and_counted_and_others_get_their_offers(here: Stage) -> None:
    async def run() -> None:
        client, writer, now = connect(here.config.redis), Writer(here.kafka), datetime.now(UTC)
        await load_library(client, here.config.redis)
        await writer.start()
        room = Room(here, client, client, writer)
        try:
            for member in ("flooded", "quiet"):
                await room.note(enrolled(member, now), forgotten=False)
            flood = [page("flooded", number, now - timedelta(seconds=1)) for number in range(FLOOD)]
            quiet = page("quiet", 1, now)
            for one in (*flood, quiet):
                one["data"]["visitor_id"] = "bot" if one is not quiet else next(
                    name for name in map(str, range(100)) if partition_of(name, PARTITIONS) == partition_of("bot", PARTITIONS)
                )
            here.send([*flood, b"no page view", quiet], CLICKSTREAM, "bot")
            partition = partition_of("bot", PARTITIONS)
            messages = here.partition_records(CLICKSTREAM, partition)
            for first in range(0, len(messages), 500):
                await room.observe.observe(partition, messages[first : first + 500])
            minutes = len({message.timestamp()[1] // MINUTE_MS for message in messages})
            counts = room.observe.stats.clicks
            assert counts["observed"] <= minutes * EVENTS_MAX + 1
            assert counts == {"observed": counts["observed"], "flooding": FLOOD + 1 - counts["observed"], "malformed": 1}
            held = [key async for key in client.scan_iter() if b"bot" in key or b"flooded" in key]
            assert sum([await client.memory_usage(key) for key in held]) <= HELD_BYTES_MAX
            made = (await room.observe.decide.store.look([], [], ["quiet"])).made if room.observe.decide else {}
            assert len(made["quiet"]) == 1
        finally:
            await writer.stop()
            await client.aclose()

    asyncio.run(run())
