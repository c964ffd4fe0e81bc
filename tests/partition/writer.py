"""A process that writes partitions to folders in children of its own, which the tests interrupt.

To ``FOLDER THREADS OPTION`` on its stdin it answers ``child NUMBER``. To the line after that it answers, as
soon as the child has ended, ``ended STATUS TEXT``: 0, or 3 for an error, whose text it is. Until then the
number is the child's, also after its end. Kernels are compiled and imported once, before the first child, so
a child is at work within milliseconds.
"""

import os
import sys
import time

from splinecam_lite import Program, Slice, partition
from splinecam_lite.engine.plan import Tuning
from splinecam_lite.partition.folder import BlockFolder
from tests.partition.networks import mlp

TUNING = Tuning(group=3, block_vertices=16, piece_vertices=6, waiting_bytes=0)
PLANE = Slice.box(-1, 1)
SECONDS_PER_BLOCK = 0.004
"""Children wait before they write a block, so that a signal comes between any two of them."""


def program() -> Program:
    """Some hundred regions in some dozen blocks."""
    return Program.from_module(mlp(2, 24, 24, 2), (2,))


def slowed(write):
    def later(self: BlockFolder, block):
        time.sleep(SECONDS_PER_BLOCK)
        write(self, block)

    return later


def child(model: Program, folder: str, threads: int, option: str) -> str:
    """Write the partition to a folder; return what went wrong, or nothing."""
    BlockFolder.write = slowed(BlockFolder.write)
    if option == "no-room":
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))  # fewer bytes than a block takes
    try:
        partition(model, PLANE, store=folder, threads=threads, progress=False, _tuning=TUNING)
        return ""
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    model = program()
    partition(model, PLANE, _tuning=TUNING, threads=1)
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        folder, threads, option = line.split()
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(read)
            said = child(model, folder, int(threads), option)
            os.write(write, said.encode()[:1000])
            os._exit(3 if said else 0)
        os.close(write)
        print("child", pid, flush=True)
        sys.stdin.readline()
        _, status = os.waitpid(pid, 0)
        said = os.read(read, 1000).decode().replace("\n", " ")
        os.close(read)
        print("ended", os.waitstatus_to_exitcode(status), said, flush=True)


if __name__ == "__main__":
    main()
