"""A 64-bit number for every activation pattern: Zobrist hashing.

Each pattern bit has a fixed random key, and the hash is the exclusive-or of the keys of the bits that are
set, so that a face costs its active hinges, not its neurons. Keys depend on the number of the bit alone: a
pattern has the same hash in every block, in every process, and at every checkpoint of one architecture. Two
different patterns agree with probability 2^-64.

Source: A. L. Zobrist, "A new hashing method with application for game playing", 1970; the keys are the
outputs of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, Figure 16), whose constants are below.
"""

import numpy as np

from splinecam_lite.engine.kernels import kernel
from splinecam_lite.engine.predicate import lowest, without_lowest

GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)


@kernel
def _key(number):
    """Return the key of a pattern bit."""
    z = np.uint64(number + 1) * GAMMA
    z = (z ^ (z >> np.uint64(30))) * MIX_1
    z = (z ^ (z >> np.uint64(27))) * MIX_2
    return z ^ (z >> np.uint64(31))


@kernel
def hash_patterns(knots, bits, frozen):
    """Return the hashes (n_faces,) uint64 of the faces of one block; see `engine.Block` for the arguments."""
    common = np.uint64(0)
    for w in range(len(frozen)):
        rest = frozen[w]
        while rest:
            common ^= _key(64 * w + lowest(rest))
            rest = without_lowest(rest)
    keys = np.empty(len(knots), np.uint64)
    for j in range(len(knots)):
        keys[j] = _key(knots[j])
    out = np.empty(len(bits), np.uint64)
    for f in range(len(bits)):
        word = common
        for w in range(bits.shape[1]):
            rest = bits[f, w]
            while rest:
                word ^= keys[64 * w + lowest(rest)]
                rest = without_lowest(rest)
        out[f] = word
    return out
