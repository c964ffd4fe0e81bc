"""Regions as a caller names them: one number, several, or a mask."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def chosen_regions(regions: ArrayLike | None, n_regions: int) -> NDArray[np.int64]:
    """Return region numbers as an array.

    Parameters
    ----------
    regions : int, (n,) int, (n_regions,) bool, or None
        None is all of them.
    n_regions : int

    Raises
    ------
    IndexError
        If there is no such region, or a mask has another length.

    Examples
    --------
    >>> chosen_regions(2, 3).tolist(), chosen_regions([True, False, True], 3).tolist()
    ([2], [0, 2])
    >>> chosen_regions([], 3).tolist()
    []
    """
    if regions is None:
        return np.arange(n_regions)
    chosen = np.atleast_1d(np.asarray(regions))
    if chosen.dtype == bool:
        if chosen.shape != (n_regions,):
            raise IndexError(
                f"the mask of regions has shape {chosen.shape}, but there are {n_regions} regions"
            )
        return np.flatnonzero(chosen)
    if chosen.ndim != 1 or (chosen.size and not np.issubdtype(chosen.dtype, np.integer)):
        raise IndexError(f"regions must be a list of numbers, not {chosen.dtype} of shape {chosen.shape}")
    if chosen.size and (chosen.min() < 0 or chosen.max() >= n_regions):
        bad = chosen.min() if chosen.min() < 0 else chosen.max()
        raise IndexError(f"there is no region {bad}: regions are 0 to {n_regions - 1}")
    return chosen.astype(np.int64)
