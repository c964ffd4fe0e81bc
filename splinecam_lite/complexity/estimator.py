"""Local complexity, sampled: which neurons change sign among the vertices of a cross-polytope.

Source: "Deep Networks Always Grok and Here is Why" (arXiv 2402.15555, section 2.2, Eq. 6). The 2P vertices of
the neighbourhood of a point are pushed through the network; a neuron *crosses* if its preactivation ``z`` is
not on one side of 0 at all of them, 0 itself counting as positive:

    min z < 0 <= max z      over the vertices
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from splinecam_lite.complexity.batches import check_batch_size, default_batch, in_batches, is_int
from splinecam_lite.complexity.current import CurrentProgram
from splinecam_lite.complexity.frames import (
    Kind,
    as_points,
    as_tensor,
    check_frame,
    check_kind,
    check_radius,
    check_seed,
    on,
    random_frame,
    random_frames,
)
from splinecam_lite.complexity.layers import Layers, as_choices, chosen_layers, with_logits
from splinecam_lite.complexity.precision import without_tf32
from splinecam_lite.complexity.result import ComplexityResult
from splinecam_lite.complexity.vertices.vertices import Spread, vertex_ranges
from splinecam_lite.errors import ModelError, NeighbourhoodError
from splinecam_lite.network.exporting import new_tensors_on_the_cpu
from splinecam_lite.network.program import Program


class LocalComplexity:
    """The sampled local complexity of a network.

    Call it with points of shape (points, *input_shape), an array or a tensor; it returns a
    `ComplexityResult`. Any network that torch can export will do, GELU and attention included: a layer of
    preactivations is the input of one activation. The network is measured in eval mode, in full precision
    even under autocast, on the device where it lives, with the weights that it has at the time of the call;
    it and torch's random state are left as they are. Its forward hooks are not run: what is measured is the
    network without them, and a warning names them.

    The count is a lower bound on the neurons whose zero set meets the whole neighbourhood, and equal to it on
    the first layer; `exact_complexity` tells how much is missed.

    Parameters
    ----------
    model : nn.Module, Program, str or Path
        A module is exported at the first call, once, and again when something else than its weights has
        changed; an ``.onnx`` or ``.pt2`` file is read then.
    radius : float
        Of the neighbourhoods, in input units.
    directions : int
        P: 2P vertices a neighbourhood. Of orthonormal ones, at most the number of entries of an input.
    seed : int
        Of the frame. The same at every call, so that a curve over training does not depend on when it was
        measured.
    frame : (P, *input_shape), optional
        Orthonormal directions to use instead of random ones.
    frame_per_point : bool
        Draw a random frame for each point of a call, instead of one for all. Slower.
    kind : "orthonormal" or "gaussian"
        How directions are drawn: as an orthonormal frame, or as independent normal ones, scaled so that their
        *expected* length is 1 (`random_frame`); vertices then are at about the radius.
    centre : bool
        Take each point itself to its vertices: finds neurons that cross and come back in between.
    layers : str, int, callable, several of these, or None
        The layers to count: names, patterns such as ``"blocks.*"``, numbers, or what says yes or no to a
        `complexity.layers.LayerOf`. Default: all.
    logits : bool
        Count sign changes of the output as well, as a last layer that bears the name of what writes it.
    output : str or int, optional
        Where the network ends: the path of a module, a node, or the number of an entry of what the network
        returns, flattened; only layers before it are counted. Default: what the network returns, all of it if
        that is several values.
    start : str, optional
        Path of the module after which the network begins, e.g. the embedding ``"transformer.wte"``. Points
        are what the whole module takes, token ids, and are taken there first; or, if it is an
        ``nn.Embedding``, floating vectors, (points, tokens, channels). Frame and radius are of that place.
    dtype : torch.dtype
        float64, or float32: faster, and right but for preactivations within rounding of 0.

    Raises
    ------
    NeighbourhoodError
        If the radius is not positive, or the seed negative; when called, if points or frame do not fit the
        network, or there are fewer than P directions.
    ModelError
        When called, if one of ``layers``, ``start`` or ``output`` is not in the network, the dtype not on the
        device, or ``logits`` are wanted of several outputs.

    Examples
    --------
    Two lines cross the neighbourhood of the origin; the third passes at a distance.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).eval()
    >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    >>> _ = model[0].bias.data.copy_(torch.tensor([0.0, 0.0, 1.0]))
    >>> result = LocalComplexity(model, radius=0.5, directions=2)([[0.0, 0.0], [5.0, 5.0]])
    >>> result.per_layer.tolist(), result.layer_names
    ([[2], [0]], ('1',))
    """

    def __init__(
        self,
        model: nn.Module | Program | str | Path,
        radius: float = 0.005,
        directions: int = 25,
        seed: int = 0,
        *,
        frame: object = None,
        frame_per_point: bool = False,
        kind: Kind = "orthonormal",
        centre: bool = False,
        layers: Layers | None = None,
        logits: bool = False,
        output: str | int | None = None,
        start: str | None = None,
        dtype: torch.dtype = torch.float64,
    ):
        if dtype not in (torch.float64, torch.float32):
            raise TypeError(f"the dtype is {dtype}; give torch.float64 or torch.float32")
        self.kind = check_kind(kind)
        if frame is not None and (frame_per_point or kind != "orthonormal"):
            other = "frame_per_point" if frame_per_point else f"kind='{kind}'"
            raise TypeError(f"a frame and {other} were both given; give one")
        if not is_int(directions):
            raise TypeError(f"directions is {directions!r}; give how many, an int")
        self.radius, self.seed, self.dtype = check_radius(radius), check_seed(seed), dtype
        self.frame_per_point, self.centre, self.logits = frame_per_point, centre, logits
        self._layers = None if layers is None else as_choices(layers)
        if self._layers == () and not logits:
            raise ValueError("layers is empty; name at least one, or count the logits")
        self._frame = None if frame is None else as_tensor(frame).cpu().double()
        self.directions = int(directions) if self._frame is None else len(self._frame)
        self._network = CurrentProgram(model, start, output, all_outputs=not logits)

    def __call__(self, points: object, *, batch_size: int | None = None) -> ComplexityResult:
        """Count crossings around each point.

        Parameters
        ----------
        points : (points, *input_shape) array or tensor
        batch_size : int, optional
            Points at once, at least 1; the counts do not depend on it, but for preactivations within
            rounding of 0. Default: by the memory that they take. If memory does not suffice, half as many.

        Returns
        -------
        ComplexityResult
        """
        x, batch_size = as_points(points), check_batch_size(batch_size)
        check_device(self._network.device, self.dtype)
        exported, x = self._network.program_at(x)
        program = exported.to(self.dtype, self._network.device)
        chosen = chosen_layers(program, self._layers)
        if self.logits:
            chosen = (*chosen, len(program.n_neurons))
            program = with_logits(program)
        shared = None if self.frame_per_point else self._offset(program)

        def count(some: range) -> Tensor:
            centre = on(x[some.start : some.stop], program.dtype, program.device)
            offset = self._offset(program, some) if shared is None else shared
            return count_crossings(program, Spread(centre, offset), chosen).cpu()

        size = batch_size or default_batch(program, 2 * (self.directions + self.centre))
        counts = torch.cat(list(in_batches(len(x), size, count)))
        return ComplexityResult(
            counts.numpy(),
            np.array([program.n_neurons[layer] for layer in chosen], dtype=np.int64),
            tuple(program.layer_names[layer] for layer in chosen),
            self.radius,
            self.directions,
        )

    def frame(self, input_shape: tuple[int, ...], points: range | None = None) -> Tensor:
        """Return the frame that is used for inputs of this shape, or those of the given points.

        Returns
        -------
        (P, *input_shape) float64 Tensor, or (len(points), P, *input_shape) if each point has its own
        """
        if self._frame is not None:
            check_frame(self._frame, input_shape)
            if self._frame.ndim != len(input_shape) + 1:
                raise NeighbourhoodError(
                    f"the frame has shape {tuple(self._frame.shape)}; give one frame for all points, "
                    f"{('P', *input_shape)}, or frame_per_point=True for a random one each"
                )
            return self._frame
        if self.frame_per_point:
            if points is None:
                raise TypeError("every point has a frame of its own; say of which points")
            return random_frames(input_shape, self.directions, self.seed, numbers=points, kind=self.kind)
        return random_frame(input_shape, self.directions, self.seed, kind=self.kind)

    def _offset(self, program: Program, points: range | None = None) -> Tensor:
        """Steps to the vertices; one more, of length 0, to the centre."""
        steps = self.radius * self.frame(program.input_shape, points)
        if self.centre:
            axis = steps.ndim - len(program.input_shape) - 1
            steps = torch.cat((steps, torch.zeros_like(steps.narrow(axis, 0, 1))), dim=axis)
        return on(steps, program.dtype, program.device)


def check_device(device: torch.device, dtype: torch.dtype) -> None:
    """Raise `ModelError` unless a device computes in this dtype, and has numbers at all.

    Examples
    --------
    >>> check_device(torch.device("mps"), torch.float64)
    Traceback (most recent call last):
        ...
    splinecam_lite.errors.ModelError: the model is on mps, which has no float64; take dtype=torch.float32, ...
    """
    if device.type == "meta":
        raise ModelError("the model is on the meta device, and has no weights; load them first")
    if device.type == "mps" and dtype == torch.float64:
        raise ModelError(
            f"the model is on {device}, which has no float64; take dtype=torch.float32, or a copy of the "
            "model on the CPU"
        )


@torch.inference_mode()
def count_crossings(program: Program, inputs: Spread, layers: tuple[int, ...] | None = None) -> Tensor:
    """Count the neurons of each layer that cross in a batch of neighbourhoods.

    Parameters
    ----------
    program : Program
    inputs : Spread
        The points as centre, and the frame times the radius as offset.
    layers : tuple of int, optional
        Numbers of the layers to count, in ascending order; what comes after the last is not computed.

    Returns
    -------
    (batch, layers) int64 Tensor

    Raises
    ------
    ModelError
        If a preactivation is NaN or infinite.
    """
    chosen = tuple(range(len(program.n_neurons))) if layers is None else layers
    counts = torch.zeros(len(inputs.centre), len(chosen), dtype=torch.int64, device=program.device)
    if not chosen:
        return counts
    device = program.device
    with torch.autocast(device.type, enabled=False), new_tensors_on_the_cpu(), without_tf32(device):
        for layer, found in enumerate(vertex_ranges(program, inputs)):
            if layer in chosen:
                counts[:, chosen.index(layer)] = found.n_crossings()
            if layer == chosen[-1]:
                break
    return counts
