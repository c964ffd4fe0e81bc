"""What every test run shares: hypothesis profiles, one torch thread, no window, a clean random state."""

import os
import signal

# Before numpy and torch start their thread pools: two test processes share two cores. The engine's own
# threads are plain ones and asked for by argument, so tests can still compare one thread with two.
for pool in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(pool, "1")
os.environ["MPLBACKEND"] = "Agg"

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)

# "ci" is the default and draws the same examples each time, so that a failure is the change's own; "dev"
# looks for new ones; "nojit" serves kernels that run as plain Python. No deadline: the first example may
# compile kernels.
_shared = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow], "print_blob": True}
hypothesis.settings.register_profile("ci", derandomize=True, max_examples=40, database=None, **_shared)
hypothesis.settings.register_profile("dev", max_examples=200, **_shared)
hypothesis.settings.register_profile("nojit", derandomize=True, max_examples=5, database=None, **_shared)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# Run in the background by a script, a process ignores Ctrl-C, and so do all that it starts; tests of Ctrl-C
# start some.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each test starts from the same torch random state, whatever ran before it."""
    torch.manual_seed(0)
