"""``python -m tests.fuzz --seed 0 --count 200``: many hard cases, two at a time; `make fuzz` runs it.

A failure prints its seed and the command that repeats it, and the exit status is 1 then.
"""

import os

# Before numpy and torch start their thread pools, here and in the processes.
for _pool in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_pool, "1")

import argparse  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

from tqdm import tqdm  # noqa: E402

from tests.fuzz.run import command, summary, verdicts  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--count", type=int, default=200, help="how many seeds")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="the small cases of test_fuzz.py")
    given = parser.parse_args()
    begin = time.perf_counter()
    done, failed = [], []
    with tqdm(total=given.count, unit="case", file=sys.stderr) as bar:
        seeds = range(given.seed, given.seed + given.count)
        for seed, verdict in verdicts(seeds, given.quick, given.processes):
            done.append(verdict)
            bar.update()
            if verdict.wrong:
                failed.append(seed)
                bar.set_postfix(failed=len(failed))
                kinds = ", ".join(f"{what} {kind}" for what, kind in verdict.kinds.items())
                bar.write(f"seed {seed} FAILED: {kinds}", file=sys.stdout)
                for what in verdict.wrong:
                    bar.write(f"  {what}", file=sys.stdout)
                bar.write(f"  repeat: {command(seed, given.quick)}", file=sys.stdout)
                sys.stdout.flush()
    print(summary(done, time.perf_counter() - begin))
    print(f"{len(failed)} failed{': seeds ' if failed else ''}{', '.join(map(str, sorted(failed)))}")
    return 1 if failed or len(done) < given.count else 0


if __name__ == "__main__":
    sys.exit(main())
