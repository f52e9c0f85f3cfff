"""Requests made up from the OpenAPI document, lawful and not: each is answered as the document says, none with an error of ours."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway_harness import installed

EXAMPLES = 25
"""Per endpoint and phase: some six thousand requests, in a minute."""

UNSAID = "positive_data_acceptance"
"""What a schema cannot say, such as that line numbers are distinct: what it allows may be refused all the same."""


@pytest.mark.slow
def test_gateway_does_what_its_document_says(tmp_path: Path) -> None:
    with installed(tmp_path) as (_, address):
        run = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{address}/openapi.json", "--checks", "all"]
        endless = ["--exclude-path-regex", "^/v1/triggers/"]  # Streams: tests/test_gateway_streams.py.
        how = [*endless, "--exclude-checks", UNSAID, "--max-examples", str(EXAMPLES), "--seed", "1", "--continue-on-failure", "--no-color"]
        ran = subprocess.run([*run, *how, "-H", "Prefer: wait=20"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-6_000:] + ran.stderr[-2_000:]
