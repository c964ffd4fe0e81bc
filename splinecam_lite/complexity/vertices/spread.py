"""Values at the vertices of neighbourhoods, while they are affine in the input."""

from dataclasses import dataclass

from torch import Tensor

from splinecam_lite.network.program import AffineOp


@dataclass(frozen=True)
class Spread:
    """A value at the vertices of a batch of neighbourhoods, while it is affine in the input.

    Attributes
    ----------
    centre : (batch, *shape)
    offset : (P, *shape), or (batch, P, *shape) with one frame for each point
        The value at vertex ``x ± r v_p`` is ``centre ± offset[p]``.
    known_reach : (*shape) Tensor, optional
        The largest ``|offset|`` over P, of a frame for all points; if it has been worked out.
    """

    centre: Tensor
    offset: Tensor
    known_reach: Tensor | None = None

    @property
    def is_shared(self) -> bool:
        """Whether the offset is that of all points."""
        return self.offset.ndim == self.centre.ndim

    @property
    def directions(self) -> int:
        """P."""
        return self.offset.shape[self._axis]

    @property
    def _axis(self) -> int:
        return self.offset.ndim - self.centre.ndim

    def apply(self, op: AffineOp, others: "list[Spread]") -> "Spread":
        """Apply an affine op to this and its further inputs."""
        parts = [self, *others]
        centre = op.run(*(s.centre for s in parts))
        if self._axis == 0:
            return Spread(centre, op.linear(*(s.offset for s in parts)))
        rows = op.linear(*(s.offset.flatten(0, 1) for s in parts))
        return Spread(centre, rows.unflatten(0, self.offset.shape[:2]))

    def reach(self) -> Tensor:
        """Largest distance of a vertex's value from the centre's, (*shape) or (batch, *shape)."""
        return self.offset.abs().amax(dim=self._axis) if self.known_reach is None else self.known_reach

    def range(self) -> tuple[Tensor, Tensor]:
        """Least and largest value over the vertices of each neighbourhood, (batch, *shape)."""
        reach = self.reach()
        return self.centre - reach, self.centre + reach
