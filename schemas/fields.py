"""The field types that several schemas share: identifiers, bounded integers, times with an offset."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

INT64_MAX = 2**63 - 1

Identifier = Annotated[str, Meta(min_length=1, max_length=256)]
"""A natural key or a name: bounded, so that keys, hashes and indexes are."""

Label = Annotated[str, Meta(max_length=256)]

Natural = Annotated[int, Meta(ge=0, le=INT64_MAX)]
"""A 64-bit integer that is not negative: minor units of money, thousandths of a quantity, points."""

Integer = Annotated[int, Meta(ge=-INT64_MAX, le=INT64_MAX)]

Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$", max_length=3, description="An ISO 4217 code.")]
"""The length as well: Python's `$` also matches before a line feed at the end."""

Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339, with a UTC offset.")]

Scheme = Literal["card", "phone", "email", "app", "nfc", "barcode", "member"]
