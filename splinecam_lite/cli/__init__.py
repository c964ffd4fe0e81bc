"""The command line, ``splinecam-lite``.

    entry.py      parse, run, turn errors into one line and an exit code
    options.py    what each command takes, and its --help
    commands.py   what each command does
    inputs.py     --points, --around, --box to inputs and a slice
    models.py     MODEL and --weights to a module
    files.py      arrays in, finished files out
    warmup.py     compiling the kernels, and saying so
    console.py    what is said on the terminal while work goes on
    refusal.py    the error of words that cannot be used

Nothing here imports torch, numba or matplotlib before a command needs them, so that ``--help`` is quick.
"""

from splinecam_lite.cli.entry import main

__all__ = ["main"]
