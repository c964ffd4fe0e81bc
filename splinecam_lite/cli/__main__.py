"""``python -m splinecam_lite.cli`` is ``splinecam-lite``."""

import sys

from splinecam_lite.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
