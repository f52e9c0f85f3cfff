"""What decisions ask: the champions of the latest checkpoint (streams/learn.py), in every worker of the role `offers`.

Delivery: a checkpoint counts from the first look after it was written, at most `REFRESH_S` later. What can't be read is
logged, and the champion before it stays.
"""

import asyncio

import structlog

from tillstream.models.checkpoints import Champion, CheckpointRefused, Signer
from tillstream.models.features.declared import DECLARED
from tillstream.models.linear import fast
from tillstream.models.propensity import BadFeature
from tillstream.schemas.offers import Judgement
from tillstream.sinks.checkpoints import CheckpointStore

REFRESH_S = 2.0
"""The learner writes every five seconds; a look is one read of a number."""

NAMES = tuple(one.name for one in DECLARED)

_log = structlog.get_logger(__name__)


class Champions:
    """Scores by the champion of each offer."""

    def __init__(self, store: CheckpointStore, signer: Signer) -> None:
        self.store = store
        self.signer = signer
        self.offset: int | None = None
        self.by_offer: dict[str, Champion] = {}

    async def refresh(self) -> None:
        """Takes the latest checkpoint, if there is a new one."""
        offset = await self.store.offset()
        if offset == self.offset:
            return
        self.by_offer = await asyncio.to_thread(self._unpacked, await self.store.champions(), self.by_offer)
        self.offset = offset

    def _unpacked(self, found: dict[str, bytes], before: dict[str, Champion]) -> dict[str, Champion]:
        champions: dict[str, Champion] = {}
        for offer_id, raw in found.items():
            try:
                champion = self.signer.unpack_champion(raw)
                champions[offer_id] = champion._replace(model=fast(champion.model, NAMES))
            except CheckpointRefused as refused:
                _log.warning("champion_refused", offer=offer_id, reason=refused.reason)
                if offer_id in before:
                    champions[offer_id] = before[offer_id]
        return champions

    def score(self, model: str, offer_id: str, features: dict[str, float]) -> Judgement | None:
        """What the offer's champion says; None: it has learned nothing yet, or the features are none that it takes."""
        champion = self.by_offer.get(offer_id)
        if champion is None or champion.outcomes == 0:
            return None
        try:
            score = champion.score(features)
        except BadFeature:
            return None
        return Judgement(model=champion.name, version=champion.version, score=score, features=features)

    def lessons(self, offer_id: str) -> int:
        """How many lessons the offer's champion has had; 0: there is none."""
        champion = self.by_offer.get(offer_id)
        return 0 if champion is None else champion.outcomes
