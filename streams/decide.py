"""Page views and receipts -> decisions on offers -> outcomes, triggers (docs/offers.md).

A batch goes through these steps, in this order:

(1) ask the kernel which offers' triggers agree with each event (kernels/offer_occasions.py), of those in force on its local date;
(2) read, in one round trip, who the members are, their decisions so far, and how often a visitor did such things; note what was seen;
(3) judge (kernels/offering.py): who is asked, what the models said, and the first reason against every other offer; where a program leaves
    the choice among those that fit to a draw, draw (streams/offer_choice.py);
(4) take the decisions in Redis (sinks/offers.py), each under its event: caps, cool-downs and budgets hold over all workers;
(5) append `offer.decided`, of the control group too, to `outcomes`, `offer.triggered` of the others to `triggers`, and `offer.bought`
    where a receipt answers an earlier decision, which is noted in Redis first, for returns (streams/offer_returns.py); then whoever called
    acknowledges.

Delivery: at least once. A batch that is judged again finds its decisions in (4), and appends the same ids: readers drop repeats.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import NamedTuple, Protocol

import msgspec

from tillstream.kernels.instants import instant_ms
from tillstream.kernels.offer_occasions import ABANDONED, RECEIPT, Match, answers_to, matches
from tillstream.kernels.offering import NO_VERSION, Candidate, Occasioned, Placed, Reason, Verdict, member_zone, offers_in_force, verdict
from tillstream.kernels.registry import Registry
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.member_state import Member
from tillstream.schemas.offers import Judgement
from tillstream.schemas.program_offers import ChoicePolicy, Offer
from tillstream.sinks.bought import BoughtStore
from tillstream.sinks.offers import Answer, Attempt, First, OfferStore
from tillstream.sinks.registry import RegistryStore
from tillstream.sinks.state import keys
from tillstream.sinks.writer import Record, Writer
from tillstream.streams.groups import partition_of
from tillstream.streams.offer_cases import Asked, Case, Ready, case_key, person_of, seen, unmet_of
from tillstream.streams.offer_choice import Drawn, drawn
from tillstream.streams.offer_records import bought_records, decided_records
from tillstream.streams.stats import Stats

CLICK_AGE_MS_MAX = 5 * 60_000
AGE_MS_MAX = {RECEIPT: 60 * 60_000, ABANDONED: 60 * 60_000}
"""An event that is older than this when it is judged triggers nothing: the page is closed, the member has left the shop."""

MEMBER_KEY = 5
"""The place of the members' states among a partition's keys (sinks/state.py)."""

_member = msgspec.json.Decoder(Member)


class Occasions(NamedTuple):
    """Cases of which something is to be decided, by the programs of one moment."""

    timetable: Timetable
    asked: list[Asked]


class Scorer(Protocol):
    """What judges offers: models by name, as of their latest checkpoint."""

    def score(self, model: str, offer_id: str, features: dict[str, float]) -> Judgement | None:
        """What a model says; None: there is none of this name yet."""

    def lessons(self, offer_id: str) -> int:
        """How many lessons an offer's model has had."""


class Decide:
    """Decides on offers; `timetable` gives the programs of the moment, `partitions` are those of `transactions`."""

    def __init__(
        self, timetable: Callable[[], Timetable], store: OfferStore, registry: RegistryStore, writer: Writer, stats: Stats, scorer: Scorer,
        partitions: int,
    ) -> None:  # fmt: skip
        self.timetable = timetable
        self.store = store
        self.bought = BoughtStore(store.client)
        self.registry = registry
        self.writer = writer
        self.stats = stats
        self.scorer = scorer
        self.partitions = partitions
        self._offers: tuple[Timetable, dict[tuple[date, str], list[Placed]]] | None = None

    async def decide(self, cases: Sequence[Case], now_ms: int) -> None:
        """Takes what members did through the steps of the module; `now_ms` is the time at which it is judged, milliseconds since 1970."""
        await self.take(self.ask(cases, now_ms))

    def ask(self, cases: Sequence[Case], now_ms: int) -> Occasions:
        """Step (1): the cases of which anything is to be decided."""
        timetable = self.timetable()
        if not any(version.program.offers for version in timetable.versions):
            return Occasions(timetable, [])
        asked = [Asked(case, self.matched(timetable, case, now_ms)) for case in cases]
        return Occasions(timetable, [one for one in asked if one.found or one.case.happened.name == RECEIPT])

    async def take(self, occasions: Occasions) -> None:
        """The other steps."""
        timetable, asked = occasions
        if not asked:
            return
        ready = await self.read(asked)  # (2)
        judged = [self.judged(timetable, one) for one in ready]  # (3)
        drawn = [self.drawn(timetable, one, found) for one, found in zip(ready, judged, strict=True)]
        attempts = [
            Attempt(one.person.member_id, case_key(one.case), found.fit) for one, found in zip(ready, drawn, strict=True)
        ]
        answers = await self.store.take(attempts)  # (4)
        records: list[Record] = []
        bought = [(item, record) for one in ready for item, record in bought_records(timetable, one)]
        if bought:
            await self.bought.note(item for item, _ in bought)
        for one, found, order, answer in zip(ready, judged, drawn, answers, strict=True):
            records += self.told(timetable, one, found.against, order, answer)
        for item, record in bought:
            self.stats.count_offer(item.offer_id, "bought")
            records.append(record)
        if records:
            await self.writer.append(records)  # (5)

    def matched(self, timetable: Timetable, case: Case, now_ms: int) -> list[Match]:
        """The offers whose triggers agree; none where it is too late for any."""
        happened = case.happened
        found = matches(self.in_force(timetable, happened.at.astimezone(timetable.zone).date(), happened.name), happened)
        late = now_ms - instant_ms(happened.at) > AGE_MS_MAX.get(happened.name, CLICK_AGE_MS_MAX)
        for match in found if late else []:
            self.stats.count_offer(match.placed.offer.id, "too_old")
        return [] if late else found

    def refuse(self, case: Case, reason: Reason) -> None:
        """Counts a reason against all offers that an event would have led to."""
        timetable, happened = self.timetable(), case.happened
        for match in matches(self.in_force(timetable, happened.at.astimezone(timetable.zone).date(), happened.name), happened):
            self.stats.count_offer(match.placed.offer.id, reason)

    def waits(self) -> list[int]:
        """After how many minutes offers take a cart for abandoned."""
        offers = [offer for version in self.timetable().versions for offer in version.program.offers]
        return sorted({offer.trigger.minutes for offer in offers if offer.trigger.on == ABANDONED and offer.trigger.minutes is not None})

    def in_force(self, timetable: Timetable, day: date, name: str) -> list[Placed]:
        """The offers of a local date that look at events of a name; worked out once for each, until there are other programs."""
        if self._offers is None or self._offers[0] is not timetable:
            self._offers = (timetable, {})
        known = self._offers[1]
        if (day, name) not in known:
            placed = [(one, one.offer.trigger) for one in offers_in_force(timetable, day)]
            known[day, name] = [one for one, trigger in placed if answers_to(trigger, name, trigger.minutes)]
        return known[day, name]

    async def read(self, asked: Sequence[Asked]) -> list[Ready]:
        """Members, decisions, counts."""
        counted = [(one.case, match) for one in asked for match in one.found if match.placed.offer.trigger.count > 1]
        firsts = [(one.case, match) for one in asked for match in one.found if match.placed.offer.trigger.first_purchase]
        looked, registry, tiers = await asyncio.gather(
            self.store.look(
                [seen(case, match.placed.offer) for case, match in counted],
                [First(case.member_id, match.placed.offer.id, case_key(case)) for case, match in firsts],
                (one.case.member_id for one in asked),
            ),
            self.known(one.case.member_id for one in asked),
            self.tiers(one.case.account_id for one in asked),
        )
        unmet = unmet_of(counted, firsts, looked)
        return [
            Ready(
                one.case,
                [match for match in one.found if match.enough and (case_key(one.case), match.placed.offer.id) not in unmet],
                person_of(one.case, registry, tiers.get(one.case.account_id, "")),
                looked.made[one.case.member_id],
            )
            for one in asked
        ]

    async def known(self, members: Iterable[str]) -> Registry:
        """All that is known of some members."""
        registry = Registry()
        registry.members = await self.registry.facts("members", members)
        return registry

    async def tiers(self, accounts: Iterable[str]) -> dict[str, str]:
        """The tiers of some accounts, as of their latest event."""
        names = list(dict.fromkeys(accounts))
        pipeline = self.store.client.pipeline(transaction=False)
        for name in names:
            pipeline.hget(keys(partition_of(name, self.partitions))[MEMBER_KEY], name)
        states = await pipeline.execute() if names else []
        return {name: _member.decode(raw).tier or "" for name, raw in zip(names, states, strict=True) if raw is not None}

    def judged(self, timetable: Timetable, one: Ready) -> Verdict:
        """What the kernel says; models are asked of who may be profiled."""
        happened = one.case.happened
        occasion = Occasioned(happened.source, happened.event_id, happened.at, {match.placed.offer.id: match.why for match in one.met})
        # Judged before, it had room then; what was taken since must not speak against it.
        made = [] if case_key(one.case) in one.made else one.made.values()
        offers = [match.placed for match in one.met]
        return verdict(offers, timetable.zone, occasion, one.person, lambda offer: self.judgement(timetable, one, offer), made)

    def judgement(self, timetable: Timetable, one: Ready, offer: Offer) -> Judgement | None:
        """What the offer's model says; where there is none yet, the features that it will learn from, under no version."""
        if offer.model is None or one.case.featured is None:
            return None
        at = one.case.happened.at.astimezone(member_zone(one.person.profile, timetable.zone))
        features = one.case.featured(offer.goods, at)
        return self.scorer.score(offer.model, offer.id, features) or Judgement(
            model=offer.model, version=NO_VERSION, score=0.0, features=features
        )

    def drawn(self, timetable: Timetable, one: Ready, found: Verdict) -> Drawn:
        """The offers that fit, in the order in which they are tried."""

        def policy(candidate: Candidate) -> ChoicePolicy:
            return timetable.by_version[candidate.placed.version].program.offer_choice.policy

        return drawn(found.fit, policy, self.scorer.lessons, one.person.member_id, case_key(one.case))

    def told(self, timetable: Timetable, one: Ready, refused: Mapping[str, Reason], found: Drawn, answer: Answer) -> Iterator[Record]:
        """What stands for an event, as records; counted, and so are the reasons against all other offers."""
        against = {**refused, **answer.against}
        chosen = next((item for item in found.fit if answer.made is not None and item.made.offer_id == answer.made.offer_id), None)
        for candidate in found.fit:
            if candidate is not chosen:
                against.setdefault(candidate.made.offer_id, "another_first")
        for offer_id, reason in against.items():
            self.stats.count_offer(offer_id, reason)
        if chosen is not None and answer.made is not None:
            self.stats.count_offer(chosen.made.offer_id, answer.made.group)
            yield from decided_records(timetable, one, *found.chosen(chosen, answer.against), answer.made)
