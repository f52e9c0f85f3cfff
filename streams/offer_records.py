"""What is told of a decision on an offer: `offer.decided` and `offer.bought` on `outcomes`, `offer.triggered` on `triggers`.

Ids follow from the decision's, so what is written again is the same record.
"""

from collections.abc import Iterator

import msgspec

from tillstream.kernels.instants import instant_ms, instant_of
from tillstream.kernels.offer_occasions import RECEIPT, named
from tillstream.kernels.offering import Candidate, Made, worth_of
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.offers import (
    OFFERS_SOURCE,
    BoughtEvent,
    BoughtOutcome,
    Cause,
    Choice,
    Decided,
    DecidedEvent,
    Triggered,
    TriggeredEvent,
)
from tillstream.schemas.program_offers import Offer, purposes
from tillstream.sinks.bought import Bought
from tillstream.sinks.writer import Record
from tillstream.streams.offer_cases import Ready, case_key
from tillstream.streams.topics import OUTCOMES, TRIGGERS

_encode = msgspec.json.Encoder().encode


def decided_records(timetable: Timetable, one: Ready, chosen: Candidate, choice: Choice | None, made: Made) -> Iterator[Record]:
    """The decision, and, unless it is of the control group, its trigger; `choice` where it was drawn from several."""
    offer, happened = chosen.placed.offer, one.case.happened
    why = next(match.why for match in one.met if match.placed.offer.id == offer.id)
    decided = Decided(
        decision_id=made.decision_id,
        offer_id=offer.id,
        program_id=chosen.placed.program_id,
        program_version=chosen.placed.version,
        member_id=one.person.member_id,
        account_id=one.person.account_id,
        channel=offer.channel,
        group="control" if made.group == "control" else "treated",
        cause=Cause(source=happened.source, event_id=happened.event_id, type=happened.type, why=why),
        answer_by=instant_of(made.answer_ms),
        success=offer.answer.outcome,
        consents={purpose: one.person.consents.get(purpose) is True for purpose in purposes(offer)},
        judgement=chosen.judgement,
        choice=choice,
    )
    name = f"{made.decision_id}/decided"
    event = DecidedEvent(specversion="1.0", id=name, source=OFFERS_SOURCE, time=happened.at, data=decided)
    yield Record(OUTCOMES, made.decision_id.encode(), _encode(event))
    if made.group == "treated":
        data = triggered_of(timetable, one, offer, made, why)
        trigger = TriggeredEvent(specversion="1.0", id=made.decision_id, source=OFFERS_SOURCE, time=happened.at, data=data)
        yield Record(TRIGGERS, one.person.account_id.encode(), _encode(trigger))


def bought_records(timetable: Timetable, one: Ready) -> Iterator[tuple[Bought, Record]]:
    """Earlier decisions that a receipt answers, with the goods that it does so by: of the offer, after the decision, within its window."""
    happened = one.case.happened
    if happened.name != RECEIPT:
        return
    at = instant_ms(happened.at)
    for made in one.made.values():
        offer = offer_of(timetable, made) if made.at_ms < at <= made.answer_ms else None
        goods = named(offer.goods, happened.articles) if offer is not None else []
        if goods:
            data = BoughtOutcome(
                decision_id=made.decision_id,
                receipt_id=happened.receipt_id,
                offer_id=made.offer_id,
                amount=sum(article.amount for article in goods),
                line_no=[article.line_no for article in goods],
                line_amount=[article.amount for article in goods],
            )
            name = f"{made.decision_id}/bought/{case_key(one.case)}"
            event = BoughtEvent(specversion="1.0", id=name, source=OFFERS_SOURCE, time=happened.at, data=data)
            yield bought_of(event), Record(OUTCOMES, made.decision_id.encode(), _encode(event))


def bought_of(event: BoughtEvent) -> Bought:
    """What may come back of it."""
    data = event.data
    lines = dict(zip(data.line_no, data.line_amount, strict=True))
    return Bought(event.id.rpartition("/")[2], data.decision_id, data.offer_id or "", lines)


def triggered_of(timetable: Timetable, one: Ready, offer: Offer, made: Made, why: str) -> Triggered:
    """What channels get to know."""
    currency = timetable.by_version[made.version].program.program.currency
    return Triggered(
        decision_id=made.decision_id,
        offer_id=offer.id,
        title=offer.title,
        member_id=one.person.member_id,
        account_id=one.person.account_id,
        channel=offer.channel,
        worth=worth_of(offer, currency),
        why=why,
        expires_at=instant_of(made.ends_ms),
        sku=offer.goods.sku or [],
        category=offer.goods.category or [],
        visitor_id=one.case.happened.visitor_id,
        session_id=one.case.happened.session_id,
        purposes=[*purposes(offer)],
    )


def offer_of(timetable: Timetable, made: Made) -> Offer | None:
    """The offer that was decided on, by the version that stood then; None: it was taken back."""
    version = timetable.by_version.get(made.version)
    return next((offer for offer in version.program.offers if offer.id == made.offer_id), None) if version is not None else None
