"""What the commands take: one frozen dataclass each, whose docstrings are the text of ``--help``."""

# Annotations are read at run time, and the docstring of a field is one line: the help is wrapped anew.

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg, subcommand

# An option that need not be given: its help says so in words, where that matters, and not "(default: None)".
Word = Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")]
Data = Annotated[str | None, arg(metavar="FILE", help_behavior_hint="")]
File = Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")]
Folder = Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")]
Amount = Annotated[str | None, arg(metavar="AMOUNT", help_behavior_hint="")]
Words = Annotated[tuple[str, ...], arg(metavar="NAME=ERROR ...", help_behavior_hint="")]
Names = Annotated[tuple[str, ...], arg(metavar="NAME ...", help_behavior_hint="")]
Length = Annotated[float | None, arg(metavar="LENGTH", help_behavior_hint="")]
Numbers = Annotated[tuple[float, ...], arg(metavar="NUMBER ...", help_behavior_hint="")]
Integers = Annotated[tuple[int, ...], arg(metavar="INT ...", help_behavior_hint="")]
Count = Annotated[int | None, arg(metavar="INT", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class Network:
    """The network."""

    model: Annotated[Positional[str], arg(metavar="MODEL", help_behavior_hint="")]
    """Where the module is made: net.py:build or package.net:build. Or a whole network: net.onnx, net.pt2."""

    weights: File = None
    """State dict: .safetensors, .pt, .pth or .ckpt. Default: the weights it is made with, from seed 0."""

    input_shape: Integers = ()
    """Shape of one input, e.g. 1 28 28. Default: that of the data."""

    output: Word = None
    """Node or module path at which the network ends, or :3 for output 3 alone. Default: all outputs."""

    normalise: Numbers = ()
    """MEAN STD: the network sees (x - MEAN) / STD. For several channels, all means and then all stds."""


@dataclass(frozen=True, kw_only=True)
class OnSlice(Network):
    """A network on a slice."""

    points: Data = None
    """Three inputs (3, *input shape) in a .npy or .npz file, or FILE.npz:ARRAY: the slice through them."""

    around: Data = None
    """One input (*input shape) in such a file: the square around it, of half-width --radius."""

    box: Numbers = ()
    """LOW HIGH, or LOW1 LOW2 HIGH1 HIGH2: a rectangle, for networks of two inputs."""

    rows: Integers = ()
    """Rows of the file to take, counted from 0: three for --points, one for --around. Default: all."""

    margin: float = 0.25
    """With --points: what the domain is grown by on each side, as a part of its size."""

    radius: Length = None
    """With --around: half-width of the square, in input units."""

    seed: int = 0
    """With --around: seed of its two random directions."""

    approximate: Words = ()
    """Smooth activations to make piecewise linear, and within what error, e.g. gelu=1e-3 tanh=1e-3."""

    memory: Amount = None
    """What the work may take, e.g. 2GB; the regions do not depend on it. Default: half of what is free."""

    threads: Count = None
    """Threads to work with; the result does not depend on it. Default: all cores."""


@dataclass(frozen=True, kw_only=True)
class Partition(OnSlice):
    """Compute the exact partition of a network on a slice, given by one of --points, --around and --box."""

    decide: Literal["auto", "argmax", "argmin", "zero"] = "auto"
    """What the decision boundary is of; auto: argmax of several outputs, the zero set of one."""

    exact: bool = False
    """Decide every sign without rounding. Default: a knot within 2^-40 of a vertex passes through it."""

    certify: File = None
    """Prove the result and write the certificate to this .json file; exit code 1 where it is not proved."""

    out: File = None
    """Write .npz, which splinecam_lite.Partition.load reads, or the regions as .geojson, .parquet or .svg."""

    plot: File = None
    """Write a figure to this .png, .pdf, .svg or .jpg file."""

    color_by: Literal["class", "area", "norm", "pattern", "none"] = "class"
    """What the colour of a region says in the figure."""

    store: Folder = None
    """Write the partition to this folder, block by block, and keep none of it in memory. Goes on where an
    earlier run was stopped. splinecam_lite.StoredPartition.open reads it."""


@dataclass(frozen=True, kw_only=True)
class CountRegions(OnSlice):
    """Count and measure the regions and knots of a slice, given by one of --points, --around and --box.

    Takes little memory, however many there are.
    """


@dataclass(frozen=True, kw_only=True)
class Complexity(Network):
    """Count the knots near each of many inputs: the sampled local complexity (arXiv 2402.15555)."""

    points: Annotated[str, arg(metavar="FILE")]
    """Inputs (N, *input shape) in a .npy or .npz file (or FILE.npz:ARRAY)."""

    radius: float = 0.005
    """Radius of the cross-polytope around each input, in input units."""

    directions: int = 25
    """Random orthonormal directions; the network is evaluated at twice as many points around each input."""

    seed: int = 0
    """Seed of the directions."""

    layers: Names = ()
    """Names or patterns of the layers to count, e.g. 'blocks.*'. Default: all."""

    out: File = None
    """Write the counts to this .npz file: per_layer (N, layers), layer_names, and the options."""


@dataclass(frozen=True, kw_only=True)
class Calibrate(Network):
    """Hold the sampled local complexity against the exact count, in diamonds around inputs: recall, bias,
    correlations, and how large a radius may be. Writes a table, figures and all numbers to a folder."""

    points: Annotated[str, arg(metavar="FILE")]
    """Inputs (N, *input shape) in a .npy or .npz file (or FILE.npz:ARRAY)."""

    radii: Annotated[tuple[float, ...], arg(metavar="RADIUS ...")] = (0.001, 0.01, 0.1, 1.0)
    """Radii of the diamonds, in input units. The largest takes the longest."""

    directions: Integers = ()
    """Directions of the estimate, besides 2. Default: those of 5, 25 and 100 that the inputs have."""

    planes: int = 1
    """Random planes; with two or more, variance is split into that between points and between planes."""

    checkpoints: Annotated[tuple[Path, ...], arg(metavar="FILE ...", help_behavior_hint="")] = ()
    """State dicts, in the order of training, to compare curves over them. A number that ends a file's name
    is its step."""

    resamples: int = 1000
    """Bootstrap samples of the intervals."""

    seed: int = 0
    """Seed of planes, directions and bootstrap samples."""

    out: Folder = None
    """Write calibration.json, table.txt and figures to this folder; it is made if it does not exist."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Train a network on real digits and follow its linear regions; writes a folder with a report."""

    out: Annotated[Path, arg(metavar="FOLDER")] = Path("demo_out")
    """Folder to write; the report is FOLDER/report.html."""

    quick: bool = False
    """A much shorter run, to see what comes out."""


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """Compile all kernels now, so that the first partition does not wait for it."""


@dataclass(frozen=True, kw_only=True)
class Info:
    """Print versions, threads, and where compiled kernels are kept."""


Command = (
    Annotated[Partition, subcommand("partition")]
    | Annotated[CountRegions, subcommand("count")]
    | Annotated[Complexity, subcommand("complexity")]
    | Annotated[Calibrate, subcommand("calibrate")]
    | Annotated[Demo, subcommand("demo")]
    | Annotated[Warmup, subcommand("warmup")]
    | Annotated[Info, subcommand("info")]
)
