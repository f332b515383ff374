"""The house: imports point down, the root is small, no file has two jobs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from helpers.runs import ROOT

PACKAGE = ROOT / "src" / "segdistill"
FLOORS = [
    {"cli"},
    {"benchmarks"},
    {"engine"},
    {"callbacks"},
    {"reporting"},
    {"tasks"},
    {"losses", "models", "data", "export"},
    {"inference"},
    {"config", "metrics"},
    {"utils"},
]
"""From the top down; a room may import from its own folder and from lower floors."""
MAX_LINES, MAX_ENTRIES, MAX_ROOT_MODULES = 250, 16, 3


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def floor(room: str) -> int:
    return next(index for index, rooms in enumerate(FLOORS) if room in rooms)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_imports_point_down() -> None:
    upward = []
    for path in PACKAGE.rglob("*.py"):
        if path.parent == PACKAGE and path.name == "__init__.py":
            continue
        for name in imports(path):
            parts = name.split(".")
            other = parts[0] == "segdistill" and len(parts) > 1 and parts[1] != room_of(path)
            if other and floor(parts[1]) <= floor(room_of(path)):
                upward.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not upward


def test_every_room_has_its_floor_and_its_line_in_the_docs() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "__init__.py", "py.typed")}
    assert {entry.removesuffix(".py") for entry in entries} == set().union(*FLOORS)
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert not [entry for entry in entries if f"`{entry}`" not in page and f"`{entry}/`" not in page]


def test_the_root_is_small_and_no_file_is_long() -> None:
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= MAX_ENTRIES
    assert len([path for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]) <= MAX_ROOT_MODULES
    lengths = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert not {name: length for name, length in lengths.items() if length > MAX_LINES}


def test_roadscenes_imports_nothing_of_segdistill() -> None:
    renderer = [*(ROOT / "src" / "roadscenes").rglob("*.py")]
    assert renderer
    assert not [path for path in renderer for name in imports(path) if name.partition(".")[0] == "segdistill"]
