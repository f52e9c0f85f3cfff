"""docs/explain.md: its example runs and says what the page says."""

import os
import subprocess
import sys
from pathlib import Path

from tests.test_docs import blocks
from tillstream.config import ENVIRONMENT_PREFIX

PAGE = "docs/explain.md"


def test_explain_page_example_says_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "club.toml").write_text(blocks(PAGE, "toml")[0].text)
    (tmp_path / "events.jsonl").write_text(blocks(PAGE, "json")[0].text)
    settings = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = settings | {"PATH": path, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    command = ["bash", "-euo", "pipefail", "-c", blocks(PAGE, "sh")[1].text]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert [line.rstrip() for line in ran.stdout.splitlines()] == blocks(PAGE, "text")[0].text.splitlines()
