"""Compile the engine's kernels before they are needed, so that nobody waits without knowing why."""

import numpy as np

from splinecam_lite.cli.console import stage

COMPILE_SECONDS = 30
"""What it takes on two slow cores."""


def compile_at_first_use() -> None:
    """Compile everything now, and say so, unless an earlier process has left it compiled."""
    from splinecam_lite.engine.kernels import CACHE_DIRECTORY, is_compiled

    if not is_compiled():
        often = "every time: no cache can be written" if CACHE_DIRECTORY is None else "once per version"
        with stage(f"compiling kernels ({often}; about {COMPILE_SECONDS} s)"):
            use_every_kernel()


def use_every_kernel(exact: bool = False) -> None:
    """Run small networks through all of the engine: several blocks, knots that meet, both decisions.

    With ``exact`` the kernels of exact mode and of the certificate too: twice the time.
    """
    import torch
    from torch import nn

    from splinecam_lite.engine.plan import Tuning
    from splinecam_lite.network.slices import Slice
    from splinecam_lite.partition.partition import partition

    generator = torch.Generator().manual_seed(0)
    for n_outputs in (1, 3):
        hidden = nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU()
        model = nn.Sequential(*hidden, nn.Linear(12, n_outputs))
        for weight in model.parameters():
            # Whole numbers: knots that meet in one point take a path of their own.
            weight.data = torch.randint(-3, 4, weight.shape, generator=generator).float()
        several_blocks = Tuning(block_vertices=40, piece_vertices=15)
        result = partition(model.eval(), Slice.box(-1, 1), _tuning=several_blocks, threads=1)
        result.areas()
        result.decision_boundary()
        result.gradient_norms()
        result.pattern_hashes()
        result.patterns()
        result.locate(np.zeros((1, 2)))
        if exact:
            proved = partition(model, Slice.box(-1, 1), exact=True, _tuning=several_blocks, threads=1)
            proved.certify()
            proved.linear_regions()
