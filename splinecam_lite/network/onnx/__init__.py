"""ONNX files as programs: opsets 8 to 21, read directly, without a runtime.

files.py        path, bytes or ModelProto -> a checked ModelProto
graph.py        ModelProto -> the nodes that the output needs; what is constant is evaluated here
node.py         one node as a module: its attributes, constants and operator
operators.py    the table of operators, made of
    linear.py       products, sums, convolutions, averages
    activations.py  functions of each entry
    pooling.py      windows: max and average pooling
    arranging.py    what only moves entries: reshapes, slices, padding
    resizing.py     nearest and linear resizing
    sizes.py        arithmetic on shapes
reader.py       all of it: file -> Program
"""

from splinecam_lite.network.onnx.reader import read_onnx

__all__ = ["read_onnx"]
