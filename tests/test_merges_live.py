"""Merges live: rules look at both members, in whatever partitions they lie and whenever the merge becomes known."""

from collections.abc import Iterator

import orjson
import pytest

from tests.member_events import card, merged, said
from tests.pipeline_harness import PARTITIONS, Event, Stage, stage, tick
from tests.test_member_pipeline import everything, rebuilt_equal
from tests.test_members import SEAL, on, said_sale
from tests.test_pipeline import returned, sale
from tillstream.kernels.sealing import seal_event
from tillstream.schemas.events import decode
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.receipts import Identity
from tillstream.simulate import Simulation
from tillstream.streams.groups import partition_of
from tillstream.streams.identify import with_account
from tillstream.streams.topics import TRANSACTIONS

PROGRAM = """
[program]
id = "merges"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
[tiers]
window = { months = 1, count = "spend" }
levels = [{ id = "green", from = 0 }, { id = "gold", from = 30_000 }]
[[rules]]
id = "first"
member = { first_purchase = true }
award = { fixed = 50 }
[[rules]]
id = "gold"
member = { tier = ["gold"] }
award = { fixed = 7 }
[[rules]]
id = "base"
award = { points = 1, per_amount = 100 }
cap = { per_member = { points = 500, per = "month" } }
[[rules]]
id = "birthday"
on = "birthday"
award = { fixed = 1_000 }
"""

PAIRS = [("ga", "gb"), ("gc", "gd"), ("ge", "gf"), ("gg", "gh")]
"""Members who are merged, the second into the first; some lie in one partition, some in two."""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("merges")) as servers:
        (servers.folder / "program.toml").write_text(PROGRAM)
        yield servers


def nothing_earned(event: Event) -> Event:
    """A sale of deposits only: a purchase without points."""
    for line in event["data"]["lines"]:
        line["kind"] = "deposit"
    return event


def in_flight(event: Event) -> bytes:
    """What `identify` had made of a receipt when nobody had enrolled its card."""
    raw = orjson.dumps(event)
    _, sealed = seal_event(decode(raw), raw, SEAL)
    return with_account(sealed, SEAL.account_of(Identity("card", event["data"]["member"]["value"])))


def test_merges_live_come_to_what_simulate_says_and_are_rebuilt_equal(here: Stage) -> None:
    assert {partition_of(one, PARTITIONS) == partition_of(other, PARTITIONS) for one, other in PAIRS} == {True, False}
    enrolled = [said(f"en-{name}", "enrolled", 1, member_id=name, birth_date="1990-03-20") for pair in PAIRS for name in pair]
    first = [on(2, said_sale(f"{alias}-1", alias)) for _, alias in PAIRS] + [on(2, sale("tk-1", "card-tk"))]
    second = [on(4, said_sale(f"{root}-1", root)) for root, _ in PAIRS]
    merges = [merged(3, alias, root) for root, alias in PAIRS]
    merges.append(said("en-tk", "enrolled", 3, member_id="tk", identities=[card("card-tk")]))
    merges += [said(f"en-{name}", "enrolled", 3, member_id=name, identities=[card(f"card-{name}")]) for name in ("td", "tf")]
    first.append(nothing_earned(on(2, sale("td-1", "card-td"))))
    overtaken = on(2, sale("tf-1", "card-tf"))
    roots = [*(root for root, _ in PAIRS), "tk", "td", "tf"]
    third = [returned(first[0], 1, None, 10_000), *(on(6, said_sale(f"{root}-2", root)) for root in roots)]
    late = [on(1, said_sale("gd-0", "gd"))]
    apart = merged(8, "gf", "ge", "unmerged")
    lots = [enrolled, first, second, merges, third, late, [apart], [on(9, said_sale("gf-2", "gf"))], [tick("2026-03-25")]]
    with here.worker() as worker:
        for lot in lots:
            here.send(lot)
            here.settle(worker)
            if lot is merges:
                here.send([in_flight(overtaken)], TRANSACTIONS, SEAL.account_of(Identity("card", "card-tf")))
                here.settle(worker)
    simulation = Simulation(parse_program(PROGRAM))
    simulation.run([orjson.dumps(event) for lot in [*lots, [overtaken]] for event in lot])
    wanted = simulation.result()
    assert here.balances() == wanted["accounts"]
    assert wanted["accounts"]["ga"]["points"]["balance"] > 1_000
    assert everything(here)
    rebuilt_equal(here)
