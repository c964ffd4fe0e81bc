"""Measure in processes of their own: a limit of time, and peak memory that nothing else has touched."""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peak_memory import reset_high_water_mark, resident_mb

LONG_SECONDS = 3.0
"""A run is repeated, up to twice, while it takes less than this."""


def in_a_child(
    script: str, *arguments: str, limit: float, interpreter: str = sys.executable
) -> dict[str, Any]:
    """Run ``script`` with arguments; the last line that it prints is one JSON object.

    Returns
    -------
    dict
        What the child printed, or ``{"failed": why}``.
    """
    command = [interpreter, str(Path(__file__).parent / script), *arguments]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not finished in {limit:.0f} s"}
    if run.returncode:
        lines = run.stderr.strip().splitlines() or [f"exit status {run.returncode}"]
        return {"failed": lines[-1][:200]}
    return json.loads(run.stdout.splitlines()[-1])


def measured(run: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Time and peak memory of ``run``: the fastest of up to three, the memory of the first.

    Returns
    -------
    figures : dict
        ``seconds``, and ``mb`` (10^6 bytes) above what the process held before.
    result
        Of the first run.
    """
    reset_high_water_mark()
    start = resident_mb("VmRSS")
    begin = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - begin
    figures = {"seconds": seconds, "mb": resident_mb("VmHWM") - start}
    for _ in range(2):
        if figures["seconds"] > LONG_SECONDS:
            break
        gc.collect()
        begin = time.perf_counter()
        again = run()
        figures["seconds"] = min(figures["seconds"], time.perf_counter() - begin)
        del again
    return figures, result
