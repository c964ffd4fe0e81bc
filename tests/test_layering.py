"""The rooms of the package and the directions of their imports, read from the source of every file."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "splinecam_lite"

# Room -> the rooms it may import, itself aside. `errors` is open to everyone.
MAY_IMPORT = {
    "errors": set(),
    "network": set(),
    "engine": set(),
    "partition": {"network", "engine"},
    "complexity": {"partition", "network", "engine"},
    "show": {"partition"},
    "studies": {"show", "complexity", "partition", "network", "engine"},
    "cli": {"studies", "show", "complexity", "partition", "network", "engine"},
    "__init__": {"studies", "show", "complexity", "partition", "network", "engine"},
}
# The arrows that point up: `part.plot()` and the like are conveniences, and load the room only when called.
UPWARDS = {
    ("partition/result.py", "splinecam_lite.show.plot"),
    ("partition/formats.py", "splinecam_lite.show.svg"),
    ("partition/segments/result.py", "splinecam_lite.show.segment"),
}
NAMELESS = {"utils", "util", "helpers", "helper", "misc", "common", "tools"}

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """Room of a dotted module name: ``splinecam_lite.engine.blocks`` is in ``engine``."""
    return [*module.split("."), "__init__"][1]


def module_of(path: Path) -> str:
    """Dotted name of a file of the package; that of its folder for an ``__init__.py``."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(source: str, module: str, is_package: bool) -> list[tuple[int, str]]:
    """Line and dotted name of everything of this package that ``source`` imports, at any depth of nesting.

    ``from splinecam_lite import engine`` names a room only in its list of names, so those are joined on.
    Imports that are only for the type checker count as well: a type is a dependency. So does a module's name
    in a string, which is how an import at run time hides.
    """
    package = module if is_package else module.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Constant) and re.fullmatch(r"\w+(\.\w+)+", str(node.value)):
            found.append((node.lineno, str(node.value)))
    return [(line, name) for line, name in found if name.split(".")[0] == PACKAGE.name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    module = module_of(path)
    room = room_of(module)
    assert room in MAY_IMPORT, f"{path} is in no room of architecture; give it one in MAY_IMPORT or move it"
    allowed = MAY_IMPORT[room] | {room, "errors"}
    # A public name taken from the top of the package is no room, so that is refused as well.
    wrong = [
        f"line {line}: {room} may not import {name}"
        for line, name in imported_modules(path.read_text(), module, path.name == "__init__.py")
        if room_of(name) not in allowed and (path.relative_to(PACKAGE).as_posix(), name) not in UPWARDS
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_is_named_for_what_it_holds(path: Path) -> None:
    assert not NAMELESS & {part.removesuffix(".py") for part in path.parts[path.parts.index(PACKAGE.name) :]}


def test_directions_have_no_cycle() -> None:
    left = {room: set(below) for room, below in MAY_IMPORT.items()}
    while left:
        lowest = {room for room, below in left.items() if not below & left.keys()}
        assert lowest, f"these rooms import one another in a circle: {sorted(left)}"
        left = {room: below for room, below in left.items() if room not in lowest}


@pytest.mark.parametrize(
    ("source", "module", "rooms"),
    [
        ("import splinecam_lite.show.plot", "splinecam_lite.cli", ["show"]),
        ("from splinecam_lite import engine", "splinecam_lite.cli", ["engine"]),
        ("from . import values", "splinecam_lite.engine.blocks", ["engine"]),
        ("from ..network.slices import Slice", "splinecam_lite.engine.blocks", ["network"]),
        ("def f():\n    from .. import partition", "splinecam_lite.engine.blocks", ["partition"]),
        ("importlib.import_module('splinecam_lite.studies')", "splinecam_lite.show.plot", ["studies"]),
        ("PLOTTER = 'splinecam_lite.show.plot'", "splinecam_lite.partition.result", ["show"]),
        ("from numpy import array", "splinecam_lite.engine.blocks", []),
    ],
)
def test_every_form_of_import_is_read(source: str, module: str, rooms: list[str]) -> None:
    assert [room_of(name) for _, name in imported_modules(source, module, is_package=False)] == rooms
