"""Random histories over the whole vocabulary: the engine's outcome is the oracle's, to the point.

`TILLSTREAM_HISTORIES` says how many (default 200), `TILLSTREAM_HISTORY_SEED` the first seed; a failure names its own, and
`TILLSTREAM_HISTORIES=1 TILLSTREAM_HISTORY_SEED=<seed>` replays it.
"""

import json
import os
import tomllib
from decimal import Decimal
from random import Random

import pytest

from tests.shrink import disagrees, shrunk
from tests.strategies_full import random_programs, texts_of
from tests.strategies_history import random_full_history

HISTORIES = int(os.environ.get("TILLSTREAM_HISTORIES", "200"))
FIRST_SEED = int(os.environ.get("TILLSTREAM_HISTORY_SEED", "1"))
EVENTS = 200


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_engine_on_random_histories_comes_to_the_oracle_s_outcome() -> None:
    for seed in range(FIRST_SEED, FIRST_SEED + HISTORIES):
        random = Random(seed)
        programs = random_programs(random)
        events = random_full_history(random, [tomllib.loads(text, parse_float=Decimal) for text in texts_of(programs)], EVENTS)
        if disagrees(programs, events):
            programs, events = shrunk(programs, events)
            small = "\n".join([*texts_of(programs), *map(json.dumps, events)])
            pytest.fail(f"replay with TILLSTREAM_HISTORIES=1 TILLSTREAM_HISTORY_SEED={seed}; made small:\n{small}")
