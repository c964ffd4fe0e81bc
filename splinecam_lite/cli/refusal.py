"""The one error of the command line's own."""

from splinecam_lite.errors import SplineCamError


class Refusal(SplineCamError):
    """What was given on the command line cannot be used."""
