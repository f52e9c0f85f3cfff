"""Models and their figures, for a person (`tillstream models status`)."""

from rich.console import Console
from rich.table import Table

from tillstream.schemas.models_status import Figures, Interval, ModelEvent, ModelsStatus, OfferModels, Uplift

NOTHING = "nothing is learned yet: a worker of the role models writes its first checkpoint seconds after the first decision"


def show_models(found: ModelsStatus) -> None:
    """Each offer: its models in a table, then what happened to them, and what the offer brought."""
    out = Console(highlight=False)
    checkpoint = found.checkpoint
    if checkpoint is None:
        out.print(NOTHING)
        return
    as_of = "" if checkpoint.as_of is None else f", latest decision of {checkpoint.as_of:%Y-%m-%d %H:%M %Z}"
    out.print(f"checkpoint at offset {checkpoint.offset:,} of outcomes, written {checkpoint.age_s:,.0f} s ago{as_of}", soft_wrap=True)
    out.print(f"waiting for the end of their windows: {checkpoint.waiting:,} decisions", soft_wrap=True)
    for offer in found.offers:
        _show_offer(out, offer)


def _show_offer(out: Console, offer: OfferModels) -> None:
    out.print(f"\n[bold]{offer.offer_id}[/bold]: decided by {offer.version}, {offer.lessons:,} lessons", soft_wrap=True)
    table = Table("model", "role", "decisions", "successes", "AUC (95 %)", "log loss", "calibration: mean score → share")
    rows = [(model.name, model.role, model.figures) for model in offer.models]
    for name, role, figures in [*rows, ("as served", "", offer.served)]:
        log_loss = "" if figures.log_loss is None else f"{figures.log_loss:.4f}"
        counts = (f"{figures.decisions:,}", f"{figures.successes:,}")
        table.add_row(name, role, *counts, _interval(figures.auc, 3), log_loss, _calibration(figures))
    out.print(table)
    for event in offer.events:
        out.print(f"  {_event(event)}", soft_wrap=True)
    out.print(f"  waiting: {offer.waiting_treated:,} treated, {offer.waiting_control:,} control", soft_wrap=True)
    out.print(f"  uplift: {_uplift(offer.uplift)}", soft_wrap=True)


def _interval(interval: Interval | None, digits: int) -> str:
    if interval is None:
        return ""
    return f"{interval.estimate:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def _calibration(figures: Figures) -> str:
    return "  ".join(f"{group.score:.3f}→{group.share:.3f}" for group in figures.calibration)


def _event(event: ModelEvent) -> str:
    when = f"{event.at:%Y-%m-%d %H:%M}, after {event.lessons:,} lessons"
    if event.look is None:
        return f"drift: {when}: the log loss of {event.model} rose; challengers began afresh"
    look = event.look
    ground = f"log loss lower by {look.gain:.4f} ± {look.error:.4f} (standard error), at level {look.level:.4f}"
    return f"promotion: {when}: {event.model} for {event.before}; of {look.decisions:,} decisions, {look.successes:,} successes, {ground}"


def _uplift(uplift: Uplift) -> str:
    counts = f"{uplift.treated:,} treated, {uplift.control:,} control"
    if uplift.buyers is None or uplift.amount is None:
        return f"not known, of {counts}: it takes two decisions of each whose windows have ended"
    return f"share of buyers {_interval(uplift.buyers, 4)}, minor units a decision {_interval(uplift.amount, 1)}; of {counts}"
