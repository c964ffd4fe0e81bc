"""Rewrite the part of the README that a benchmark owns: between ``<!-- name -->`` and ``<!-- /name -->``."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

README = Path(__file__).parent / "README.md"


def write_section(name: str, text: str, readme: Path = README) -> None:
    """Put ``text`` between the marks of ``name``; at the end, with marks, if the file has none."""
    start, stop = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = readme.read_text()
    if start not in old:
        old = f"{old.rstrip()}\n\n{start}\n{stop}\n"
    head, _, rest = old.partition(start)
    if stop not in rest:
        raise ValueError(f"{readme} has {start} but no {stop} after it; put it back")
    tail = rest.partition(stop)[2]
    new = f"{head}{start}\n\n{text.strip()}\n\n{stop}{tail}"
    temporary = readme.with_suffix(".tmp")
    temporary.write_text(new)
    temporary.replace(readme)


def machine_line(threads: int, *packages: str) -> str:
    """What figures depend on beside the code, in one line."""
    info = Path("/proc/cpuinfo")
    models = (
        [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    cpu = models[0].partition(": ")[2] if models else platform.processor()
    found = []
    for package in ("torch", "numba", "numpy", *packages):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    plural = "s" if threads > 1 else ""
    return (
        f"{os.cpu_count()} cores ({cpu}), {threads} thread{plural}, Python {platform.python_version()}, "
        f"{', '.join(found)}"
    )
