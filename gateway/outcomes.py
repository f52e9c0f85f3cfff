"""What became of an event, for its caller: from a worker's reply, or, later, from what Redis or history holds by its natural key."""

from msgspec import Raw

from tillstream.gateway.answers import Entry, Outcome
from tillstream.gateway.history import posting
from tillstream.gateway.problems import problem_of
from tillstream.gateway.runtime import Gateway
from tillstream.schemas.ledger import Posting, decode_record, entries
from tillstream.schemas.replies import NOTHING, Reply
from tillstream.sinks.state import keys
from tillstream.streams.replies import POSTED


async def outcome_of(gateway: Gateway, reply: Reply | None, status: str, *, with_balances: bool = True) -> Outcome:
    """The outcome that a reply tells; None: nobody has replied yet. `status` is the address to ask at."""
    if reply is None:
        return Outcome("pending", status)
    if reply.problem is not None:
        return Outcome("refused", status, problem=problem_of(reply.problem))
    posting = posting_in(reply.record)
    if posting is None:
        return Outcome(reply.status, status)
    if posting.account_id is None or not with_balances:
        return Outcome(reply.status, status, entries_of(posting))
    standing = await gateway.standings.of_account(posting.account_id)
    standings = gateway.standings
    return Outcome(reply.status, status, entries_of(posting), standings.tier(standing), standings.balances(standing))


async def kept(gateway: Gateway, key: str, member: str | None = None) -> Reply | None:
    """What is known of an event by its natural key: its posting, wherever it is; of a member's, the fact; the last reply that is kept.

    None: it was never seen, or is on its way.

    Raises:
        Refusal: 503, only ClickHouse can tell, and does not answer.
    """
    pipeline = gateway.redis.pipeline(transaction=False)
    for partition in range(gateway.settings.partitions):
        pipeline.hget(keys(partition)[2], key)
    found = next((raw for raw in await pipeline.execute() if raw is not None), None)
    if found is not None and found.startswith(POSTED):
        return Reply("", "accepted", key, Raw(found))
    if member is not None:
        facts = await gateway.registry.facts("members", [member])
        if any(fact.key == key for fact in facts.get(member, [])):
            return Reply("", "accepted", key)
    if (reply := await gateway.replies.kept(key)) is not None:
        return reply
    record = await posting(gateway, key)
    return None if record is None else Reply("", "accepted", key, Raw(record))


def posting_in(record: Raw) -> Posting | None:
    """The posting that a ledger record holds; None: a reply brought none."""
    found = decode_record(bytes(record)) if bytes(record) != bytes(NOTHING) else None
    return found if isinstance(found, Posting) else None


def entries_of(posting: Posting) -> list[Entry]:
    """What a posting moves, entry by entry."""
    return [
        Entry(entry.line_no, entry.kind, entry.unit, entry.points, entry.rule_id, entry.expires_on)
        for entry in entries(posting)
    ]


