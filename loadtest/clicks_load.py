"""The load of `clicks`: members who agree to everything, what they have bought, champions that were taught, and page views.

In: seeds. Out: what a worker of the role `offers` finds in Redis when it starts, and records for the topic `clickstream`. All of it follows
from the seed but the instants of page views, which whoever sends them says.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate, count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import orjson

from loadtest.load import IDENTITY_KEY
from tillstream.kernels.facts import Fact, fact_of, subject_of
from tillstream.kernels.identities import Seal
from tillstream.kernels.instants import instant_ms, instant_of
from tillstream.kernels.offer_occasions import Match, matches, of_click
from tillstream.kernels.offering import Placed, offers_in_force
from tillstream.kernels.sealing import seal_event
from tillstream.kernels.timetable import Timetable
from tillstream.models.checkpoints import Signer
from tillstream.models.features.declared import features
from tillstream.models.features.goods import goods_of
from tillstream.models.features.purchases import Purchases, bought
from tillstream.models.features.visits import Visits, seen
from tillstream.models.learning import Learner, OfferBook
from tillstream.schemas.clickstream import ClickEvent, decode_click
from tillstream.schemas.events import MemberEvent, SaleEvent, decode
from tillstream.schemas.program_file import Versioned, parse_program
from tillstream.sources.generated import SHELF_WEIGHTS, catalogue, receipts

PROGRAM = Path(__file__).with_name("twenty_offers.toml")

MEMBERS = 5_000
STRANGERS = 2_000
"""Visitors that nobody knows, beside one of each member."""

HISTORIES = 500
"""Different histories of purchases, which members share: enough to defeat caches, made in a moment."""

RECEIPTS_EACH = 4
CLAIMED = 0.5
"""Of a member's page views, those that say who looks: the others are told by the visitor."""

LESSONS = 150
"""An offer; beyond it models move by hundredths."""

TAUGHT = datetime(2026, 1, 1, tzinfo=UTC)
"""When all lessons were over, for what is noted of promotions."""

LIST_ITEMS = 6

EVENTS = {
    "page_view": 25, "view_item": 38, "view_item_list": 11, "search": 9, "add_to_cart": 9, "remove_from_cart": 2, "begin_checkout": 6,
}  # fmt: skip
"""Of a hundred page views; how many goods they show: none, one, or `LIST_ITEMS`."""

NAMES = tuple(EVENTS)
SHARES = tuple(accumulate(EVENTS.values()))
SHOP = "web/shop.example.org"


class PageView(NamedTuple):
    """A record of `clickstream` without its instant."""

    visitor: str
    head: bytes
    tail: bytes

    def at(self, at_ms: int) -> bytes:
        """Its value, as the gateway writes it, of an instant."""
        return self.head + instant_of(at_ms).isoformat(timespec="milliseconds").encode() + self.tail


class Taught(NamedTuple):
    """A lesson: an offer, the features of a page view that its trigger agrees with, and what came of it."""

    offer_id: str
    features: dict[str, float]
    outcome: bool


def program() -> Versioned:
    """The program with twenty offers."""
    return parse_program(PROGRAM.read_text(encoding="utf-8"))


def page_views(seed: int) -> Iterator[PageView]:
    """Page views without end; of different seeds they have different ids."""
    random = Random(seed)
    for number in count():
        name = random.choices(NAMES, cum_weights=SHARES)[0]
        place = random.randrange(MEMBERS + STRANGERS)
        data: dict[str, Any] = {
            "visitor_id": f"v{place}", "session_id": f"s{place}", "page_location": f"https://shop.example.org/{name}/{number}",
            "page_title": "Fresh every day, at your door by the evening", "page_referrer": "https://shop.example.org/",
        }  # fmt: skip
        if place < MEMBERS and random.random() < CLAIMED:
            data["member"] = {"scheme": "member", "value": f"m{place}"}
        shown = {"page_view": 0, "view_item_list": LIST_ITEMS, "search": LIST_ITEMS}.get(name, 1)
        if shown:
            data["items"] = items_of(random, shown)
        event = {"specversion": "1.0", "type": f"web.{name}", "id": f"{seed}-{number}", "source": SHOP, "time": "", "data": data}
        head, tail = orjson.dumps(event).split(b'"time":"', 1)
        yield PageView(f"v{place}", head + b'"time":"', tail)


def items_of(random: Random, shown: int) -> list[dict[str, Any]]:
    """Goods of one shelf, popular ones more often."""
    (shelf,) = random.choices(catalogue(), cum_weights=SHELF_WEIGHTS)
    return [
        {"item_id": one.sku, "item_name": one.brand, "item_category": one.shelf.category, "price": one.price / 100, "quantity": 1}
        for one in random.choices(shelf, k=shown)
    ]


def facts() -> list[tuple[str, Fact]]:
    """What is known of all members, by member: all agree to every purpose, two of three have a card of plastic."""
    return [(subject_of(event), fact_of(event)) for event in map(enrolment, range(MEMBERS))]


def enrolment(number: int) -> MemberEvent:
    """One member's, sealed."""
    consents = dict.fromkeys(("marketing", "personalised", "profiling"), True)
    attributes = {"kind_of_card": "plastic" if number % 3 else "app"}
    data = {"member_id": f"m{number}", "consents": consents, "attributes": attributes}
    envelope = {"specversion": "1.0", "id": f"enrol-{number}", "source": "crm", "time": "2026-01-01T00:00:00Z"}
    raw = orjson.dumps({**envelope, "type": "member.enrolled", "data": data})
    event, _ = seal_event(decode(raw), raw, Seal(IDENTITY_KEY.encode()))
    assert isinstance(event, MemberEvent)
    return event


@cache
def purchases() -> Mapping[str, Purchases]:
    """What each account has bought lately, as workers keep it."""
    found: dict[int, Purchases] = {}
    start = datetime.now(UTC) - timedelta(days=40)
    for number, receipt in enumerate(receipts(HISTORIES * RECEIPTS_EACH, seed=5)):
        event, place = msgspec.convert(receipt, SaleEvent), number % HISTORIES
        found[place] = bought(found.get(place), event, instant_ms(start + timedelta(days=9) * (number // HISTORIES)))
    return {f"m{number}": found[number % HISTORIES] for number in range(MEMBERS)}


def lessons(each: int) -> Iterator[Taught]:
    """Lessons from page views as they come, `each` of every offer: who has looked at the goods before takes the offer more often."""
    random = Random(7)
    placed = offers_in_force(Timetable([program()]), datetime.now(UTC).date())
    wanted = {one.offer.id: each for one in placed if one.offer.model is not None}
    states: dict[str, Visits] = {}
    at_ms = instant_ms(datetime.now(UTC)) - 3_600_000
    for page in page_views(seed=3):
        if not any(wanted.values()):
            return
        at_ms += 20
        click = decode_click(page.at(at_ms))
        visits = states[page.visitor] = seen(states.get(page.visitor), click, at_ms)
        for match in matched(placed, click, at_ms):
            if wanted.get(match.placed.offer.id):
                wanted[match.placed.offer.id] -= 1
                known = features(visits, purchases().get("m" + page.visitor[1:]), goods_of(match.placed.offer.goods), instant_of(at_ms))
                chance = 0.02 + 0.08 * min(1.0, known["goods_views_4h"] / 3)
                yield Taught(match.placed.offer.id, known, random.random() < chance)


def matched(placed: list[Placed], click: ClickEvent, at_ms: int) -> list[Match]:
    """The offers whose triggers agree with a page view."""
    return matches(placed, of_click(click, instant_of(at_ms)))


@cache
def champions(each: int = LESSONS) -> tuple[bytes, dict[str, bytes]]:
    """A learner, and the champion of every offer with a model, signed: by turns FTRL and a logistic regression."""
    learner = Learner()
    for lesson in lessons(each):
        if lesson.offer_id not in learner.offers:
            learner.offers[lesson.offer_id] = OfferBook([("ftrl", "logistic")[len(learner.offers) % 2]])
        contest = learner.offers[lesson.offer_id].contest
        scores = contest.scores(lesson.features)
        contest.learn(lesson.features, scores, lesson.outcome, next(iter(scores.values())), TAUGHT)
    signer = Signer(IDENTITY_KEY.encode())
    return signer.pack(learner, 0), signer.pack_champions(learner, 0)
