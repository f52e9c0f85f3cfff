"""What a learner knows, in figures. In: a learner, its offset and the age of its checkpoint. Out: schemas/models_status.py."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from tillstream.models.contest import Contest, Happened, Look
from tillstream.models.learning import Learner, OfferBook
from tillstream.models.uplift import Arm, ArmsTooSmall, Difference, adjusted_difference, share_difference
from tillstream.models.validation import Validation
from tillstream.schemas.models_status import (
    CalibrationGroup,
    CheckpointStatus,
    Figures,
    Interval,
    LookStatus,
    ModelEvent,
    ModelsStatus,
    ModelStatus,
    OfferModels,
    Uplift,
)
from tillstream.schemas.offers import Group

Waiting = Counter[tuple[str, Group]]
"""Decisions in open windows, by offer and group."""


def status_of(learner: Learner, offset: int, age_s: float) -> ModelsStatus:
    """All offers, by id."""
    waiting: Waiting = Counter((pending.decided.offer_id, pending.decided.group) for pending in learner.pending.values())
    as_of = None if learner.as_of == datetime.min.replace(tzinfo=UTC) else learner.as_of
    checkpoint = CheckpointStatus(offset, age_s, as_of, len(learner.pending), dict(sorted(learner.counts.items())))
    return ModelsStatus(checkpoint, [_offer(name, learner.offers[name], waiting) for name in sorted(learner.offers)])


def _offer(offer_id: str, book: OfferBook, waiting: Waiting) -> OfferModels:
    contest = book.contest
    return OfferModels(
        offer_id=offer_id,
        version=contest.version,
        lessons=contest.lessons,
        served=figures(contest.served),
        models=_models(contest),
        events=[_event(one) for one in contest.happened],
        waiting_treated=waiting[offer_id, "treated"],
        waiting_control=waiting[offer_id, "control"],
        uplift=uplift(book),
    )


def _models(contest: Contest) -> list[ModelStatus]:
    champion, challengers = contest.champion, contest.challengers
    return [
        ModelStatus(champion.name, "champion", figures(champion.validation)),
        *(ModelStatus(one.name, "challenger", figures(one.validation)) for one in challengers),
    ]


def figures(validation: Validation) -> Figures:
    """What a tally comes to."""
    successes, failures = validation.outcomes
    auc = validation.auc()
    return Figures(
        decisions=successes + failures,
        successes=successes,
        auc=None if auc is None else Interval(auc.value, auc.low, auc.high),
        log_loss=validation.log_loss(),
        calibration=[CalibrationGroup(*group) for group in validation.calibration()],
    )


def _event(happened: Happened) -> ModelEvent:
    look = None if happened.look is None else _look(happened.look)
    return ModelEvent(happened.what, happened.at, happened.lessons, happened.model, happened.before, look)


def _look(look: Look) -> LookStatus:
    return LookStatus(look.decisions, look.positives, look.gain, look.error, look.level)


def uplift(book: OfferBook) -> Uplift:
    """Treated less control; an interval where both arms are large enough."""
    return Uplift(
        treated=book.purchases["treated"].decisions,
        control=book.purchases["control"].decisions,
        buyers=_difference(share_difference, book.purchases),
        amount=_difference(adjusted_difference, book.amounts),
    )


def _difference(method: Callable[[Arm, Arm], Difference], arms: dict[str, Arm]) -> Interval | None:
    try:
        return Interval(*method(arms["treated"], arms["control"]))
    except ArmsTooSmall:
        return None
