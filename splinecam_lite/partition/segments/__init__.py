"""The exact partition of a segment of the input space: knots in order, the map between two of them.

along.py       the march: layer by layer, with the engine's predicate and kernels
walk.py        exact mode: from knot to knot, every order and coincidence proved
pieces.py      maps and gradients of the pieces between knots
partition.py   both, checked against the network
result.py, report.py
"""
