"""Mapping files by path, or by name in the folder of the setting `sources`."""

from pathlib import Path

from tillstream.config import Config
from tillstream.errors import MappingError, UsageError
from tillstream.schemas.mistakes import InvalidMapping, nearest
from tillstream.sources.ingest.mapping_file import Versioned, parse_mapping

SUFFIX = ".toml"


def find_mapping(config: Config, source: str) -> Path:
    """The mapping file that `source` means.

    Raises:
        UsageError: there is none.
    """
    path, folder = Path(source), Path(config.sources)
    if path.suffix == SUFFIX or path.is_file():
        return path
    named = folder / f"{source}{SUFFIX}"
    if path.name != source or not named.is_file():
        known = sorted(file.stem for file in folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
        hint = nearest(source, known, f"there are: {', '.join(known)}" if known else "the setting `sources` names their folder")
        raise UsageError(f"no mapping {source!r}: neither a file nor a name in the folder {str(folder)!r}; {hint}")
    return named


def load_mapping(path: Path) -> Versioned:
    """The mapping file at `path`.

    Raises:
        UsageError: there is no such file, or it is not text.
        MappingError: with every mistake in it.
    """
    try:
        return parse_mapping(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"mapping {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"mapping {str(path)!r}: not UTF-8 text") from None
    except InvalidMapping as invalid:
        raise MappingError(str(path), invalid) from None
