"""Many cases, in processes of their own, and what was found in all of them."""

import faulthandler
import signal
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from tests.fuzz.cases import make_case
from tests.fuzz.judge import STAGES, Verdict, judge

TOO_LONG = 120
"""Seconds after which a case has failed."""


def tried(seed: int, quick: bool) -> Verdict:
    """Judge a case; whatever it raises is what was wrong."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(TOO_LONG)
    kinds: dict[str, str] = {}
    begin = time.perf_counter()
    try:
        case = make_case(seed, quick)
        kinds = case.kinds
        return judge(case)
    except Exception as error:
        where = "".join(traceback.format_exception(error)[-4:])
        return Verdict(kinds, [f"{type(error).__name__} after {time.perf_counter() - begin:.0f} s\n{where}"])
    finally:
        signal.alarm(0)


def _too_long(*_) -> None:
    raise TimeoutError(f"the case takes longer than {TOO_LONG} s")


def command(seed: int, quick: bool) -> str:
    return f"python -m tests.fuzz --seed {seed} --count 1{' --quick' if quick else ''}"


def verdicts(seeds: range, quick: bool, processes: int) -> Iterator[tuple[int, Verdict]]:
    """Yield (seed, verdict), as they come."""
    if processes == 1 or len(seeds) == 1:
        yield from ((seed, tried(seed, quick)) for seed in seeds)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=faulthandler.enable) as pool:
        futures = {pool.submit(tried, seed, quick): seed for seed in seeds}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                left = sorted(seed for f, seed in futures.items() if not f.done() or f.exception())
                died = f"a process died in one of the seeds {left[:4]} or soon after"
                yield futures[future], Verdict({}, [died])
                return


def summary(done: list[Verdict], seconds: float) -> str:
    """Kinds, counts, and decisions per stage."""
    lines = [f"{len(done)} cases, {sum(v.regions for v in done):,} activation regions, {seconds:.0f} s"]
    for what in dict.fromkeys(key for v in done for key in v.kinds):
        names = [name for v in done for name in v.kinds.get(what, "").split(" + ")]
        lines.append(f"  {what:14}" + ", ".join(f"{k} {n}" for k, n in Counter(names).most_common()))
    facts: Counter = sum((v.facts for v in done), Counter())
    lines.append("  found         " + ", ".join(f"{k} {n}" for k, n in sorted(facts.items()) if n))
    for name in ("engine", "certificate"):
        total: Counter = sum((getattr(v, name) for v in done), Counter())
        stages = ", ".join(f"{stage} {total[stage]:,}" for stage in STAGES if total[stage])
        lines.append(f"  {name:14}signs decided: {stages}")
    time_: Counter = sum((v.seconds for v in done), Counter())
    lines.append("  seconds       " + ", ".join(f"{k} {t:.0f}" for k, t in time_.items()))
    return "\n".join(lines)
