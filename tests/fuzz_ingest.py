"""The fuzzer of `ingest`: the first byte chooses a mapping, the rest is a file; run by test_ingest_any_bytes.py, or by hand for a night:

    python tests/fuzz_ingest.py -max_total_time=28800 CORPUS
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))

with atheris.instrument_imports(include=["tillstream.sources.ingest", "jmespath", "csv"]):
    from tests.test_ingest_any_bytes import MAPPINGS, checked

BY = [MAPPINGS[name] for name in sorted(MAPPINGS)]


def once(data: bytes) -> None:
    """One file."""
    if data:
        checked(data[1:], BY[data[0] % len(BY)])


if __name__ == "__main__":
    atheris.Setup(sys.argv, once)
    atheris.Fuzz()
