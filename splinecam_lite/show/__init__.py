"""Figures of partitions."""

from splinecam_lite.show.plot import plot

__all__ = ["plot"]
