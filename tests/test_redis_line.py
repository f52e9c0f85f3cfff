"""One connection for all requests of a process: each gets its own answers, whatever becomes of the others and of the connection."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as NotInTime

from tillstream.embedded.redis import Redis
from tillstream.sinks.redis import connect
from tillstream.sinks.redis_line import LARGE_BYTES, Multiplexed

Test = Callable[[Multiplexed], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    redis = Redis()
    redis.start()
    yield redis
    redis.stop()


def run(server: Redis, test: Test, answer_s: float | None = None) -> None:
    async def connected() -> None:
        async with connect(server.address, answer_s) as client:
            await client.flushall()
            await test(client)

    asyncio.run(connected())


def test_answers_are_what_redis_py_makes_of_them(server: Redis) -> None:
    async def test(client: Multiplexed) -> None:
        assert await client.set("a", "1") is True
        assert await client.get("a") == b"1"
        await client.hset("h", mapping={"x": "1", "y": b"\xff"})
        pipeline = client.pipeline(transaction=False)
        pipeline.hgetall("h").hmget("h", ["y", "none"]).sadd("s", "m").smembers("s").hlen("h")
        assert await pipeline.execute() == [{b"x": b"1", b"y": b"\xff"}, [b"\xff", None], 1, {b"m"}, 2]
        assert [key async for key in client.scan_iter(match="h*")] == [b"h"]
        assert await client.pipeline(transaction=False).execute() == []
        transaction = client.pipeline(transaction=True)
        transaction.incr("n").incr("n")
        assert await transaction.execute() == [1, 2]

    run(server, test)


def test_error_is_told_to_who_caused_it_and_the_other_commands_are_done(server: Redis) -> None:
    async def test(client: Multiplexed) -> None:
        await client.set("a", "text")
        pipeline = client.pipeline(transaction=False)
        pipeline.hget("a", "x").set("b", "2")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await pipeline.execute()
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await client.hget("a", "x")
        pipeline = client.pipeline(transaction=False)
        pipeline.hget("a", "x").get("b")
        refused, found = await pipeline.execute(raise_on_error=False)
        assert isinstance(refused, ResponseError)
        assert found == b"2"

    run(server, test)


def test_commands_asked_together_are_all_done_and_the_first_error_is_told(server: Redis) -> None:
    async def test(client: Multiplexed) -> None:
        assert await client.ask_all([("SET", "a", "text"), ("GET", "a"), ("CLIENT GETNAME",)]) == [True, b"text", None]
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await client.ask_all([("HGET", "a", "x"), ("NOTHING",), ("SET", "b", "2")])
        assert await client.get("b") == b"2"

    run(server, test)


def test_many_at_once_each_get_their_own_answers_large_ones_too(server: Redis) -> None:
    async def one(client: Multiplexed, number: int) -> None:
        size = LARGE_BYTES + number if number % 7 == 0 else number
        value = bytes([number % 256]) * size
        pipeline = client.pipeline(transaction=False)
        pipeline.set(f"k{number}", value).get(f"k{number}")
        assert (await pipeline.execute())[1] == value
        assert await client.get(f"k{number}") == value

    async def test(client: Multiplexed) -> None:
        await asyncio.gather(*(one(client, number) for number in range(300)))
        assert (await client.info("clients"))["connected_clients"] == 1

    run(server, test)


def test_who_stops_waiting_leaves_the_others_their_answers(server: Redis) -> None:
    async def test(client: Multiplexed) -> None:
        await asyncio.gather(*(client.set(f"k{number}", number) for number in range(100)))
        asking = [asyncio.create_task(client.get(f"k{number}")) for number in range(100)]
        await asyncio.sleep(0)
        for task in asking[::3]:
            task.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        for number, answer in enumerate(answers):
            assert isinstance(answer, asyncio.CancelledError) if number % 3 == 0 else answer == str(number).encode()

    run(server, test)


def test_connection_that_broke_is_made_again(server: Redis) -> None:
    async def test(client: Multiplexed) -> None:
        await client.set("a", "1")
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
        assert client.line is not None
        await client.line.ended.wait()
        assert await client.get("a") == b"1"

    run(server, test)


def test_request_whose_connection_broke_is_asked_again_where_that_is_wanted() -> None:
    with Redis() as address:
        async def test() -> None:
            async with connect(address, 2.0) as client:
                await client.set("a", "1")
                assert client.line is not None
                asking = asyncio.create_task(client.get("a"))
                await asyncio.sleep(0)
                client.line.transport.abort()
                assert await asking == b"1"

        asyncio.run(test())


def test_server_that_hangs_is_told_in_time_and_answers_again() -> None:
    server = Redis()
    server.start()

    async def test() -> None:
        async with connect(server.address, 0.2) as client:
            await client.set("a", "1")
            os.kill(server.pid, signal.SIGSTOP)
            began = asyncio.get_running_loop().time()
            found = await asyncio.gather(*(client.get("a") for _ in range(20)), return_exceptions=True)
            assert all(isinstance(error, NotInTime | ConnectionBroken) for error in found)
            assert asyncio.get_running_loop().time() - began < 1.5
            os.kill(server.pid, signal.SIGCONT)
            assert await client.get("a") == b"1"

    try:
        asyncio.run(test())
    finally:
        server.stop()


def test_server_that_is_away_is_told_and_is_found_when_it_is_back() -> None:
    server = Redis()
    server.start()

    async def test() -> None:
        async with connect(server.address) as client:
            await client.set("a", "1")
            server.kill()
            for _ in range(2):
                with pytest.raises(RedisError):
                    await client.get("a")
            server.start()
            assert await client.get("a") is None

    try:
        asyncio.run(test())
    finally:
        server.stop()


def test_password_and_database_are_of_the_url() -> None:
    with Redis() as address:
        async def test() -> None:
            async with connect(address) as client:
                await client.config_set("requirepass", "secret")
            url = address.replace("redis://", "redis://:secret@").replace("/0", "/3")
            async with connect(url) as client:
                await client.set("a", "1")
                assert "db3" in await client.info("keyspace")
            async with connect(address) as client:
                with pytest.raises(RedisError, match=r"(?i)auth"):
                    await client.get("a")

        asyncio.run(test())
