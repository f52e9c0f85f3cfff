"""Redis over one connection that all of a process's requests share: each goes out in one write, answers are handed out in their order.

redis-py borrows a connection from its pool for each pipeline and awaits some twenty things until it is back: 130 µs of a core, where Redis
itself takes 10. A gateway asks twice or more a request, a worker eight times a batch, so this was most of what a lone receipt cost. Here
it is 15 µs (docs/adr/0020). Connecting, encryption, authentication, the names of commands and what answers are turned into are redis-py's
as before; parsing is hiredis'. Transactions and blocking commands do not go by it.

Delivery: none of its own. A request whose connection broke is asked again as often as the client was told to, over a new one.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import hiredis
import redis.asyncio as redis_client
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import InvalidResponse, RedisError, ResponseError
from redis.exceptions import TimeoutError as NotInTime

LARGE_BYTES = 65_536
"""A last argument of this length goes out as it is; packing it in C would copy it twice."""

UNUSED_OPTIONS = {"keys", "NEVER_DECODE", "EMPTY_RESPONSE"}
"""What redis-py notes for itself beside a command."""

Command = tuple[Sequence[Any], Mapping[str, Any]]
"""Its name and arguments, and what its answer is to be turned into, as redis-py keeps it."""


class _Waiting(NamedTuple):
    until: float
    wanted: int
    answers: list[Any]
    done: asyncio.Future[list[Any]]


class Line(asyncio.Protocol):
    """One connection, taken over from redis-py when it has been made; it ends when an answer takes longer than `answer_s`.

    One timer watches whoever has waited longest: answers come in order, so nobody behind them is late before they are.
    """

    def __init__(self, connection: Any, answer_s: float) -> None:
        self.connection = connection
        self.answer_s = answer_s
        self.loop = asyncio.get_running_loop()
        self.watch: asyncio.TimerHandle | None = None
        self.reader = hiredis.Reader(protocolError=InvalidResponse, replyError=ResponseError)
        self.waiting: deque[_Waiting] = deque()
        self.ended = asyncio.Event()
        self.transport: asyncio.Transport = connection.hand_over(self)

    @property
    def closed(self) -> bool:
        """Whether nothing goes by it any more."""
        return self.transport.is_closing()

    def ask(self, packed: Iterable[bytes], count: int) -> asyncio.Future[list[Any]]:
        """Sends packed commands; their `count` answers, errors among them. Who stops waiting leaves the others undisturbed."""
        done: asyncio.Future[list[Any]] = self.loop.create_future()
        until = self.loop.time() + self.answer_s
        self.waiting.append(_Waiting(until, count, [], done))
        if self.watch is None:
            self.watch = self.loop.call_at(until, self._look)
        self.transport.writelines(packed)
        return done

    def _look(self) -> None:
        """Ends the connection if the first answer is late: what is on its way there may hang for as long."""
        self.watch = None
        if not self.waiting:
            return
        if self.waiting[0].until <= self.loop.time():
            self.transport.abort()
            self.fail(NotInTime(f"no answer within {self.answer_s} s"))
        else:
            self.watch = self.loop.call_at(self.waiting[0].until, self._look)

    async def close(self) -> None:
        """Ends it; whoever waits is told that the connection broke."""
        self.transport.abort()
        self.fail(ConnectionBroken("the connection was closed"))
        await self.connection.disconnect(nowait=True)

    def fail(self, error: RedisError) -> None:
        """Tells everyone who waits."""
        if self.watch is not None:
            self.watch.cancel()
            self.watch = None
        while self.waiting:
            done = self.waiting.popleft().done
            if not done.done():
                done.set_exception(error)

    def data_received(self, data: bytes) -> None:
        """Answers, or parts of them."""
        try:
            self.reader.feed(data)
            while self.waiting:
                first = self.waiting[0]
                while len(first.answers) < first.wanted:
                    answer = self.reader.gets()
                    if answer is False:
                        return
                    if not isinstance(answer, hiredis.PushNotification):
                        first.answers.append(answer)
                self.waiting.popleft()
                if not first.done.done():
                    first.done.set_result(first.answers)
        except InvalidResponse as error:
            self.transport.abort()
            self.fail(error)

    def connection_lost(self, error: Exception | None) -> None:
        """The other side has gone, or this one."""
        self.ended.set()
        self.fail(ConnectionBroken(str(error or "Redis closed the connection")))


class Multiplexed(redis_client.Redis):
    """A client of one server whose commands and pipelines go by a `Line`.

    Attributes:
        answer_s: how long an answer may take, seconds.
        attempts: how often a request is asked in all, where connections break or nobody answers.
    """

    answer_s: float = 30.0
    attempts: int = 1

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.line: Line | None = None
        self.connecting = asyncio.Lock()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to commands, turned into what redis-py makes of them; errors of Redis stand among them.

        Raises:
            RedisError: no connection, or no answer in time.
        """
        packed = pack(arguments for arguments, _ in commands)
        for left in reversed(range(self.attempts)):
            try:
                answers = await self._ask(packed, len(commands))
                break
            except (ConnectionBroken, NotInTime):
                if not left:
                    raise
        callbacks = self.response_callbacks
        for place, (arguments, options) in enumerate(commands):
            callback = callbacks.get(arguments[0])
            if callback is not None and not isinstance(answers[place], ResponseError):
                answers[place] = callback(answers[place], **{name: value for name, value in options.items() if name not in UNUSED_OPTIONS})
        return answers

    async def ask_all(self, commands: Iterable[Sequence[Any]]) -> list[Any]:
        """The answers to several commands, without a pipeline of redis-py's, which costs as much a command as packing it.

        Raises:
            ResponseError: the first command that Redis refused.
        """
        answers = await self.ask([(arguments, {}) for arguments in commands])
        refused = next((answer for answer in answers if isinstance(answer, ResponseError)), None)
        if refused is not None:
            raise refused
        return answers

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """One command's answer."""
        (answer,) = await self.ask([(arguments, options)])
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """As redis-py's; what is no transaction goes by the line."""
        return super().pipeline(transaction, shard_hint) if transaction else Pipelined(self)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Closes all connections."""
        line, self.line = self.line, None
        if line is not None:
            await line.close()
        await super().aclose(close_connection_pool)

    async def _ask(self, packed: Iterable[bytes], count: int) -> list[Any]:
        line = self.line
        if line is None or line.closed:
            try:
                async with asyncio.timeout(self.answer_s):
                    line = await self._connected()
            except TimeoutError:
                raise NotInTime(f"no connection within {self.answer_s} s") from None
        return await line.ask(packed, count)

    async def _connected(self) -> Line:
        async with self.connecting:
            if self.line is not None and not self.line.closed:
                return self.line
            if self.line is not None:
                await self.line.close()
                self.line = None
            connection: Any = self.connection_pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                await connection.connect()
                self.line = Line(connection, self.answer_s)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            return self.line


class Pipelined(Pipeline):
    """Commands that go out together."""

    def __init__(self, client: Multiplexed) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, False, None)
        self.through = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Their answers, in order.

        Raises:
            ResponseError: the first command that Redis refused, if `raise_on_error`.
        """
        commands, self.command_stack = self.command_stack, []
        answers = await self.through.ask(commands) if commands else []
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, ResponseError):
                    raise answer
        return answers


def pack(commands: Iterable[Sequence[Any]]) -> list[bytes]:
    """Commands as Redis reads them (RESP), in pieces to be sent one after another.

    >>> b"".join(pack([("GET", "a"), ("SET", "b", 7)]))
    b'*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\na\\r\\n*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nb\\r\\n$1\\r\\n7\\r\\n'
    """
    packed: list[bytes] = []
    for command in commands:
        # Some of redis-py's names are two words.
        arguments = (*command[0].split(), *command[1:]) if " " in command[0] else tuple(command)
        last = arguments[-1]
        if isinstance(last, bytes) and len(last) >= LARGE_BYTES:
            # The array's head counts one more argument than what is packed behind it.
            small = hiredis.pack_command(arguments[:-1])
            packed += [b"*%d" % len(arguments), small[small.index(b"\r\n") :], b"$%d\r\n" % len(last), last, b"\r\n"]
        else:
            packed.append(hiredis.pack_command(arguments))
    return packed
