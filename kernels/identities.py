"""From an identity to an account: the keyed hash under which personal values are stored, and the account that it leads to."""

from collections.abc import Mapping
from hashlib import blake2b

from tillstream.schemas.receipts import Identity

PROVISIONAL = "p-"
"""Accounts of identities that nobody enrolled begin so."""


def identity_hash(identity: Identity, key: bytes) -> str:
    """32 hexadecimal digits of BLAKE2b of (scheme, value) under `key` (at most 64 bytes): all that is stored of a personal value."""
    return blake2b(f"{identity.scheme}\0{identity.value}".encode(), key=key, digest_size=16).hexdigest()


def account_of(identity: Identity | None, key: bytes, enrolled: Mapping[str, str]) -> str | None:
    """The account of an identity; `enrolled` leads from identity hashes to member ids. No identity: anonymous, no account.

    >>> account_of(Identity("member", "m1"), b"secret", {})
    'm1'
    >>> account_of(Identity("card", "2901234567890"), b"secret", {})[:2]
    'p-'
    """
    if identity is None:
        return None
    if identity.scheme == "member":
        return identity.value
    digest = identity_hash(identity, key)
    return enrolled.get(digest) or PROVISIONAL + digest
