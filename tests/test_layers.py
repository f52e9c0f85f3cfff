"""Imports run one way: schemas, kernels, models and sinks, streams, gateway, then the command line (DESIGN.md §2)."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "schemas": {"schemas"},
    "kernels": {"schemas", "kernels"},
    "sources": {"schemas", "sources"},
    "sinks": {"schemas", "kernels", "sinks"},
    "models": {"schemas", "kernels", "models"},
    "streams": {"schemas", "kernels", "sinks", "models", "streams"},
    "gateway": {"schemas", "kernels", "sinks", "models", "streams", "gateway"},
}
PURE = {"schemas", "kernels"}
IMPURE = {
    "aiohttp", "asyncio", "clickhouse_connect", "confluent_kafka", "faust", "http", "logging", "os", "random", "redis", "secrets", "socket",
    "subprocess", "sys", "threading", "urllib", "uuid",
}  # fmt: skip
"""Modules by which I/O, a clock or chance could come in."""

CALLS = re.compile(r"\.now\(|\.today\(|\btime\.time|monotonic\(|perf_counter|\bopen\(")

# The edge hands its one frozen configuration and its typed errors down; both know nothing but schemas.
EDGE = {"config", "errors"}


def sources_of(room: str) -> list[Path]:
    return sorted([*(ROOT / room).rglob("*.py"), *(ROOT / room).glob("*.pyx"), *(ROOT / room).glob("*.pyi")])


def imports_of(path: Path) -> Iterator[str]:
    """The modules that a file imports, by dotted name; of Cython, the lines that begin with `from` or `import`."""
    if path.suffix == ".pyx":
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"]):
                yield words[1]
        return
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", list(ALLOWED))
def test_imports_of_a_room_run_one_way(room: str) -> None:
    paths = sources_of(room)
    assert paths
    for path in paths:
        ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("tillstream.")}
        allowed = ALLOWED[room] | (EDGE if room == "streams" else set())
        assert ours <= allowed, f"{path.relative_to(ROOT)} imports {sorted(ours - allowed)}"


@pytest.mark.parametrize("room", list(ALLOWED))
def test_no_room_is_imported_by_its_folder_name(room: str) -> None:
    """`import streams` would load a second copy, whose types are not the first one's."""
    for path in [*sources_of(room), *sources_of("src")]:
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert not roots & ALLOWED.keys(), f"{path.relative_to(ROOT)}: {sorted(roots & ALLOWED.keys())}"


@pytest.mark.parametrize("room", sorted(PURE))
def test_schemas_and_kernels_know_no_io_no_clock_and_no_chance(room: str) -> None:
    for path in sources_of(room):
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert not roots & IMPURE, f"{path.relative_to(ROOT)}: {sorted(roots & IMPURE)}"
        assert not CALLS.findall(path.read_text()), path.relative_to(ROOT)


def test_no_top_level_package_but_tillstream_is_installed() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert {package.split(".")[0] for package in tool["packages"]} == {"tillstream"}
    for room in ALLOWED:
        assert tool["package-dir"][f"tillstream.{room}"] == room
    assert set(tool["package-dir"]) == set(tool["packages"])


def test_every_kernel_extension_has_types() -> None:
    for path in (ROOT / "kernels").glob("*.pyx"):
        assert path.with_suffix(".pyi").exists(), f"{path.name} has no .pyi"


@pytest.mark.parametrize("role", ["points", "history", "deliver"])
def test_worker_that_scores_nothing_loads_no_models(role: str) -> None:
    program = f"import sys, tillstream.worker, tillstream.streams.agents_{role}; print('river' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
