"""A learner as signed bytes, and back. In: a learner and the offset that it stands at. Out: bytes, and the learner again.

    "TSL1" | HMAC-SHA-256 (32 bytes) | length of head, 4 bytes | head: JSON {format, river, offset, what} | pickle

A pickle can run any code when it is read, so what was not signed with the installation's key is never unpickled: whoever may write to Redis
may lose us a checkpoint, not run code in a worker. A checkpoint is a shortcut, the topic is the truth: what is refused is learned anew.
"""

import hmac
import pickle
from hashlib import sha256
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from tillstream.models.learning import Learner
from tillstream.models.propensity import Features, Scores

MAGIC = b"TSL1"
SIGNATURE_BYTES = 32
LENGTH_BYTES = 4

FORMAT = 2
"""Of what is pickled: raise it with any change of a class in models/, so that an old checkpoint is learned anew and not misread."""

PURPOSE = b"tillstream/checkpoints"
"""The signing key is made of the installation's key for this purpose, so that no other use of that key signs a pickle."""

Kind = Literal["learner", "champion"]


class CheckpointRefused(Exception):
    """Bytes that are no checkpoint of this installation and this version; `reason` says what is wrong. The topic has it all."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the checkpoint of models is not used: {reason}; it is learned anew from the topic `outcomes`")


class Head(Struct, frozen=True):
    """What a checkpoint says of itself."""

    format: int
    river: str
    offset: int
    what: Kind


class Champion(NamedTuple):
    """What decisions need of an offer: its model, the name and version that go into the decision, the outcomes behind it."""

    name: str
    version: str
    outcomes: int
    model: Scores

    def score(self, features: Features) -> float:
        """The propensity; the prior before anything was learned. Raises BadFeature."""
        return self.model.score(features)


class Signer:
    """Signs with a key made of the installation's."""

    def __init__(self, installation_key: bytes) -> None:
        self.key = hmac.digest(installation_key, PURPOSE, sha256)

    def pack(self, learner: Learner, offset: int) -> bytes:
        """The whole learner, behind the record at `offset` of `outcomes`."""
        return self._packed(learner, offset, "learner")

    def unpack(self, raw: bytes) -> tuple[Learner, int]:
        """A learner and its offset; raises CheckpointRefused."""
        learner, head = self._unpacked(raw, "learner")
        return learner, head.offset

    def pack_champions(self, learner: Learner, offset: int) -> dict[str, bytes]:
        """The champion of each offer, for those who decide."""
        return {offer_id: self._packed(champion, offset, "champion") for offer_id, champion in champions(learner).items()}

    def unpack_champion(self, raw: bytes) -> Champion:
        """Raises CheckpointRefused."""
        champion: Champion = self._unpacked(raw, "champion")[0]
        return champion

    def _packed(self, what: object, offset: int, kind: Kind) -> bytes:
        head = msgspec.json.encode(Head(FORMAT, version("river"), offset, kind))
        body = len(head).to_bytes(LENGTH_BYTES) + head + pickle.dumps(what, protocol=pickle.HIGHEST_PROTOCOL)
        return MAGIC + hmac.digest(self.key, body, sha256) + body

    def _unpacked(self, raw: bytes, kind: Kind) -> tuple[Any, Head]:
        signature, body = raw[len(MAGIC) : len(MAGIC) + SIGNATURE_BYTES], raw[len(MAGIC) + SIGNATURE_BYTES :]
        if not raw.startswith(MAGIC) or not hmac.compare_digest(signature, hmac.digest(self.key, body, sha256)):
            raise CheckpointRefused("it is not signed with this installation's `identity_key`")
        size = int.from_bytes(body[:LENGTH_BYTES])
        head = msgspec.json.decode(body[LENGTH_BYTES : LENGTH_BYTES + size], type=Head)
        if (head.format, head.river) != (FORMAT, version("river")):
            raise CheckpointRefused(f"it is of format {head.format} and River {head.river}, here are {FORMAT} and {version('river')}")
        if head.what != kind:
            raise CheckpointRefused(f"it is a {head.what}, not a {kind}")
        return pickle.loads(body[LENGTH_BYTES + size :]), head


def champions(learner: Learner) -> dict[str, Champion]:
    """The champion of each offer, as of now."""
    books = {offer_id: book.contest for offer_id, book in learner.offers.items()}
    return {
        offer_id: Champion(contest.champion.name, contest.version, contest.lessons, contest.champion.model)
        for offer_id, contest in books.items()
    }
