"""Networks saved by ``torch.export.save`` (.pt2), read without running what is in the file.

``torch.export.load`` would unpickle some weights and sample inputs, evaluate text as expressions, call any
function below ``torch`` that a node names, and load compiled libraries. None of that is needed: an archive is
a zip file with the graph as JSON and the weights as raw bytes. This reader takes

    models/NAME.json                         nodes, their arguments, and what is input, weight and output
    data/weights/NAME_weights_config.json    which file holds which weight, of which type, size and stride
    data/constants/NAME_constants_config.json

and refuses the rest: pickled tensors, objects, and any operator but public ones of ATen that touch no file.

    archive.py    the zip file: its JSON, and its tensors
    graph.py      the graph: what an output needs of it
    node.py       one node as a module: which functions are read, and its arguments
"""

from splinecam_lite.network.pt2.reader import read_archive

__all__ = ["read_archive"]
