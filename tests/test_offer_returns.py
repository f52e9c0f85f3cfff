"""What of an offer's goods comes back is told on `outcomes`, once, by the lines that answered the decision; on a real Kafka and Redis."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tests.test_decide import AT, Room, Servers, click, sale, servers, within
from tests.test_program_offers import offer, program
from tillstream.kernels.offer_occasions import Article
from tillstream.schemas.events import ReturnEvent, VoidEvent, decode
from tillstream.schemas.offers import BoughtEvent, ReturnedEvent
from tillstream.sinks.bought import BoughtStore, bought_key
from tillstream.sinks.offers import FILLED
from tillstream.streams.offer_returns import Returns, undone_of

__all__ = ["servers"]

TEXT = program(offer())
LATER = AT + timedelta(hours=2)


def came_back(name: str, original: str, *lines: tuple[int, int], source: str = "tills/1", **more: Any) -> ReturnEvent:
    """A return: of which line of the sale, how much."""
    data = {
        "receipt_id": name, "store_id": "1", "register_id": "1", "business_date": "2026-03-17", "issued_at": LATER.isoformat(),
        "currency": "PLN", "original_receipt_id": original, "tenders": [],
        "lines": [{"line_no": place, "original_line_no": line, "quantity_milli": 0, "amount": amount}
                  for place, (line, amount) in enumerate(lines)], **more,
    }  # fmt: skip
    event = decoded("receipt.return", name, source, data)
    assert isinstance(event, ReturnEvent)
    return event


def void(original: str) -> VoidEvent:
    event = decoded("receipt.void", f"void of {original}", "tills/1", {"receipt_id": original})
    assert isinstance(event, VoidEvent)
    return event


def decoded(kind: str, name: str, source: str, data: dict[str, Any]) -> object:
    event = {"specversion": "1.0", "type": kind, "id": f"e-{name}", "source": source, "time": LATER.isoformat(), "data": data}
    return decode(msgspec.json.encode(event))


async def bought(room: Room) -> str:
    """A decision, answered by two of three lines of a receipt; gives the receipt's name."""
    await room.enrol("m1")
    await room.decide(click("e-1"))
    lines = [Article("1", "dairy/cheese/blue", 500, 1), Article("2", "fish", 9, 2), Article("3", "dairy/cheese/brie", 300, 3)]
    await room.decide(sale("r1", *lines, at=AT + timedelta(hours=1)))
    return "r1"


def returned(room: Room) -> list[tuple[str | None, int | None]]:
    return [(event.data.receipt_id, event.data.amount) for event in room.outcomes() if isinstance(event, ReturnedEvent)]


@pytest.mark.parametrize(
    ("back", "told"),
    [
        ([came_back("b1", "r1", (1, 200))], [("r1", 200)]),
        ([came_back("b1", "r1", (1, 200), (1, 100), (3, 300))], [("r1", 600)]),
        ([came_back("b1", "r1", (2, 9))], []),
        ([came_back("b1", "r2", (1, 200))], []),
        ([came_back("b1", "r1", (1, 900))], [("r1", 500)]),
        ([came_back("b1", "r1", (1, 200), source="tills/2")], []),
        ([came_back("b1", "r1", (1, 200), source="tills/2", original_source="tills/1")], [("r1", 200)]),
        ([void("r1")], [("r1", 800)]),
    ],
)  # fmt: skip
def test_return_of_goods_of_an_offer_is_told_by_what_of_them_came_back(
    servers: Servers, back: list[ReturnEvent | VoidEvent], told: list[tuple[str, int]]
) -> None:
    async def work(room: Room) -> None:
        await bought(room)
        await Returns(room.decider.bought, room.decider.writer, room.stats).take(back)
        assert returned(room) == told
        assert room.stats.offers["cheese"]["returned"] == len(told)

    within(servers, TEXT, work)


def test_return_that_comes_again_has_the_same_id_and_the_decision_is_the_one_that_was_answered(servers: Servers) -> None:
    async def work(room: Room) -> None:
        await bought(room)
        (answer,) = [event for event in room.outcomes() if isinstance(event, BoughtEvent)]
        assert (answer.data.line_no, answer.data.line_amount, answer.data.amount) == ([1, 3], [500, 300], 800)
        returns = Returns(room.decider.bought, room.decider.writer, room.stats)
        for _ in range(2):
            await returns.take([came_back("b1", "r1", (1, 200))])
        first, again = [event for event in room.outcomes() if isinstance(event, ReturnedEvent)]
        assert first == again
        assert (first.data.decision_id, first.time) == (answer.data.decision_id, LATER)

    within(servers, TEXT, work)


def test_what_may_come_back_is_restored_from_outcomes(servers: Servers) -> None:
    async def work(room: Room) -> None:
        await bought(room)
        receipt = undone_of(void("r1")).sale
        store = BoughtStore(room.store.client)
        before = await store.of([receipt])
        await room.store.client.delete(bought_key(receipt), FILLED)
        assert await store.of([receipt]) == {receipt: []}
        await room.restore()
        assert await store.of([receipt]) == before
        assert before[receipt][0].lines == {1: 500, 3: 300}

    within(servers, TEXT, work)
