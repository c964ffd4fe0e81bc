"""The three counts of a partition, by their full names; there is no fourth one called "regions".

==================  =================================================================================
activation regions  sets of points with one activation pattern
linear regions      adjacent activation regions with the same output map, merged: connected sets on
                    which the network is one affine map (`splinecam_lite.partition.linear`)
decision cells      connected sets of points with one predicted class
==================  =================================================================================

A linear region is a union of activation regions, so there are never more of them.
"""

from typing import TYPE_CHECKING

from splinecam_lite.errors import ModelError
from splinecam_lite.partition.approximations import briefly
from splinecam_lite.partition.linear import NEEDS_NETWORK, known_labels, linear_regions

if TYPE_CHECKING:
    from splinecam_lite.partition.result import Partition


def counts(partition: "Partition", *, compute: bool = True) -> dict[str, int]:
    """Return the counts by name; ``linear_regions`` is missing where it is not known.

    Parameters
    ----------
    partition : Partition
    compute : bool
        False: only what the partition knows already.

    Returns
    -------
    dict
        ``activation_regions``, ``linear_regions`` and ``decision_cells``. The linear regions are not known of
        a partition from a file in which they were not counted, until `Partition.linear_regions` is given the
        network, and of a network that cannot be evaluated exactly. The decision cells are not known of an
        exact partition from a file without its network.

    Examples
    --------
    >>> import torch, splinecam_lite as sc
    >>> counts(sc.partition(torch.nn.Linear(2, 1, bias=False).eval(), sc.Slice.box(-1, 1)))
    {'activation_regions': 1, 'linear_regions': 1, 'decision_cells': 2}
    """
    found = {"activation_regions": partition.n_regions}
    labels = known_labels(partition, compute=compute)
    if labels is not None:
        found["linear_regions"] = int(labels.max()) + 1
    if decision_known(partition, compute=compute):
        found["decision_cells"] = partition.n_decision_cells
    return found


def decision_known(partition: "Partition", *, compute: bool = True) -> bool:
    """Return whether the decision boundary is known, or, with ``compute``, can be found from here.

    In exact mode that needs the network, which a file does not hold.
    """
    if "_decision_boundary" in vars(partition):
        return True
    return compute and (partition.program is not None or not partition.exact)


def in_words(partition: "Partition", *, compute: bool = True) -> str:
    """Return the counts that are known as a phrase; takes the arguments of `counts`.

    Of an approximation it says so.

    Examples
    --------
    >>> import torch, splinecam_lite as sc
    >>> in_words(sc.partition(torch.nn.Linear(2, 1, bias=False).eval(), sc.Slice.box(-1, 1)))
    '1 activation region, 1 linear region, 2 decision cells'
    """
    named = counts(partition, compute=compute).items()
    words = ", ".join(counted(n, name.replace("_", " ")[:-1]) for name, n in named)
    approximation = briefly(partition.layers)
    return f"{words}, {approximation}" if approximation else words


def counted(n: int, what: str) -> str:
    """Return a number and what it counts, in the singular or the plural.

    Examples
    --------
    >>> counted(1, "decision cell"), counted(1500, "linear region")
    ('1 decision cell', '1,500 linear regions')
    """
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def summary(partition: "Partition") -> str:
    """Return what was found as text; see `Partition.summary`."""
    lines = [in_words(partition)]
    try:
        linear_regions(partition)
    except ModelError as error:
        lines.append(f"  linear regions are not counted: {error}")
    if not decision_known(partition):
        lines.append(f"  decision cells are not counted: {NEEDS_NETWORK}")
    lines.append(
        f"  {partition.n_vertices:,} vertices, {partition.n_edges:,} edges on {partition.plane.area:.6g} "
        "square input units"
    )
    for number, layer in enumerate(partition.counts_by_layer()):
        lines.append(
            f"  layer {number} '{layer.name}': {layer.n_knots:,} knots of {layer.n_neurons:,} "
            f"{'neurons' if layer.kind == 'activation' else 'comparisons'}, "
            f"{layer.knot_length:.6g} input units long, on {layer.n_edges:,} edges"
        )
    return "\n".join([*lines, str(partition.report)])
