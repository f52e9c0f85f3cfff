"""A gateway of whole installations: the README's receipt, and a program that looks at members, quoted and sold."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.gateway_harness import Said, ask, installed
from tests.test_docs import blocks
from tests.test_gateway import LINES, balances
from tests.test_member_pipeline import PROGRAM
from tillstream.cli import main
from tillstream.installation import environment_of

WAIT = {"Prefer": "wait=10000"}


@pytest.mark.slow
def test_readme_receipt_is_answered_as_the_readme_says(tmp_path: Path) -> None:
    receipt, _, answer = (json.loads(block.text) for block in blocks("README.md", "json"))
    with installed(tmp_path, blocks("README.md", "toml")[0].text) as (_, address):
        said = ask(address, "POST", "/v1/receipts", receipt, WAIT)
    (shown,) = answer["balances"]
    assert said.status == 200
    assert said.body == answer | {"balances": [shown | {"spendable": said.body["balances"][0]["spendable"]}]}  # It expires one day.


def sale(receipt_id: str, moment: str, amount: int = 0) -> dict[str, Any]:
    head = {"receipt_id": receipt_id, "store_id": "PL-1", "register_id": "1", "business_date": moment[:10], "issued_at": f"{moment}Z"}
    lines = [*LINES, {"line_no": 9, "sku": "9", "category": "home/x", "quantity_milli": 1000, "amount": amount}]
    return {"type": "receipt.sale", "data": {**head, "currency": "PLN", "member": {"scheme": "card", "value": "c-1"}, "lines": lines}}


@pytest.mark.slow
def test_quote_under_tiers_caps_and_budgets_is_what_the_sale_gives_then_late_ones_too(tmp_path: Path) -> None:
    with installed(tmp_path, PROGRAM) as (config, address):

        def post(path: str) -> Callable[[Any], Said]:
            return lambda body: ask(address, "POST", path, body, WAIT)

        quote, sell = post("/v1/quote"), post("/v1/receipts")
        moments = ["2026-11-02T10:00:00", "2026-11-03T10:00:00", "2026-11-05T10:00:00", "2026-11-04T10:00:00", "2026-11-01T10:00:00"]
        tiers = set()
        for place, moment in enumerate(moments):
            body = sale(f"r-{place}", moment, amount=9_000 * place)
            quoted = quote({name: value for name, value in body["data"].items() if name != "receipt_id"})
            assert quoted.status == 200, quoted.body
            sold = sell(body)
            assert (sold.status, sold.body["outcome"]) == (200, "accepted")
            assert quoted.body["entries"] == sold.body["entries"] != []
            assert sell(body).body == sold.body | {"outcome": "duplicate"}
            tiers.add(sold.body["tier"])
            assert ask(address, "POST", "/v1/identify", {"identity": body["data"]["member"]}).body["balances"] == sold.body["balances"]
        assert tiers == {"green", "gold"}
        line = {"line_no": 1, "original_line_no": 1, "quantity_milli": 1250, "amount": 1599}
        back = {name: value for name, value in sale("b", "2026-11-06T10:00:00")["data"].items() if name != "member"}
        returned = sell({"type": "receipt.return", "data": back | {"original_receipt_id": "r-1", "lines": [line]}})
        assert (returned.status, balances(returned)["points"] < balances(sold)["points"]) == (200, True)
        taken = {**environment_of(config), "TILLSTREAM_GATEWAY_PORT": address.rpartition(":")[2]}
        ran = CliRunner().invoke(main, ["gateway"], env=taken)
        assert (ran.exit_code, ran.output.count("\n")) == (2, 1), ran.output
        assert "change gateway_host or gateway_port" in ran.output
        assert CliRunner().invoke(main, ["verify"], env=environment_of(config)).exit_code == 0
