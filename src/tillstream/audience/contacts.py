"""Contacts for outside media: e-mail addresses and phone numbers of the audience, hashed as ad platforms match them.

In: a CSV file of the operator's CRM (`member_id,email,phone`), since tillstream keeps no contacts but their keyed hashes. Out: rows of
hashes, without member ids. Nothing of the file is stored. Hashes are plain SHA-256, as the platforms ask: whoever knows an address can
recognise it, so the file is personal data like the addresses themselves.

    email_sha256          trimmed, in lower case
    phone_sha256          E.164 with its plus: Google Customer Match
    phone_digits_sha256   E.164 without it: Meta Custom Audiences
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat

from tillstream.audience.seeds import lines, read_csv
from tillstream.errors import UsageError

COLUMNS = ("email_sha256", "phone_sha256", "phone_digits_sha256")
NEEDED = ("member_id", "email", "phone")


class Contact(NamedTuple):
    """A normalised e-mail address and phone number; '' for none."""

    email: str
    phone: str


def read_contacts(path: Path, members: Collection[str], phone_region: str, problems: Counter[str]) -> dict[str, Contact]:
    """The contacts of some members; what can't be used is counted in `problems` by its reason.

    Raises:
        UsageError: the file can't be read, has not the columns, or rows of another length; names the rows.
    """
    rows = read_csv(path)
    header = [name.strip() for name in rows[0]] if rows else []
    if missing := [name for name in NEEDED if name not in header]:
        raise UsageError(f"{path}: no column {' or '.join(missing)} in the first line; contacts have member_id, email and phone")
    if bad := [number for number, row in enumerate(rows[1:], 2) if len(row) != len(header)]:
        raise UsageError(f"{path}: {lines(bad)} have not the {len(header)} columns of the first line; correct them")
    member, email, phone = (header.index(name) for name in NEEDED)
    found: dict[str, Contact] = {}
    for row in rows[1:]:
        if (name := row[member].strip()) in members:
            contact = Contact(email_of(row[email]), phone_of(row[phone], phone_region))
            problems["email_unusable"] += bool(row[email].strip()) and not contact.email
            problems["phone_unusable"] += bool(row[phone].strip()) and not contact.phone
            found[name] = contact
    return found


def email_of(text: str) -> str:
    """The address in the spelling that is hashed, '' where it is none.

    >>> email_of(" Jan@Example.org "), email_of("jan at example.org")
    ('jan@example.org', '')
    """
    address = text.strip().lower()
    name, at, host = address.rpartition("@")
    return address if name and at and "." in host and not set(address) & set(" \t,;<>") else ""


def phone_of(text: str, region: str) -> str:
    """The number in E.164, '' where it is none; `region` is that of numbers without a country code.

    >>> phone_of("601 234 567", "PL"), phone_of("601 234 567", ""), phone_of("12", "PL")
    ('+48601234567', '', '')
    """
    try:
        number = phonenumbers.parse(text.strip(), region or None)
    except NumberParseException:
        return ""
    return phonenumbers.format_number(number, PhoneNumberFormat.E164) if phonenumbers.is_possible_number(number) else ""


def hashed(contacts: Iterable[Contact]) -> Iterator[tuple[str, str, str]]:
    """Rows in the order of `COLUMNS`, each once, sorted, so that they tell nothing of ranks; a missing value stays empty."""
    rows = {(digest(each.email), digest(each.phone), digest(each.phone.removeprefix("+"))) for each in contacts if any(each)}
    return iter(sorted(rows))


def digest(text: str) -> str:
    """SHA-256 in lower-case hexadecimal digits; '' of ''.

    >>> digest("jan@example.org")[:8], digest("")
    ('a3ff1131', '')
    """
    return sha256(text.encode()).hexdigest() if text else ""
