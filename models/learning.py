"""Learning from outcomes that come late, without looking ahead. In: the events of the topic `outcomes`, in its order. Out: models by offer.

A decision is scored by every model of its offer when it is read, and waits, with its features as they stood. Once decisions are read that
are `GRACE` later than its `answer_by`, its time is over:

(1) it is a lesson: whether the outcome that its offer counts (`success`: clicked, redeemed or bought) came up to `answer_by`;
(2) whether goods of the offer were bought counts for the uplift.

What was bought and came back within that time (`offer.returned`) was not bought, as far as it came back: a receipt of which nothing is left
makes no success, and amounts are what is left. What comes back later changes nothing any more: a lesson is not taken back.

An outcome is no lesson before: while those without one still wait, models would see successes only, and take every offer for one. The
control group saw no offer; its decisions teach nothing, they take step (2) only. Time is that of `offer.decided`, our own events; a clock
that is wrong elsewhere moves nothing. What a learner knows depends on the topic alone: it may be learned anew from its beginning.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush

from tillstream.models.contest import Contest
from tillstream.models.propensity import CERTAIN, BadFeature, between
from tillstream.models.uplift import Arm
from tillstream.schemas.offers import (
    BoughtEvent,
    ClickedEvent,
    Decided,
    DecidedEvent,
    Outcome,
    OutcomeEvent,
    RedeemedEvent,
    ReturnedEvent,
    ShownEvent,
)

GRACE = timedelta(hours=1)
"""Tills and shops that were cut off tell outcomes late; what comes after this is counted as late and teaches nothing."""

PENDING_MAX = 100_000
"""Decisions that wait, about 2 kB each. Beyond it new ones are left out, which says nothing of what becomes of them."""

DONE_MAX = 100_000
"""Decisions that are remembered after their end, since a batch that is decided again repeats them."""

OFFERS_MAX = 500
"""Offers with models, a few MB each with forests; beyond it the one without a decision for longest is forgotten."""

MODELS = ("ftrl", "logistic", "forest")
"""The champion to start with, then its challengers; docs/models.md has the figures."""


COUNTED = {"clicked": ClickedEvent, "redeemed": RedeemedEvent, "bought": BoughtEvent}


class Pending:
    """A decision that waits; `scores` are what the models said of it, by serial.

    `bought`: by receipt what it cost, minor units; `returned`: by the event that said so which receipt, and what of it came back.
    """

    def __init__(self, decided: Decided, scores: dict[int, float]) -> None:
        self.decided = decided
        self.scores = scores
        self.answered = False
        self.bought: dict[str, int] = {}
        self.returned: dict[str, tuple[str, int]] = {}

    @property
    def left(self) -> list[int]:
        """What is left of each receipt of which not all came back, minor units."""
        back = Counter[str]()
        for receipt, amount in self.returned.values():
            back[receipt] += amount
        return [amount - back[receipt] for receipt, amount in self.bought.items() if receipt not in back or back[receipt] < amount]

    @property
    def amount(self) -> int | None:
        """What is left of all receipts together; None: nothing was bought, or all of it came back."""
        left = self.left
        return sum(left) if left else None

    @property
    def success(self) -> bool:
        """Whether the outcome that the offer counts came."""
        return bool(self.left) if self.decided.success == "bought" else self.answered

    @property
    def score(self) -> float:
        """What the decision was made by; without a model, nothing is known of it."""
        return 0.0 if self.decided.judgement is None else self.decided.judgement.score


class OfferBook:
    """What is known of one offer: its models, and for the uplift treated and control, in purchases and in amounts (minor units)."""

    def __init__(self, models: Sequence[str]) -> None:
        self.contest = Contest(models)
        self.purchases = {"treated": Arm(), "control": Arm()}
        self.amounts = {"treated": Arm(), "control": Arm()}


class Learner:
    """All offers. `counts` says what became of the events that were taken."""

    def __init__(self, models: Sequence[str] = MODELS, pending_max: int = PENDING_MAX) -> None:
        """`models`: names, the champion first; raises UnknownModel."""
        Contest(models)
        self.models = tuple(models)
        self.pending_max = pending_max
        self.offers: dict[str, OfferBook] = {}
        self.pending: dict[str, Pending] = {}
        self.deadlines: list[tuple[datetime, str]] = []
        self.done: dict[str, None] = {}
        self.counts: Counter[str] = Counter()
        self.as_of = datetime.min.replace(tzinfo=UTC)

    def take(self, event: OutcomeEvent) -> None:
        """Takes the next event of the topic."""
        if isinstance(event, DecidedEvent):
            self.as_of = max(self.as_of, event.time)
            self._close(self.as_of - GRACE)
            self._decided(event.data)
        elif isinstance(event, ShownEvent):
            self.counts["shown"] += 1
        else:
            self._answered(event, event.data)

    def _decided(self, decided: Decided) -> None:
        if decided.decision_id in self.pending or decided.decision_id in self.done:
            self.counts["repeated"] += 1
            return
        if len(self.pending) >= self.pending_max:
            self.counts["left_out"] += 1
            return
        try:
            scores = self._scores(decided)
        except BadFeature:
            self.counts["unfit"] += 1
            return
        self.counts[f"decided_{decided.group}"] += 1
        self.pending[decided.decision_id] = Pending(decided, scores)
        heappush(self.deadlines, (decided.answer_by, decided.decision_id))

    def _scores(self, decided: Decided) -> dict[int, float]:
        book = self.offers.pop(decided.offer_id, None)
        if book is None:
            book = OfferBook(self.models)
            if len(self.offers) >= OFFERS_MAX:
                del self.offers[next(iter(self.offers))]
        self.offers[decided.offer_id] = book  # At the end: the first is the one without a decision for longest.
        if decided.judgement is None or decided.group == "control":
            return {}
        return book.contest.scores(decided.judgement.features)

    def _answered(self, event: ClickedEvent | RedeemedEvent | BoughtEvent | ReturnedEvent, outcome: Outcome) -> None:
        pending = self.pending.get(outcome.decision_id)
        if pending is None or event.time > pending.decided.answer_by:
            self.counts["late_or_unknown"] += 1
            return
        receipt = outcome.receipt_id or event.id
        if isinstance(event, BoughtEvent):
            pending.bought[receipt] = outcome.amount or 0
        elif isinstance(event, ReturnedEvent):
            pending.returned[event.id] = (receipt, outcome.amount or 0)
        pending.answered |= isinstance(event, COUNTED[pending.decided.success])

    def _close(self, until: datetime) -> None:
        """Ends the decisions whose time is over."""
        while self.deadlines and self.deadlines[0][0] < until:
            decision_id = heappop(self.deadlines)[1]
            pending = self.pending.pop(decision_id)
            self._teach(pending)  # (1)
            self._count_purchase(pending)  # (2)
            self.done[decision_id] = None
            if len(self.done) > DONE_MAX:
                del self.done[next(iter(self.done))]

    def _teach(self, pending: Pending) -> None:
        decided, judgement = pending.decided, pending.decided.judgement
        book = self.offers.get(decided.offer_id)
        if judgement is None or decided.group == "control" or book is None:
            return
        served = judgement.score if CERTAIN <= judgement.score <= 1 - CERTAIN else between(judgement.score)
        book.contest.learn(judgement.features, pending.scores, pending.success, served, self.as_of)
        self.counts["successes" if pending.success else "failures"] += 1

    def _count_purchase(self, pending: Pending) -> None:
        book, group = self.offers.get(pending.decided.offer_id), pending.decided.group
        if book is not None:
            book.purchases[group] = book.purchases[group].with_one(pending.amount is not None, pending.score)
            book.amounts[group] = book.amounts[group].with_one(pending.amount or 0, pending.score)
