"""What `tillstream models status --json` prints: offers' models as of the latest checkpoint, in figures (docs/models.md).

All figures of a model are of scores that it gave before the outcome was known. Shares and scores are from 0 to 1.
"""

from datetime import datetime
from typing import Literal

from msgspec import Struct


class Interval(Struct, frozen=True):
    """An estimate, and the interval around it at 95 %."""

    estimate: float
    low: float
    high: float


class CalibrationGroup(Struct, frozen=True):
    """A tenth of the decisions, of neighbouring scores: how many, their mean score, the share of them with an outcome."""

    decisions: int
    score: float
    share: float


class Figures(Struct, frozen=True):
    """How good scores were: of so many decisions, `successes` of them with the outcome that the offer counts.

    `auc` is null with fewer than two of either kind, `log_loss` without decisions.
    """

    decisions: int
    successes: int
    auc: Interval | None
    log_loss: float | None
    calibration: list[CalibrationGroup]


class ModelStatus(Struct, frozen=True):
    """One model of an offer, with its figures since its tally last began anew: at a promotion or a drift."""

    name: str
    role: Literal["champion", "challenger"]
    figures: Figures


class LookStatus(Struct, frozen=True):
    """What a promotion went by: `gain`, the mean by which the log loss was lower, above the quantile of 1 - `level` times `error`."""

    decisions: int
    successes: int
    gain: float
    error: float
    level: float


class ModelEvent(Struct, frozen=True):
    """A promotion or a drift, behind so many lessons; `model` is the champion from then on, `before` the one before it."""

    what: Literal["promotion", "drift"]
    at: datetime
    lessons: int
    model: str
    before: str
    look: LookStatus | None


class Uplift(Struct, frozen=True):
    """What the offer brought: treated less control, of decisions whose window has ended.

    `buyers` is in shares, `amount` in minor units a decision, less what scores had said already. Null: an arm has fewer than two decisions.
    """

    treated: int
    control: int
    buyers: Interval | None
    amount: Interval | None


class OfferModels(Struct, frozen=True):
    """One offer. `served` are the figures of the scores that decisions were made by; waiting decisions are those in an open window."""

    offer_id: str
    version: str
    lessons: int
    served: Figures
    models: list[ModelStatus]
    events: list[ModelEvent]
    waiting_treated: int
    waiting_control: int
    uplift: Uplift


class CheckpointStatus(Struct, frozen=True):
    """The latest checkpoint: the offset of `outcomes` that it stands at, how long ago it was written.

    `as_of` is the time of the latest decision in it, `waiting` how many decisions wait for the end of their windows;
    `counts` says what became of the events that were taken (models/learning.py).
    """

    offset: int
    age_s: float
    as_of: datetime | None
    waiting: int
    counts: dict[str, int]


class ModelsStatus(Struct, frozen=True):
    """All of it; `checkpoint` is null where nothing was learned yet."""

    checkpoint: CheckpointStatus | None
    offers: list[OfferModels]
