"""What Redis said of a member at one moment, given to the till to keep: by it a basket is quoted while Redis does not answer.

    snapshot    base64url of: 16 random bytes, then AES-256-GCM of zlib of MessagePack of `Seen`

Its key is made of the installation's `identity_key` and the random bytes, so each snapshot has one of its own and any gateway opens it
(docs/adr/0023). GCM's tag is the signature. Encrypted it is because a member's state has a birthday, segments and dates of purchases,
which are nobody's business at a till.
"""

import base64
import secrets
import zlib
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from tillstream.gateway.bodies import SNAPSHOT_MAX
from tillstream.gateway.reading import Held
from tillstream.gateway.standing import Standing
from tillstream.schemas.events import Malformed
from tillstream.schemas.receipts import Identity

PURPOSE = b"till snapshots"
"""BLAKE2b's personalization: the same `identity_key` gives other keys for this than for anything else."""

SALT_BYTES = blake2b.SALT_SIZE

NONCE = bytes(12)
"""Nothing else is ever encrypted under the same key."""

PATH = "$.snapshot"

OUTDATED = "outdated"

_encode = msgspec.msgpack.Encoder().encode


class Seen(Struct, frozen=True, array_like=True):
    """What a sealed identity's member stood at, `at_ms` milliseconds after the epoch, and what was given of the rules' budgets.

    `with_members`: whether states of members were read, as programs that look at members need them.
    """

    at_ms: int
    identity: Identity
    account: str
    group: list[str]
    held: dict[str, Held]
    given: dict[str, int]
    with_members: bool

    @property
    def at(self) -> datetime:
        """The moment, UTC."""
        return datetime.fromtimestamp(self.at_ms / 1000, UTC)

    @property
    def standing(self) -> Standing:
        """Where the member stood; what its enrolment says is not in it."""
        return Standing(self.account, self.group, self.held, {})


_decode = msgspec.msgpack.Decoder(Seen).decode


def seen(at: datetime, identity: Identity, standing: Standing, given: dict[str, int], *, with_members: bool) -> Seen:
    """What a quote needs of a standing: the state of the account's own member, the holdings of all its group."""
    held = {
        name: there if name == standing.account else there._replace(member=None) for name, there in standing.held.items()
    }
    return Seen(int(at.timestamp() * 1000), identity, standing.account, standing.group, held, given, with_members)


class Snapshots:
    """Seals and opens snapshots under `identity_key`, of 16 to 64 bytes; they are good for `age_s_max` seconds, 0: there are none."""

    def __init__(self, identity_key: bytes, age_s_max: int) -> None:
        self.identity_key = identity_key
        self.age_s_max = age_s_max

    def sealed(self, what: Seen) -> str | None:
        """The snapshot; None: there are none, or it would be longer than one may be."""
        if not self.age_s_max:
            return None
        salt = secrets.token_bytes(SALT_BYTES)
        token = base64.urlsafe_b64encode(salt + self._cipher(salt).encrypt(NONCE, zlib.compress(_encode(what)), None)).decode().rstrip("=")
        return token if len(token) <= SNAPSHOT_MAX else None

    def opened(self, token: str, identity: Identity | None, now: datetime) -> Seen:
        """What a snapshot says of a sealed identity.

        Raises:
            Malformed: `invalid`, it is not of this `identity_key`, was changed, or is another identity's; `outdated`, it is too old.
        """
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            salt = raw[:SALT_BYTES].ljust(SALT_BYTES, b"\0")
            what = _decode(zlib.decompress(self._cipher(salt).decrypt(NONCE, raw[SALT_BYTES:], None)))
        except (InvalidTag, ValueError, zlib.error, msgspec.MsgspecError):
            raise Malformed("invalid", PATH, "is none that this installation gave; send one as it came") from None
        if what.identity != identity:
            raise Malformed("invalid", PATH, "is of another identity than `member`; send the one that came for this identity")
        age_s = (now - what.at).total_seconds()
        if age_s > self.age_s_max:
            told = f"is {age_s:.0f} seconds old, at most {self.age_s_max} are allowed (setting gateway_snapshot_s_max)"
            raise Malformed(OUTDATED, PATH, f"{told}; ask for another when Redis is back")
        return what

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(blake2b(key=self.identity_key, salt=salt, person=PURPOSE, digest_size=32).digest())
