"""Which of several offers goes first, where a program leaves that to a draw (`[offer_choice] policy = "bandit"`; docs/adr/0031).

In: the offers that fit an event, best first. Out: the same, drawn anew among those that the policy puts side by side: of one program, by
one channel, with a score. They keep the places that they had together; an offer without a model, or of a program that says nothing, stays
where it was. Then, of the offer that was taken: the probability of its draw (models/bandit.py).

All of them are drawn, one after the other, so that where the first has no room any more, the next was drawn as well. Chance is made of the
event's key: a batch that is judged again by the same models draws the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from tillstream.kernels.offering import Candidate
from tillstream.models.bandit import choose, probabilities
from tillstream.schemas.offers import Choice
from tillstream.schemas.program_offers import ChoicePolicy


class Draw(NamedTuple):
    """What was drawn from: scores by offer id, and the fewest lessons that any of their models has had."""

    scores: Mapping[str, float]
    lessons: int

    def choice(self, offer_id: str, refused: Mapping[str, object]) -> Choice:
        """The probability of an offer's draw, when those that were `refused` by then were drawn no more."""
        left = {name: score for name, score in self.scores.items() if name not in refused}
        return Choice(policy="bandit", probability=probabilities(left, self.lessons)[offer_id], lessons=self.lessons, scores=left)


class Drawn(NamedTuple):
    """The offers that fit, in the order in which they are tried, and, of those that were drawn, from what."""

    fit: list[Candidate]
    draws: dict[str, Draw]

    def chosen(self, candidate: Candidate, refused: Mapping[str, object]) -> tuple[Candidate, Choice | None]:
        """The offer that was taken, with the probability of its draw in `exploration`; None: no chance was in the choice."""
        offer_id, judgement = candidate.placed.offer.id, candidate.judgement
        draw = self.draws.get(offer_id)
        if draw is None or judgement is None:
            return candidate, None
        choice = draw.choice(offer_id, refused)
        return candidate._replace(judgement=replace(judgement, exploration=judgement.exploration * choice.probability)), choice


def drawn(
    fit: Sequence[Candidate], policy: Callable[[Candidate], ChoicePolicy], lessons: Callable[[str], int], member: str, event: str
) -> Drawn:
    """The order of trying; `policy` is that of a candidate's program, `lessons` those of an offer's model; `event` is the event's key."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, candidate in enumerate(fit):
        if candidate.judgement is not None and policy(candidate) == "bandit":
            places.setdefault((candidate.placed.program_id, candidate.placed.offer.channel), []).append(place)
    order, draws = list(fit), dict[str, Draw]()
    for (program_id, channel), group in places.items():
        if len(group) > 1:
            there = {fit[place].placed.offer.id: fit[place] for place in group}
            draw = Draw({name: _score(one) for name, one in there.items()}, min(lessons(name) for name in there))
            for place, name in zip(group, _sequence(draw, f"{program_id}\0{channel}\0{member}\0{event}"), strict=True):
                order[place] = there[name]
                draws[name] = draw
    return Drawn(order, draws)


def _score(candidate: Candidate) -> float:
    return 0.0 if candidate.judgement is None else candidate.judgement.score


def _sequence(draw: Draw, seed: str) -> list[str]:
    """All offers of a draw, each drawn from those that are left."""
    left, found = dict(draw.scores), list[str]()
    while left:
        found.append(choose(f"{seed}\0{len(found)}", left, draw.lessons).offer_id)
        del left[found[-1]]
    return found
