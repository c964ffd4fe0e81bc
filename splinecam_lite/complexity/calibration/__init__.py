"""How good the sampled estimate is, against the exact count: what `complexity.calibrate` is made of.

planes.py          the planes, and frames of more directions that contain them
counts.py          estimates and exact counts of one network
statistics.py      ratios, correlations, components of variance, bootstrap intervals
tables.py          the rows of a calibration, from its counts
recommendation.py  the radius at which a wanted recall is kept
result.py          the calibration: rows, advice, text and JSON
"""
