"""What goes into the digest of a program: the constants of its operations, bit for bit."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from splinecam_lite.network.chain import Chain
from splinecam_lite.network.ops import Comparison


def feed(digest: Any, name: str, part: Any) -> None:
    """Feed one attribute of an op into a hash."""
    digest.update(name.encode())
    match part:
        case Tensor():
            digest.update(repr((part.dtype, tuple(part.shape))).encode())
            # A copy, not contiguous(): a tensor of one entry is contiguous whatever its strides are, and then
            # cannot be viewed as bytes.
            flat = part.detach().cpu().reshape(-1).clone(memory_format=torch.contiguous_format)
            digest.update(flat.view(torch.uint8).numpy().tobytes())
        case Chain():
            digest.update(part.signature().encode())
            feed(digest, "constants", part.constants)
        case Mapping():
            for key, tensor in sorted(part.items()):
                feed(digest, key, tensor)
        case tuple() if part and isinstance(part[0], Tensor):
            for tensor in part:
                feed(digest, name, tensor)
        case Comparison():
            for field_, entries in part._asdict().items():
                feed(digest, field_, torch.as_tensor(entries))
        case _:
            digest.update(repr(part).encode())
