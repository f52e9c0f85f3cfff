"""The script that shops' pages load: small, made of its source, and served so that pages elsewhere can have it."""

from hashlib import sha256
from pathlib import Path

from tests.gateway_harness import ask
from tests.test_gateway_clicks import SHOP, Shop, shop

__all__ = ["shop"]

ROOM = Path(__file__).parent.parent / "gateway"

BYTES_MAX = 1_024

MADE = {
    "snippet.js": "edeb6579738e24af",
    "snippet.min.js": "1e85dacf0b21bd15",
}
"""The source and what was made of it. After a change run the command in docs/gateway.md and tests/test_browser.py, and note both."""


def test_snippet_has_a_kilobyte_at_most_and_is_made_of_its_source() -> None:
    assert {name: sha256((ROOM / name).read_bytes()).hexdigest()[:16] for name in MADE} == MADE
    assert (ROOM / "snippet.min.js").stat().st_size <= BYTES_MAX


def test_snippet_runs_under_a_strict_policy() -> None:
    text = (ROOM / "snippet.min.js").read_text()
    assert not [word for word in ("eval", "Function(", "innerHTML", "createElement", "document.write", "cookie", "http") if word in text]


def test_snippet_is_served_to_any_page(shop: Shop) -> None:
    said = ask(shop.address, "GET", "/v1/snippet.js", None, {"Origin": "https://other.example.org"})
    assert (said.status, said.body) == (200, (ROOM / "snippet.min.js").read_bytes())
    assert said.headers["content-type"] == "text/javascript; charset=utf-8"
    assert (said.headers["cache-control"], said.headers["x-content-type-options"]) == ("public, max-age=3600", "nosniff")
    assert said.headers["cross-origin-resource-policy"] == "cross-origin"
    assert SHOP not in said.headers.values()
