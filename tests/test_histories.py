"""Random histories over the whole vocabulary: the engine's outcome is the oracle's, to the point.

`TILLSTREAM_HISTORIES` says how many (default 200), `TILLSTREAM_HISTORY_SEED` the first seed; a failure names its own, and
`TILLSTREAM_HISTORIES=1 TILLSTREAM_HISTORY_SEED=<seed>` replays it.
"""

import os
import tomllib
from decimal import Decimal
from random import Random

import pytest

from tests.engine import engine_outcome
from tests.oracle import outcome
from tests.strategies_full import random_programs, texts_of
from tests.strategies_history import random_full_history
from tests.told import told

HISTORIES = int(os.environ.get("TILLSTREAM_HISTORIES", "200"))
FIRST_SEED = int(os.environ.get("TILLSTREAM_HISTORY_SEED", "1"))
EVENTS = 200


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_engine_on_random_histories_comes_to_the_oracle_s_outcome() -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + HISTORIES):
        random = Random(seed)
        programs = texts_of(random_programs(random))
        parsed = [tomllib.loads(text, parse_float=Decimal) for text in programs]
        events = random_full_history(random, parsed, EVENTS)
        wanted, found = told(outcome(parsed, events)), told(engine_outcome(programs, events))
        for part, there in wanted.items():
            assert found[part] == there, f"{part}: replay with TILLSTREAM_HISTORIES=1 TILLSTREAM_HISTORY_SEED={seed}"
