"""Keys: how one is made, what is kept of it, and whether a secret is the right one.

    ts_<id>_<secret>    id: 16 hexadecimal digits; secret: 32 letters and digits of base 32, 160 bits from the system's generator

The secret is random and long, so one SHA-256 keeps it: a slow hash defends passwords that people choose, which can be guessed, and would
cost every request what it costs the guesser.
"""

import base64
import hmac
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

import msgspec

from tillstream.gateway.vault import Vault, VaultError
from tillstream.kernels.globs import compile_glob
from tillstream.schemas.keys import Created, Revoked, Scope, decode_key

PREFIX = "ts"
ID_BYTES = 8
SECRET_BYTES = 20

NOBODY = sha256(secrets.token_bytes(SECRET_BYTES)).hexdigest()
"""What a secret is compared with where there is no such key: the same work, and the same answer."""


class Minted(NamedTuple):
    """A new key: `token` is shown once and is nowhere afterwards."""

    token: str
    key: Created


class Token(NamedTuple):
    """A key as it is brought."""

    key_id: str
    secret: str


def mint(
    scope: Scope, stores: Sequence[str], name: str, expires_at: datetime | None, moment: datetime, vault: Vault | None
) -> Minted:
    """A new key, created at `moment`; with a `vault`, one that signs."""
    key_id, secret = secrets.token_hex(ID_BYTES), base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode().lower()
    kept = digest(secret) if vault is None else vault.close(key_id, secret)
    key = Created(
        key_id=key_id,
        name=name,
        scope=scope,
        stores=list(stores),
        signed=vault is not None,
        created_at=moment,
        expires_at=expires_at,
        kept=kept,
    )
    return Minted(f"{PREFIX}_{key_id}_{secret}", key)


def digest(secret: str) -> str:
    """What is kept of a secret. Headers that are no text come with their bytes as surrogates."""
    return sha256(secret.encode(errors="surrogateescape")).hexdigest()


def parse_token(text: str) -> Token | None:
    """The parts of `ts_<id>_<secret>`; None: it is nothing of the kind.

    >>> parse_token("ts_00000000000000aa_secret"), parse_token("ts_secret")
    (Token(key_id='00000000000000aa', secret='secret'), None)
    """
    parts = text.split("_")
    return Token(parts[1], parts[2]) if len(parts) == 3 and parts[0] == PREFIX else None


class Keys:
    """The keys as the topic has them; the last record of an id counts. `vault`: None where no signature is to be checked.

    Attributes:
        passed_over: of records that are no keys, what is wrong with them.
    """

    def __init__(self, records: Iterable[tuple[str, bytes | None]] = (), vault: Vault | None = None) -> None:
        self.vault = vault
        self.known: dict[str, Created | Revoked] = {}
        self.secrets: dict[str, str] = {}
        self.passed_over: list[str] = []
        for key_id, raw in records:
            self.put(key_id, raw)

    def put(self, key_id: str, raw: bytes | None) -> None:
        """Takes a record. What is none of ours, or stands under another id, takes its id's key away: better no key than a wrong one."""
        self.known.pop(key_id, None)
        self.secrets.pop(key_id, None)
        if raw is None:
            return
        try:
            data = decode_key(raw)
            if data.key_id != key_id:
                raise VaultError(f"the record is of {data.key_id}")
            if isinstance(data, Created) and data.signed and self.vault is not None:
                self.secrets[key_id] = self.vault.open(key_id, data.kept)
            self.known[key_id] = data
        except (msgspec.DecodeError, VaultError) as error:
            self.passed_over.append(f"{key_id}: {error}")

    def valid(self, key_id: str, now: datetime) -> Created | None:
        """The key, where it is neither unknown nor revoked nor past its end."""
        key = self.known.get(key_id)
        if not isinstance(key, Created) or (key.expires_at is not None and key.expires_at <= now):
            return None
        return key

    def bearer(self, text: str, now: datetime) -> Created | None:
        """The key that this token is; None for every reason, in the same time.

        A signed key's token is refused: its secret has no business on the wire.
        """
        token = parse_token(text) or Token("", "")
        key = self.valid(token.key_id, now)
        kept = NOBODY if key is None or key.signed else key.kept
        return key if hmac.compare_digest(digest(token.secret), kept) else None

    def signing(self, key_id: str, now: datetime) -> tuple[Created | None, str]:
        """A signed key and its secret; for one that is not, None and a secret that nobody has, so that checking takes the same time."""
        key = self.valid(key_id, now)
        secret = self.secrets.get(key_id)
        return (key, secret) if key is not None and secret is not None else (None, NOBODY)


def has_store(key: Created, store_id: str) -> bool:
    """Whether a till's key is of this store; a key of another scope is of none.

    `stores` are globs: `PL-*` is every store of a country.
    """
    return any(compile_glob(store).fullmatch(store_id) for store in key.stores)
