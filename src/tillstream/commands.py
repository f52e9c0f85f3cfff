"""What every command has: `--json`, errors in one line with their exit status."""

import sys
from typing import Any, NoReturn

import click
import orjson
from click import ClickException, Context

from tillstream.errors import TillstreamError

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


class Commands(click.Group):
    """Turns our errors into one line on standard error and their exit status; a user's mistake shows no traceback."""

    def invoke(self, context: Context) -> Any:
        try:
            return super().invoke(context)
        except TillstreamError as error:
            fail(str(error), error.exit_status)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(0)


def fail(message: str, status: int) -> NoReturn:
    """Prints the message and ends with `status`."""
    shown = ClickException(message)
    shown.exit_code = status
    raise shown


def print_json(value: Any) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
