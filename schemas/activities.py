"""What members do besides buying: `activity.review`, `activity.referral`, `activity.planogram`, ... (DESIGN.md §4)."""

from typing import Annotated

from msgspec import Meta, Struct

from tillstream.schemas.fields import INT64_MAX
from tillstream.schemas.receipts import Identity


class Activity(Struct, frozen=True, kw_only=True, gc=False):
    """The data of `activity.<name>`; other fields are free, and a rule may ask for their values. `quantity` counts whole things."""

    member: Identity
    quantity: Annotated[int, Meta(ge=0, le=INT64_MAX)] = 1
