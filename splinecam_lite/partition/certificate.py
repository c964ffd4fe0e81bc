"""What `certify` returns: what was proved of a partition, how, and what was not."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from splinecam_lite.errors import CertificateError, FileError

if TYPE_CHECKING:
    from splinecam_lite.network.program import Program
    from splinecam_lite.partition.result import Partition

FORMAT = "splinecam_lite certificate"
SCHEMA = 1

Knot = tuple[int, int, int]


@dataclass(frozen=True)
class Failure:
    """One fact that does not hold.

    Attributes
    ----------
    fact : str
        ``model``, ``domain``, ``structure``, ``border``, ``labels``, ``patterns``: what integers and digests
        tell. ``place``: a vertex is not where it is said to be. ``incidence``: a knot does not pass through a
        vertex of its edge. ``sign``: a region's corner lies on the wrong side of a knot. ``bit``: a knot is
        zero on a whole region whose bit says that it is above. ``shape``: a region is empty, or wound round
        otherwise than once. ``decision``: something about the decision boundary. ``regions``: what was merged
        from finer faces, where the network has maxima, is not the regions.
    message : str
    region, vertex, edge : int or None
    knot : (layer, neuron, breakpoint) or None
        Layer -1 stands for the domain, and the second number for its side.
    """

    fact: str
    message: str
    region: int | None = None
    vertex: int | None = None
    edge: int | None = None
    knot: Knot | None = None

    def __str__(self) -> str:
        places = [f"{name} {value}" for name in ("region", "vertex", "edge")
                  if (value := getattr(self, name)) is not None]  # fmt: skip
        if self.knot is not None:
            layer, neuron, point = self.knot
            places.append(
                f"side {neuron}" if layer < 0 else f"layer {layer} neuron {neuron} breakpoint {point}"
            )
        return f"{self.fact}: {', '.join(places)}{': ' if places else ''}{self.message}"


@dataclass(frozen=True)
class SnappedIncidence:
    """A knot that was taken to pass through a vertex, and in rational arithmetic does not.

    Attributes
    ----------
    vertex : int
        Where the network has maxima: -1 for a vertex of the finer partition alone, or of its boundary.
    knot : (layer, neuron, breakpoint)
        Layer -1 stands for the domain, and the second number for its side.
    displacement : float
        Distance of the knot from the exact place of the vertex, in input units; None where the preactivation
        is constant there, and so has no distance.
    reported : bool
        Whether the partition's report lists it. It does not where float64 gave exactly 0.
    """

    vertex: int
    knot: Knot
    displacement: float | None
    reported: bool


@dataclass(frozen=True)
class Decisions:
    """How many signs were decided at which stage.

    Attributes
    ----------
    bounded : int
        By the range of a neuron over many vertices, in float64.
    float64 : int
        At single vertices, in float64 with a bound on its rounding; zeros that need no arithmetic count.
    double_double : int
    rational : int
    """

    bounded: int = 0
    float64: int = 0
    double_double: int = 0
    rational: int = 0

    def __add__(self, other: "Decisions") -> "Decisions":
        return Decisions(*(a + b for a, b in zip(self.counts(), other.counts(), strict=True)))

    def counts(self) -> tuple[int, int, int, int]:
        return self.bounded, self.float64, self.double_double, self.rational


PROVED_AGAIN = (
    "approximation", "proved", "snapped", "n_regions", "n_vertices", "n_edges", "n_neurons",
    "n_decision_faces", "decide", "area",
)  # fmt: skip
"""What a certificate says, and `Certificate.recheck` compares beside the digests."""


@dataclass(frozen=True)
class Certificate:
    """What was proved of a partition, and what it was proved of.

    Attributes
    ----------
    failures : tuple of Failure
        What does not hold, the first hundred; empty if everything was proved.
    n_failures : int
        How many there are.
    snapped : tuple of SnappedIncidence
        What was taken for granted: incidences that rest on snapping. None in exact mode.
    proved : tuple of str
        The facts, in words.
    n_regions, n_vertices, n_edges, n_neurons : int
    n_decision_faces : int
        Parts of regions with one class that were proved; 0 if the decision was not asked for.
    decide : str
        Whose decision it is: "argmax", "argmin" or "zero".
    decisions : Decisions
    largest_place_error : float or None
        No vertex lies farther from its exact place than this, in input units; None where that is not known.
    area : str
        The exact area of the domain in chart units squared, as a rational. It follows from the proof that the
        exact areas of the regions sum to it.
    model_digest, slice_digest, partition_digest : str
        SHA-256 of what it is about.
    versions : dict of str
    seconds : float
    approximation : str
        Says which layers are approximations of smooth activations; empty if there are none. The proof is
        about the network with these layers in it.
    place_bounds : (n_vertices,) float64 or None
        Bound on the distance of each vertex from its exact place, in input units; not saved to files.
    """

    failures: tuple[Failure, ...]
    n_failures: int
    snapped: tuple[SnappedIncidence, ...]
    proved: tuple[str, ...]
    n_regions: int
    n_vertices: int
    n_edges: int
    n_neurons: int
    n_decision_faces: int
    decide: str
    decisions: Decisions
    largest_place_error: float | None
    area: str
    model_digest: str
    slice_digest: str
    partition_digest: str
    versions: dict[str, str]
    seconds: float
    approximation: str = ""
    place_bounds: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def status(self) -> str:
        """``"proved"``, ``"proved up to snaps"`` or ``"not proved"``."""
        if self.failures:
            return "not proved"
        return "proved up to snaps" if self.snapped else "proved"

    @property
    def holds(self) -> bool:
        """Nothing has failed; what rests on snapping is listed in ``snapped``."""
        return not self.failures

    def __str__(self) -> str:
        lines = [
            f"{self.status}: {self.n_regions:,} activation regions, {self.n_vertices:,} vertices, "
            f"{self.n_neurons:,} neurons, in {self.seconds:.2f} s"
        ]
        bounded, single, double, rational = self.decisions.counts()
        lines.append(
            f"  signs decided: {bounded:,} by ranges and {single:,} by single values in float64, "
            f"{double:,} in double-double, {rational:,} in rationals"
        )
        if self.snapped:
            farthest = max(s.displacement or 0.0 for s in self.snapped)
            lines.append(
                f"  {len(self.snapped)} incidences rest on snapping, at most {farthest:.1e} input units"
            )
        if self.approximation:
            which = self.approximation.partition(": ")[2]
            lines.append(f"  certifies the approximation, not the network itself: {which}")
        lines += [f"  {failure}" for failure in self.failures]
        if self.n_failures > len(self.failures):
            lines.append(f"  and {self.n_failures - len(self.failures):,} more")
        return "\n".join(lines)

    def raise_if_failed(self) -> None:
        """Raise `CertificateError` with the first failures, if there are any."""
        if self.failures:
            first = "; ".join(map(str, self.failures[:3]))
            more = f" and {self.n_failures - 3} more" if self.n_failures > 3 else ""
            raise CertificateError(f"the partition is not proved: {first}{more}")

    def recheck(self, partition: "Partition", model: "nn.Module | Program | None" = None) -> "Certificate":
        """Prove again, and insist that partition and network are those that this certificate is about.

        Returns
        -------
        Certificate
            The new one.

        Raises
        ------
        CertificateError
            If a digest differs, if the proof fails now, or if something else is proved now.
        """
        from splinecam_lite.partition.certify import certify

        again = certify(partition, model, decision=self.n_decision_faces > 0)
        for what in ("model_digest", "slice_digest", "partition_digest"):
            if getattr(self, what) != getattr(again, what):
                name = what.removesuffix("_digest")
                raise CertificateError(f"the certificate is about another {name}: the digests differ")
        if again.status != self.status:
            raise CertificateError(f"the certificate says '{self.status}', but now it is '{again.status}'")
        for what in PROVED_AGAIN:
            if getattr(self, what) != getattr(again, what):
                raise CertificateError(f"'{what}' of the certificate is not what is proved now")
        again.raise_if_failed()
        return again

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the certificate as JSON; the file appears only when it is complete."""
        from splinecam_lite.partition.export import replacing

        entries = {"format": FORMAT, "schema": SCHEMA, "status": self.status, **_plain(self)}
        with replacing(Path(path)) as file:
            file.write(json.dumps(entries, indent=1, allow_nan=False).encode())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Certificate":
        """Read a certificate that ``save`` has written.

        Raises
        ------
        FileNotFoundError, PermissionError
        FileError
            If the file is no certificate of this layout.
        """
        try:
            entries = json.loads(Path(path).read_bytes())
            if entries["format"] != FORMAT or entries["schema"] != SCHEMA:
                raise ValueError(f"it is '{entries['format']}', schema {entries['schema']}")
            certificate = _certificate_of(entries)
            str(certificate)  # numbers where numbers belong
            if certificate.status != entries["status"]:
                raise ValueError("its status is not what it lists")
            return certificate
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileError(f"'{path}' is no certificate of this version, or is damaged ({error})") from error


def _plain(certificate: Certificate) -> dict[str, Any]:
    entries = asdict(certificate)
    del entries["place_bounds"]
    return entries


def _certificate_of(entries: dict[str, Any]) -> Certificate:
    entries = {"approximation": "", **entries}  # of which older files know nothing
    given = {name: entries[name] for name in Certificate.__dataclass_fields__ if name != "place_bounds"}
    given["failures"] = tuple(Failure(**_with_knot(f)) for f in given["failures"])
    given["snapped"] = tuple(SnappedIncidence(**_with_knot(s)) for s in given["snapped"])
    given["proved"] = tuple(given["proved"])
    given["decisions"] = Decisions(**given["decisions"])
    return Certificate(**given)


def _with_knot(entries: dict[str, Any]) -> dict[str, Any]:
    return {**entries, "knot": None if entries["knot"] is None else tuple(entries["knot"])}
