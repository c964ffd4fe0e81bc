"""From the words of a command line to an exit code.

| code | meaning                                                                                |
|------|----------------------------------------------------------------------------------------|
| 0    | done                                                                                   |
| 1    | failed at work: disk full, out of memory, a result that did not pass its checks        |
| 2    | refused: what was given cannot be used; nothing was computed                           |
| 130  | interrupted (Ctrl-C); a file is either complete or not there                           |

Anything else that is raised is a defect of splinecam_lite: it keeps its traceback, and ends with 1.
"""

import gc
import os
import sys
from collections.abc import Sequence

from splinecam_lite.errors import (
    CalibrationError,
    CertificateError,
    ComplexError,
    MemoryBudgetError,
    PredicateError,
    SplineCamError,
)

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``splinecam-lite`` and return its exit code; see the table above.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``splinecam-lite``. Default: those of this process.

    Examples
    --------
    >>> main(["--version"])
    splinecam-lite 0.1.0
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(words)
        sys.stdout.flush()  # now, where a reader that has gone is still caught
        return code
    except KeyboardInterrupt:
        return _end("interrupted", INTERRUPTED)
    except (CalibrationError, CertificateError, ComplexError, PredicateError) as error:
        return _end(f"{error} (perhaps a defect of splinecam_lite: if no remedy helps, report it)", FAILED)
    except MemoryBudgetError as error:
        return _end(str(error), FAILED)
    except SplineCamError as error:
        return _end(str(error), REFUSED)
    except FileNotFoundError as error:
        if error.filename is None:  # one without a name: no place for temporary files
            return _end(str(error.strerror), FAILED)
        return _end(f"there is no file {error.filename}", REFUSED)
    except BrokenPipeError:
        # The reader of the output has gone; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        named = f": {error.filename}" if error.filename else ""
        return _end(f"{error.strerror or error}{named}", FAILED)
    except MemoryError:
        return _end("out of memory; take a smaller slice", FAILED)
    finally:
        if argv is None:
            gc.freeze()  # at its end Python would look for cycles in all of torch, for more than a second


def _run(words: list[str]) -> int:
    if words == ["--version"]:
        from importlib.metadata import version

        print(f"splinecam-lite {version('splinecam-lite')}")
        return DONE
    import tyro  # here, so that Ctrl-C is clean from the first moment on

    from splinecam_lite.cli import options

    try:
        command = tyro.cli(
            options.Command,
            prog="splinecam-lite",
            description="Exact linear regions of piecewise-linear networks on 2-D slices of input space.",
            args=words or ["--help"],
        )
    except SystemExit as end:  # --help, or words that are no command
        return int(end.code or DONE)
    from splinecam_lite.cli import commands

    run = {
        options.Partition: commands.partition,
        options.CountRegions: commands.count,
        options.Complexity: commands.complexity,
        options.Calibrate: commands.calibrate,
        options.Demo: commands.demo,
        options.Warmup: commands.warmup,
        options.Info: commands.info,
    }[type(command)]
    run(command)
    return DONE


def _end(message: str, code: int) -> int:
    """Say why it ends, in one line, below whatever progress was shown."""
    print(f"splinecam-lite: {' '.join(message.split())}", file=sys.stderr)
    return code
