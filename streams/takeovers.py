"""What tells a provisional account that a member has enrolled its identity: that it is merged into this one (docs/adr/0022).

`enrol` tells accounts that are known when the enrolment is noted. A receipt that was on its way then, and makes its account known only
afterwards, has `accrue` tell it. `enrol` notes first and looks at the account then, `accrue` writes the account first and looks at what is
noted then; so one of them sees the other. Both may: the key of the event is the same.
"""

from collections.abc import Iterable
from datetime import timedelta

import msgspec

from tillstream.kernels.facts import EPOCH, INSTANT_DIGITS, Fact
from tillstream.kernels.identities import PROVISIONAL, provisional_digest
from tillstream.kernels.routed import AnyRouted
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import MergedEvent
from tillstream.schemas.members import Merged
from tillstream.sinks.registry import RegistryStore
from tillstream.sinks.writer import Record
from tillstream.streams.identify import with_account
from tillstream.streams.topics import TRANSACTIONS

SOURCE = "tillstream/enrol"
"""The source of these events."""


def strangers(batch: Iterable[AnyRouted], snapshot: Snapshot) -> set[str]:
    """Provisional accounts of which a batch is the first that is known."""
    names = {name for routed in batch if (name := routed.account_id) is not None and name.startswith(PROVISIONAL)}
    return names - snapshot.accounts.keys() - snapshot.members.keys()


async def first_enrolments(registry: RegistryStore, accounts: Iterable[str]) -> dict[str, Fact]:
    """Of those provisional accounts whose identity somebody enrolled, the first enrolment."""
    digests = [digest for account in accounts if (digest := provisional_digest(account)) is not None]
    return {PROVISIONAL + digest: there[0] for digest, there in (await registry.facts("identities", digests)).items()}


def takeover(account: str, first: Fact, timestamp_ms: int) -> Record:
    """The event on its way to the account: from the first enrolment of its identity on it is the member's, as if it were merged."""
    moment = EPOCH + timedelta(microseconds=int(first.order[:INSTANT_DIGITS]))
    data = Merged(from_=account, into=first.value)
    event = MergedEvent(specversion="1.0", id=f"{first.key}/{account}", source=SOURCE, time=moment, recalled="", data=data)
    return Record(TRANSACTIONS, account.encode(), with_account(msgspec.json.encode(event), account), timestamp_ms=timestamp_ms)
