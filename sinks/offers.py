"""Decisions on offers in Redis: what a member was offered, what visitors looked at, what is left of budgets.

    {d7}:made:<member>             hash    event's key -> the decision that the event led to (kernels/offering.py, `Made`)
    {d7}:redeemed:<member>         hash    decision id -> when it was redeemed, milliseconds
    {d7}:first:<member>            hash    offer id -> the first receipt with its goods, by natural key
    {s7}:seen:<visitor>:<offer>    zset    event's key -> its instant, of events that an offer counts
    {b}:offers                     hash    offer id -> how many times it was triggered
    {b}:took:<decision>            string  the decision has taken its part of a budget; fades after an hour
    tillstream:offer:<decision>    string  whose decision it is; fades when it can be answered no more

Delivery: at least once. The idempotency key is the event that led to a decision: judged again, it finds its own. A budget is never
overspent: it is taken in one function call, after the member's reservation; a worker that dies in between, and whose batch is judged again
later than `TOOK_S`, takes one more. All of it is a view of the topic `outcomes` (offer_view.py), but for what visitors saw. No decision
that is taken while Redis is emptied is given to anybody, nor one on a member that is being forgotten.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from tillstream.kernels.instants import ms_of
from tillstream.kernels.offering import MADE_MAX, Candidate, Made, Reason
from tillstream.schemas.program_offer_mistakes import COUNT_MAX, KEPT_DAYS_MAX
from tillstream.sinks.redis import Redis, RedisEmptied, tag_of

BUDGETS = "{b}:offers"
TOOK = "{b}:took:"
WHOSE = "tillstream:offer:"
FILLED = "tillstream:offers"

MARK = "-"
"""Stands among a member's decisions where the others were forgotten; no event's key is as short."""

MARK_S = 60
"""Longer than any batch takes between looking a member up and taking a decision."""

DAY_S = 86_400
DAY_MS = DAY_S * 1_000

TOOK_S = 3_600
"""A batch is judged again within seconds of a crash; an hour of decisions is a few hundred bytes each."""

FIRST_S = 730 * DAY_S
"""Who bought no such goods for two years does so for the first time."""

_encode = encode_made = msgspec.json.Encoder().encode
decode_made = msgspec.json.Decoder(Made).decode


class Seen(NamedTuple):
    """An event of a visitor that an offer counts, and how far back it counts, milliseconds."""

    visitor: str
    offer_id: str
    event: str
    at_ms: int
    back_ms: int


class First(NamedTuple):
    """A receipt (by natural key) of a member with goods of an offer."""

    member: str
    offer_id: str
    receipt: str


class Looked(NamedTuple):
    """In the order of what was asked: how many such events a visitor has; whether the receipt is the first. And decisions by member."""

    counts: list[int]
    firsts: list[bool]
    made: dict[str, dict[str, Made]]


class Attempt(NamedTuple):
    """An event (by its key) of a member, and the offers that fit, best first."""

    member: str
    event: str
    candidates: Sequence[Candidate]


class Answer(NamedTuple):
    """What stands for an event, None for nothing; why not the candidates that were looked at before it, by offer id."""

    made: Made | None
    against: dict[str, Reason]


def event_key(source: str, event_id: str) -> str:
    """An event's key: the first half of SHA-256 of source and id."""
    return sha256(f"{source}\0{event_id}".encode()).hexdigest()[:32]


def member_keys(member: str) -> tuple[str, str, str]:
    """Where a member's decisions, redemptions and first purchases stand."""
    tag = tag_of("d", member)
    return f"{tag}:made:{member}", f"{tag}:redeemed:{member}", f"{tag}:first:{member}"


class OfferStore:
    """Reads what decisions look at, and takes them; `token`: of the filling of Redis that they are taken in, '' where nobody filled it."""

    def __init__(self, client: Redis, token: str = "") -> None:
        self.client = client
        self.token = token

    async def look(self, seen: Sequence[Seen], firsts: Sequence[First], members: Iterable[str]) -> Looked:
        """Notes what visitors saw and members bought, and reads it with the members' decisions, in one round trip."""
        names = list(dict.fromkeys(members))
        if not (seen or firsts or names):
            return Looked([], [], {})
        pipeline = self.client.pipeline(transaction=False)
        for item in seen:
            key = f"{tag_of('s', item.visitor)}:seen:{item.visitor}:{item.offer_id}"
            pipeline.zadd(key, {item.event: item.at_ms})
            pipeline.zremrangebyrank(key, 0, -2 * COUNT_MAX - 1)
            pipeline.pexpire(key, item.back_ms + 60_000)
            pipeline.zcount(key, item.at_ms - item.back_ms + 1, item.at_ms)
        for first in firsts:
            key = member_keys(first.member)[2]
            pipeline.hsetnx(key, first.offer_id, first.receipt)
            pipeline.expire(key, FIRST_S)
            pipeline.hget(key, first.offer_id)
        for name in names:
            pipeline.hgetall(member_keys(name)[0])
        answers = await pipeline.execute()
        noted, bought = 4 * len(seen), 4 * len(seen) + 3 * len(firsts)
        for name, held in zip(names, answers[bought:], strict=True):
            if MARK.encode() in held:
                await self.client.delete(member_keys(name)[2])  # Noted above, behind an erasure.
        return Looked(
            counts=[int(count) for count in answers[3:noted:4]],
            firsts=[held.decode() == first.receipt for held, first in zip(answers[noted + 2 : bought : 3], firsts, strict=True)],
            made={name: made_in(held) for name, held in zip(names, answers[bought:], strict=True)},
        )

    async def take(self, attempts: Sequence[Attempt]) -> list[Answer]:
        """Takes for each event the first candidate that has room with its member and in its budget; what stands, in the same order.

        Three round trips, and three more for each further candidate where a budget is spent.

        Raises:
            RedisEmptied: Redis was emptied meanwhile; caps and budgets may not have held.
        """
        answers: list[Answer] = [Answer(None, {}) for _ in attempts]
        open_places = [place for place, attempt in enumerate(attempts) if attempt.candidates]
        while open_places:
            left = {place: rest(attempts[place], answers[place]) for place in open_places}
            reserved = await self._reserve([left[place] for place in open_places])
            granted = await self._take_budgets([left[place] for place in open_places], reserved)
            again = []
            for place, answer, room in zip(open_places, reserved, granted, strict=True):
                against = answers[place].against | answer.against
                if answer.made is not None and not room:
                    against[answer.made.offer_id] = "budget_spent"
                    again.append(place)
                answers[place] = Answer(answer.made if room else None, against)
            open_places = [place for place in again if rest(attempts[place], answers[place]).candidates]
        return await self._standing(attempts, answers)

    async def _reserve(self, attempts: Sequence[Attempt]) -> list[Answer]:
        pipeline = self.client.pipeline(transaction=False)
        for attempt in attempts:
            oldest = attempt.candidates[0].made.at_ms - KEPT_DAYS_MAX * DAY_MS
            arguments = [attempt.event, oldest, KEPT_DAYS_MAX * DAY_S, MADE_MAX]
            candidates = _encode([limits_of(candidate) for candidate in attempt.candidates])
            made = [_encode(candidate.made) for candidate in attempt.candidates]
            pipeline.fcall("tillstream_reserve_offer", 1, member_keys(attempt.member)[0], *arguments, candidates, *made)
        answers = await pipeline.execute()
        return [answer_of(attempt, *answer) for attempt, answer in zip(attempts, answers, strict=True)]

    async def _take_budgets(self, attempts: Sequence[Attempt], answers: Sequence[Answer]) -> list[bool]:
        """Whether each reservation may stand; those that may not are given back."""
        limited: list[tuple[Made, int]] = []
        for attempt, answer in zip(attempts, answers, strict=True):
            budget = budget_of(attempt, answer.made)
            if answer.made is not None and budget is not None:
                limited.append((answer.made, budget))
        spent: set[str] = set()
        if limited:
            keys = [BUDGETS, *(TOOK + made.decision_id for made, _ in limited)]
            triples = [part for made, budget in limited for part in (made.offer_id, budget, int(made.group == "treated"))]
            rooms = await self.client.fcall("tillstream_take_offers", len(keys), *keys, TOOK_S, *triples)
            spent = {made.decision_id for (made, _), room in zip(limited, rooms, strict=True) if not room}
            pipeline = self.client.pipeline(transaction=False)
            for attempt, answer in zip(attempts, answers, strict=True):
                if answer.made is not None and answer.made.decision_id in spent:
                    pipeline.fcall("tillstream_release_offer", 1, member_keys(attempt.member)[0], attempt.event, _encode(answer.made))
            if spent:
                await pipeline.execute()
        return [answer.made is not None and answer.made.decision_id not in spent for answer in answers]

    async def _standing(self, attempts: Sequence[Attempt], answers: Sequence[Answer]) -> list[Answer]:
        """The answers, whose decisions can be answered from now on; without those on members that were forgotten since."""
        taken = [(attempt.member, answer.made) for attempt, answer in zip(attempts, answers, strict=True) if answer.made is not None]
        if not taken:
            return list(answers)
        pipeline = self.client.pipeline(transaction=False)
        for member, made in taken:
            pipeline.set(WHOSE + made.decision_id, member, px=max(made.answer_ms, made.ends_ms) - made.at_ms)
            pipeline.hexists(member_keys(member)[0], MARK)
        pipeline.get(FILLED)
        *marks, filled = await pipeline.execute()
        if self.token and (filled or b"").decode().partition(" ")[2] != self.token:
            raise RedisEmptied
        forgotten = [made.decision_id for (_, made), marked in zip(taken, marks[1::2], strict=True) if marked]
        for decision in forgotten:
            await self.client.delete(WHOSE + decision)
        return [Answer(None, {}) if answer.made is not None and answer.made.decision_id in forgotten else answer for answer in answers]

    async def member_of(self, decision_id: str) -> str | None:
        """Whose decision it is; None: there is no such decision, or it can be answered no more."""
        found = await self.client.get(WHOSE + decision_id)
        return None if found is None else found.decode()

    async def redeem(self, member: str, decision_id: str, at_ms: int) -> None:
        """Notes that an offer was used, so that it is not shown any more; the first time stands."""
        key = member_keys(member)[1]
        pipeline = self.client.pipeline(transaction=False)
        pipeline.hsetnx(key, decision_id, at_ms)
        pipeline.expire(key, KEPT_DAYS_MAX * DAY_S)
        await pipeline.execute()


def made_in(held: Mapping[bytes, bytes]) -> dict[str, Made]:
    """A member's decisions, by the key of the event that led to them."""
    return {event.decode(): decode_made(raw) for event, raw in held.items() if event != MARK.encode()}


def rest(attempt: Attempt, answer: Answer) -> Attempt:
    """The candidates that nothing was said against yet."""
    return attempt._replace(candidates=[item for item in attempt.candidates if item.made.offer_id not in answer.against])


def limits_of(candidate: Candidate) -> list[Any]:
    """A candidate as `tillstream_reserve_offer` takes it."""
    offer = candidate.placed.offer
    member, channel = offer.cap.per_member, offer.cap.per_channel
    return [
        candidate.made,
        -1 if offer.cool_down is None else ms_of(offer.cool_down.length),
        *(-1 if member is None else member.max, candidate.member_from_ms or 0),
        *(-1 if channel is None else channel.max, candidate.channel_from_ms or 0),
    ]


def answer_of(attempt: Attempt, standing: bytes, *reasons: bytes) -> Answer:
    """What the function library said."""
    against: dict[str, Reason] = {}
    for candidate, reason in zip(attempt.candidates, reasons, strict=False):
        against[candidate.made.offer_id] = reason.decode()  # type: ignore[assignment]
    return Answer(decode_made(standing) if standing else None, against)


def budget_of(attempt: Attempt, made: Made | None) -> int | None:
    """The budget of the offer that was decided on; None: it has none, or is not among the candidates any more."""
    return next((item.placed.offer.budget for item in attempt.candidates if made is not None and item.made.offer_id == made.offer_id), None)
