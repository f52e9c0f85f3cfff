"""Steps of a transaction: taken again while they may be, given up in time, and noticed where they never return."""

import asyncio
import time

import pytest
from confluent_kafka import KafkaError, KafkaException

from tillstream.sinks import steps
from tillstream.sinks.steps import Steps

MOVED = KafkaException(KafkaError(KafkaError.NOT_COORDINATOR, "moved", False, True))


def test_step_is_taken_again_while_librdkafka_says_that_it_may() -> None:
    told = [MOVED, MOVED]
    asked: list[tuple[int, float]] = []

    def step(number: int, seconds: float) -> None:
        asked.append((number, seconds))
        if told:
            raise told.pop()

    Steps().take(step, 7)
    assert [number for number, _ in asked] == [7, 7, 7]
    assert steps.STEP_S >= asked[0][1] > asked[1][1] > asked[2][1] > 0


def test_step_that_may_not_be_taken_again_fails_at_once() -> None:
    asked: list[float] = []

    def step(seconds: float) -> None:
        asked.append(seconds)
        raise KafkaException(KafkaError(KafkaError._FENCED, "fenced", True, False))

    with pytest.raises(KafkaException, match="fenced"):
        Steps().take(step)
    assert len(asked) == 1


def test_step_that_fails_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STEP_S", 0.3)

    def step(seconds: float) -> None:
        raise MOVED

    with pytest.raises(KafkaException, match="moved"):
        Steps().take(step)


def test_step_that_never_returns_is_noticed_and_those_before_it_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STEP_S", 0.2)
    monkeypatch.setattr(steps, "HUNG_S", 0.2)
    monkeypatch.setattr(steps, "LOOK_S", 0.05)
    noticed: list[float] = []
    taking = Steps(lambda: noticed.append(time.monotonic()))

    async def run() -> float:
        watch = asyncio.create_task(taking.watch())
        for _ in range(3):
            await asyncio.to_thread(taking.take, lambda _: time.sleep(0.15))
        assert not noticed
        began = time.monotonic()
        hanging = asyncio.create_task(asyncio.to_thread(taking.take, lambda _: time.sleep(2)))
        await watch
        await hanging
        return began

    began = asyncio.run(run())
    assert 0.4 <= noticed[0] - began < 1.5
