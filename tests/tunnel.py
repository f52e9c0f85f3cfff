"""TLS in front of a server that has none, for tests: whoever connects here speaks TLS, and the server behind hears it in clear."""

import asyncio
import ssl
import threading
from collections.abc import Callable
from typing import Self

from tillstream.embedded.process import HOST

PIECE_BYTES = 65_536

CLOSED_S = 0.2
"""After it the loop has closed the sockets of what was aborted."""


class Tunnel:
    """Listens on `port` of loopback, in a thread; `target` gives the port of the server behind, asked at each connection."""

    def __init__(self, context: ssl.SSLContext, target: Callable[[], int]) -> None:
        self.context = context
        self.target = target
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="tunnel", daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        self.server = asyncio.run_coroutine_threadsafe(self._listen(), self.loop).result(5)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def _listen(self) -> asyncio.Server:
        # Clients that refuse our certificate, or bring none, are what some tests are about.
        self.loop.set_exception_handler(lambda *_: None)
        return await asyncio.start_server(self._connected, HOST, 0, ssl=self.context)

    async def _end(self) -> None:
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(CLOSED_S)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            answers, to_server = await asyncio.open_connection(HOST, self.target())
        except OSError:
            writer.close()
            return
        self.writers.append(to_server)
        await asyncio.gather(carry(reader, to_server), carry(answers, writer), return_exceptions=True)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything from one side to the other, until that one ends."""
    try:
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()
