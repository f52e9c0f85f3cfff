"""The models that offers are decided by: champions from the learner's latest checkpoint, kept in memory. In: Redis. Out: judgements.

`follow` looks whether the checkpoint has moved, one small read, and loads the champions if so; whoever decides calls it every few seconds.
"""

import asyncio

import structlog

from tillstream.models.checkpoints import Champion, CheckpointRefused, Signer
from tillstream.schemas.offers import Judgement
from tillstream.sinks.checkpoints import CheckpointStore

_log = structlog.get_logger(__name__)


class Champions:
    """By offer id, as of the last `follow`."""

    def __init__(self, store: CheckpointStore, signer: Signer) -> None:
        self.store = store
        self.signer = signer
        self.offset: int | None = None
        self.by_offer: dict[str, Champion] = {}

    async def follow(self) -> None:
        """Takes what was learned meanwhile; what this installation has not signed is left out, with a warning."""
        offset = await self.store.offset()
        if offset == self.offset:
            return
        packed = await self.store.champions()
        self.by_offer = await asyncio.to_thread(self._unpacked, packed)
        self.offset = offset

    def _unpacked(self, packed: dict[str, bytes]) -> dict[str, Champion]:
        found: dict[str, Champion] = {}
        for offer_id, raw in packed.items():
            try:
                found[offer_id] = self.signer.unpack_champion(raw)
            except CheckpointRefused as refused:
                _log.warning("champion_refused", offer=offer_id, reason=refused.reason)
        return found

    def score(self, model: str, offer_id: str, features: dict[str, float]) -> Judgement | None:
        """What the offer's champion says, under the name `model` that its program gives it; None before there is one. Raises BadFeature."""
        champion = self.by_offer.get(offer_id)
        if champion is None:
            return None
        return Judgement(model=model, version=champion.version, score=champion.score(features), features=features)
