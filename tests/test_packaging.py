"""What is declared is what is used: every third-party import has its dependency, and the other way round."""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMPORTED_AS = {"pillow": "PIL", "python-flint": "flint"}
OPTIONAL = ("adapters", "exact", "geo", "onnx")
"""Extras that the package itself may import, where they are needed and not before."""


def declared(requirements: list[str]) -> set[str]:
    """Import names of a list of requirements."""
    names = {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def imported(folder: str, *, at_once: bool = False) -> set[str]:
    """Top-level names of the third-party modules that the files of a folder import.

    However deep, or, with ``at_once``, only those that come with the file itself.
    """
    names = set()
    for path in (ROOT / folder).rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in tree.body if at_once else ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(str(node.module).partition(".")[0])
    return names - sys.stdlib_module_names - {"splinecam_lite"}


def optional() -> set[str]:
    return set().union(*(declared(PROJECT["optional-dependencies"][extra]) for extra in OPTIONAL))


def test_the_package_imports_what_it_declares_and_nothing_else() -> None:
    assert imported("splinecam_lite") - optional() == declared(PROJECT["dependencies"])


def test_extras_are_imported_where_they_are_needed() -> None:
    assert imported("splinecam_lite", at_once=True) & optional() == set()
    assert {"geopandas", "onnx", "pyarrow"} <= imported("splinecam_lite")


def test_dependencies_have_lower_bounds_only() -> None:
    requirements = sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])
    assert [one for one in requirements if not re.fullmatch(r"[\w-]+>=[\d.]+", one)] == []


def test_every_dependency_is_pinned_within_its_bound() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines if not line.startswith("#"))
    for requirement in sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"]):
        name, bound = requirement.split(">=")
        numbers = [[int(part) for part in re.findall(r"\d+", version)] for version in (pins[name], bound)]
        assert numbers[0] >= numbers[1], f"{name} is pinned to {pins[name]}, below {bound}"


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "splinecam_lite" / "py.typed").is_file()
