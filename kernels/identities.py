"""From an identity to an account: one spelling per person, the keyed hash under which it is stored, the account of one nobody enrolled."""

from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat

from tillstream.schemas.receipts import Identity

PROVISIONAL = "p-"
"""Accounts of identities that nobody enrolled begin so."""

SEALED = "blake2b:"
"""What stands in an event of ours in place of a personal value: this, and the hash."""

DIGEST_DIGITS = 32
HEXADECIMAL = frozenset("0123456789abcdef")

PHONES_MAX = 10_000
"""Spellings remembered: parsing one takes longer than everything else that is done with an identity."""


class Seal(NamedTuple):
    """What turns personal values into hashes: a secret `key` of at most 64 bytes, and the region that `spelled` takes."""

    key: bytes
    phone_region: str = ""

    def hash_of(self, identity: Identity) -> str:
        """32 hexadecimal digits of BLAKE2b of (scheme, value): all that is stored of it. What is sealed is its hash already."""
        if (digest := digest_behind(SEALED, identity.value)) is not None:
            return digest
        value = spelled(identity, self.phone_region)
        return blake2b(f"{identity.scheme}\0{value}".encode(), key=self.key, digest_size=DIGEST_DIGITS // 2).hexdigest()

    def sealed(self, identity: Identity) -> Identity:
        """The identity as our own topics hold it: by its hash; a member id is no personal value and stays.

        >>> Seal(b"secret").sealed(Identity("card", "2901")).value[:8], Seal(b"secret").sealed(Identity("member", "m1")).value
        ('blake2b:', 'm1')
        """
        return identity if identity.scheme == "member" else Identity(identity.scheme, SEALED + self.hash_of(identity))

    def account_of(self, identity: Identity) -> str:
        """The account of an identity that nobody enrolled.

        >>> Seal(b"secret").account_of(Identity("member", "m1")), Seal(b"secret").account_of(Identity("card", "2901"))[:2]
        ('m1', 'p-')
        """
        return identity.value if identity.scheme == "member" else PROVISIONAL + self.hash_of(identity)


def hash_in(identity: Identity) -> str:
    """The hash that a sealed identity consists of."""
    return identity.value.removeprefix(SEALED)


def provisional_digest(account: str) -> str | None:
    """The identity hash whose provisional account this is; None: it is no such account.

    >>> provisional_digest("p-00000000000000000000000000000001"), provisional_digest("p-1")
    ('00000000000000000000000000000001', None)
    """
    return digest_behind(PROVISIONAL, account)


def digest_behind(prefix: str, text: str) -> str | None:
    digest = text[len(prefix) :]
    return digest if text.startswith(prefix) and len(digest) == DIGEST_DIGITS and HEXADECIMAL.issuperset(digest) else None


def spelled(identity: Identity, phone_region: str) -> str:
    """The value in the one spelling that is hashed: phones in E.164, e-mail addresses trimmed and in lower case, the rest as it is.

    `phone_region` (ISO 3166, as "PL") is that of numbers without a country code; '' where they are to have one. What is no number there
    is taken as it stands, without its blanks: a till never waits for a better one.

    >>> spelled(Identity("phone", "601 234 567"), "PL"), spelled(Identity("phone", "0048 601-234-567"), "PL")
    ('+48601234567', '+48601234567')
    >>> spelled(Identity("email", " Jan@Example.org "), "")
    'jan@example.org'
    """
    if identity.scheme == "phone":
        return phone(identity.value, phone_region)
    return identity.value.strip().lower() if identity.scheme == "email" else identity.value


@lru_cache(maxsize=PHONES_MAX)
def phone(number: str, region: str) -> str:
    try:
        return phonenumbers.format_number(phonenumbers.parse(number, region or None), PhoneNumberFormat.E164)
    except NumberParseException:
        return "".join(number.split())
