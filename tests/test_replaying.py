"""`tillstream replay --gateway`: a history comes through a gateway as it would by Kafka, whatever the gateway does meanwhile."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.gateway_harness import Place, gateway
from tests.test_gateway import sale
from tillstream.cli import main
from tillstream.histories import Faults, named

__all__ = ["gateway"]

FAULTS = ["--duplicates", "0.1", "--returns", "0.1", "--late", "0.05", "--seed", "7"]
NOBODY = "http://127.0.0.1:1"


def replay(address: str, *options: str) -> Result:
    return CliRunner().invoke(main, ["replay", *options, "--gateway", address, "--json"])


def sent(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert sum(found["outcomes"].values()) == found["events"] + found["enrolments"]
    return found


def test_history_through_a_gateway_counts_once_however_often_it_is_sent(gateway: Place) -> None:
    history = ["generated", "--receipts", "150", *FAULTS]
    events = len(list(named("generated", 150, Faults(0.1, 0.1, 0.05, 7)).receipts))
    assert gateway.post("/v1/receipts", sale("warm", "c-1")).status == 200  # The worker has its partitions.
    first = sent(replay(gateway.gateway.address, *history))
    assert (first["events"], first["first_refusal"]) == (events, None)
    assert first["outcomes"]["accepted"] > 130
    gateway.stage.settle()
    again = sent(replay(gateway.gateway.address, *history))
    assert again["outcomes"] == {"duplicate": events}


def test_gateway_that_goes_away_meanwhile_gets_the_rest_from_the_queue(gateway: Place, tmp_path: Path) -> None:
    found: list[Result] = []
    options = ["generated", "--receipts", "200", "--rate", "60", "--seed", "8", "--queue", str(tmp_path)]
    running = threading.Thread(target=lambda: found.append(replay(gateway.gateway.address, *options)))
    running.start()
    time.sleep(1.5)
    gateway.gateway.kill()
    time.sleep(1.0)
    gateway.gateway.start()
    running.join()
    first = sent(found[0])
    assert first["queued"] > 0
    gateway.stage.settle()
    again = sent(replay(gateway.gateway.address, "generated", "--receipts", "200", "--seed", "8"))
    assert again["outcomes"] == {"duplicate": 200}


def test_members_and_receipts_of_a_file_are_sent_and_what_tills_do_not_send_is_named(gateway: Place, tmp_path: Path) -> None:
    head = {"specversion": "1.0", "source": "crm", "time": "2026-03-01T00:00:00Z"}
    enrolled = {**head, "id": "e-1", "type": "member.enrolled", "data": {"member_id": "replayed"}}
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(enrolled) + "\n")
    assert sent(replay(gateway.gateway.address, str(path)))["outcomes"] == {"accepted": 1}
    path.write_text(json.dumps(enrolled) + "\n" + json.dumps({**head, "id": "t-1", "type": "clock.tick", "data": {"date": "2026-03-01"}}))
    refused = replay(gateway.gateway.address, str(path))
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1] == (
        "Error: event 't-1': a 'clock.tick' does not go through a gateway with replay; leave out --gateway"
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["generated", "--gateway", NOBODY], NOBODY),
        (["generated", "--gateway", NOBODY, "--key", "secret"], "key: not ts_<id>_<secret>"),
        (["generated", "--key", "secret"], "--key, --signed and --queue go with --gateway"),
    ],
)
def test_gateway_that_is_not_there_or_key_that_is_none_is_told(options: list[str], told: str) -> None:
    result = CliRunner().invoke(main, ["replay", *options])
    assert result.exit_code == 2
    assert told in result.stderr
    assert "Traceback" not in result.output
