"""The commands of `tillstream ingest`: files of old systems into Kafka, and mappings checked."""

import sys
from pathlib import Path

import click
from click import Context

from tillstream.config import load_config
from tillstream.errors import MappingError, UsageError


class RunByDefault(click.Group):
    """A group whose command `default` needs no name: `ingest --source S FILE`."""

    default = "run"

    def parse_args(self, context: Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *context.help_option_names}:
            args = [self.default, *args]
        return super().parse_args(context, args)


@click.group(cls=RunByDefault, epilog="Example: tillstream ingest --source distributor.toml drop/ --watch")
def ingest() -> None:
    """Files of old systems as events, by a mapping (docs/ingest.md): CSV, JSON, XML, fixed width.

    `ingest --source S FILE|FOLDER` is `ingest run`, whose options `ingest run --help` tells.
    """


@ingest.command(epilog="Example: tillstream ingest run --source distributor.toml --dry-run sales.csv")
@click.option("--source", metavar="S", required=True, help="A mapping file, or a name in the folder of the setting `sources`.")
@click.option("--watch", "watching", is_flag=True, help="Look again by the mapping's schedule, until Ctrl-C.")
@click.option("--dry-run", is_flag=True, help="Print the events, one a line, and send nothing; rejects go to standard error.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else; with --watch one a line for each file.")
@click.argument("target", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
def run(source: str, watching: bool, dry_run: bool, as_json: bool, target: Path) -> None:
    """Sends the events of a file, or of all complete files of a folder; exit status 1 where rows were rejected."""
    from tillstream.ingesting.command import dry, live
    from tillstream.ingesting.mappings import find_mapping, load_mapping

    if dry_run and (watching or as_json):
        raise UsageError("--dry-run prints events, one a line; it goes with neither --watch nor --json")
    config = load_config()
    path = find_mapping(config, source)
    if dry_run:
        sys.exit(dry(load_mapping(path).mapping, target))
    sys.exit(live(config, path, target, watching=watching, as_json=as_json))


@ingest.command(epilog="Example: tillstream ingest check distributor.toml")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.argument("path", metavar="MAPPING", type=click.Path(path_type=Path))
def check(path: Path, as_json: bool) -> None:
    """Lists every mistake of a mapping file with its path and a hint; exit status 2 where there are any."""
    from tillstream.commands import print_json
    from tillstream.ingesting.mappings import load_mapping

    try:
        versioned = load_mapping(path)
    except MappingError as error:
        if not as_json:
            raise
        mistakes = [{"path": mistake.path, "message": mistake.message, "hint": mistake.hint} for mistake in error.mistakes]
        print_json({"ok": False, "version": None, "mistakes": mistakes})
        sys.exit(error.exit_status)
    if as_json:
        print_json({"ok": True, "version": versioned.version, "mistakes": []})
    else:
        click.echo(f"{path}: no mistakes; {len(versioned.mapping.rules)} events, version {versioned.version}")
