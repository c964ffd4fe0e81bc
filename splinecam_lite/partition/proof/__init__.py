"""The proof behind `certify`: it shares with the engine the network, its evaluation in integers,
and the unit of snapping.

layout.py      numbers of knots, sides and ties; which lie on what
structure.py   integers only: cycles, edges, fans round vertices, the border
labels.py      edges differ in just their labels; the two lines that define a vertex
signs.py       signs of all knots at the vertices of a group of regions, in float64 with bounds
exact.py       double-double and rationals
vertices.py    places and signs at all vertices: groups first, then the exact stages
faces.py       no region is empty or wound round twice
decision.py    classes of the parts of regions
digest.py      what a certificate is about
"""
