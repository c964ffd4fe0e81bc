"""Memory that one tool needs for one workload, above what the process held before: a process of its own.

    python benchmarks/peak_memory.py engine 2-256x4-1

prints one line of JSON. Linux resets its high-water mark on request, so the network's training and the
compiling of kernels are not counted; elsewhere the mark of the whole process is all there is.
"""

import ctypes
import gc
import json
import resource
import subprocess
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_mb(field: str) -> float:
    """``VmRSS``, what is held now, or ``VmHWM``, the most held since the last reset; in MB (10^6 bytes)."""
    if not STATUS.exists():
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return float(line.split()[1]) * 1024 / 1e6


def reset_high_water_mark() -> None:
    """Give freed memory back to the system, then start ``VmHWM`` again from what is held."""
    if STATUS.exists():
        gc.collect()
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            # Else what the network's training has freed would be used again and not be counted.
            libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def measured_elsewhere(tool: str, workload: str, threads: int) -> dict[str, float]:
    """Run this file as a process; ``start_mb`` held before the run, ``peak_mb`` at the most during it."""
    command = [sys.executable, __file__, tool, workload, str(threads)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def main(tool: str, name: str, threads: int) -> None:
    """Run ``tool`` on the workload ``name`` and print its memory."""
    # Imported here: the parent process imports this file for its functions alone.
    import torch
    from peers import run_regioncam
    from workloads import WORKLOADS, random_mlp

    from splinecam_lite import Program, partition

    torch.set_num_threads(threads)
    model, plane = next(workload for workload in WORKLOADS if workload.name == name).build()
    partition(*random_mlp(2, 128, 128, 128, 1), threads=threads)  # loads the kernels
    program = Program.from_module(model, plane.input_shape)
    reset_high_water_mark()
    start = resident_mb("VmRSS")
    held = partition(program, plane, threads=threads) if tool == "engine" else run_regioncam(model, plane)
    print(json.dumps({"start_mb": start, "peak_mb": resident_mb("VmHWM")}))
    del held


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1)
