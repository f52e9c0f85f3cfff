"""The embedded ClickHouse: chDB behind ClickHouse's HTTP interface, in a process of its own.

In: nothing. Out: a DSN `http://127.0.0.1:port`, for clickhouse-connect's `get_client(dsn=...)`, curl, or any driver
that speaks HTTP. One process may own a chDB folder, but a worker, `verify` and an analyst all need it: so the owner is
a server. What of the interface it speaks is written at the top of `chdb_http.py`.

It can be started by hand as well: `python -m tillstream.embedded.clickhouse --port 8123 --path DIR`.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import click

from tillstream.embedded.process import HOST, PROBE_S_MAX, Server, ServerError

INSTANCE_VARIABLE = "TILLSTREAM_EMBEDDED_INSTANCE"


class ClickHouse(Server):
    """A ClickHouse server over a chDB folder; `start` gives its DSN. A kept folder can be opened again."""

    name: ClassVar[str] = "clickhouse"

    @property
    def address(self) -> str:
        """The DSN."""
        return f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        """This module, run as a program; ServerError, naming the extra, where the wheel is missing."""
        if find_spec("chdb") is None:
            raise ServerError("no embedded ClickHouse here: pip install 'tillstream[demo]'")
        data = str(self.folder / "data")
        # -P: the folder it runs in must not become a place to import from.
        return [sys.executable, "-P", "-m", "tillstream.embedded.clickhouse", "--port", str(self.port), "--path", data]

    def environment(self) -> Mapping[str, str]:
        """UTC, as ClickHouse's own images have it: times without a zone then mean the same on every machine.

        chDB makes a folder of its own while it loads, and leaves it behind when it is stopped meanwhile: inside ours it goes with it.
        """
        return {"TZ": "UTC", INSTANCE_VARIABLE: self.instance, "TMPDIR": str(self.folder)}

    def answers(self) -> bool:
        """Whether /ping is answered by our process."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PROBE_S_MAX)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().getheader("X-Tillstream-Instance") == self.instance
        except http.client.HTTPException:
            return False
        finally:
            connection.close()


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), required=True, help="TCP port on 127.0.0.1.")
@click.option("--path", type=click.Path(file_okay=False, path_type=Path), required=True, help="The chDB folder.")
def main(port: int, path: Path) -> None:
    """Serve a chDB folder over ClickHouse's HTTP interface, on loopback, until Ctrl-C.

    Example: python -m tillstream.embedded.clickhouse --port 8123 --path ./history
    """
    # Loading chDB takes a second and 220 MB, which the program that only launches this process should not pay.
    try:
        from tillstream.embedded.chdb_http import serve

        asyncio.run(serve(path, port, os.environ.get(INSTANCE_VARIABLE, "")))
    except (ImportError, OSError, RuntimeError) as error:
        click.echo(f"cannot serve {path} on {HOST}:{port}: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
