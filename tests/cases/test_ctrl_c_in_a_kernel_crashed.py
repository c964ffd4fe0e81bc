"""A signal that came while compiled code ran in the main thread killed the process, not the work.

numba calls Python functions to hand over results, and did not look whether a signal's handler raised there.
"""

import subprocess
import sys

import pytest

PROGRAM = """
import faulthandler, os, signal, sys, threading, time
import torch
import splinecam_lite as sc

faulthandler.disable()
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.manual_seed(0)
widths = [2, 96, 96, 96, 3]
layers = [part for a, b in zip(widths, widths[1:]) for part in (torch.nn.Linear(a, b), torch.nn.ReLU())]
model = torch.nn.Sequential(*layers[:-1]).eval()
plane = sc.Slice.box(-3, 3)
work = {
    "partition": lambda: sc.partition(model, plane, threads=int(sys.argv[2])),
    "count": lambda: sc.count(model, plane, threads=int(sys.argv[2])),
}[sys.argv[1]]
begin = time.perf_counter()
work()
begin = time.perf_counter()
work()
took, interrupted = time.perf_counter() - begin, 0
for i in range(12):
    timer = threading.Timer(took * (i + 1) / 14, lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        timer.start()
        work()
        timer.join()
        time.sleep(0.05)
    except KeyboardInterrupt:
        interrupted += 1
time.sleep(0.2)
left = [t.name for t in threading.enumerate() if t.name != "tqdm_monitor"]
print("interrupted", interrupted, left)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of this kind are POSIX")
@pytest.mark.jit
@pytest.mark.parametrize(("work", "threads"), [("partition", 1), ("partition", 2), ("count", 1)])
def test_interrupted_work_raises(work, threads):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, work, str(threads)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    said, times, alive = done.stdout.split(maxsplit=2)
    assert (said, alive.strip()) == ("interrupted", "['MainThread']")
    assert int(times) >= 6
