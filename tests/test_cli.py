"""The command line as a new user meets it: what works, what is refused and how, what interruptions leave."""

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import splinecam_lite as sc
from splinecam_lite.cli import commands, main, warmup
from splinecam_lite.cli.files import finished_file
from splinecam_lite.cli.models import load_model
from splinecam_lite.cli.refusal import Refusal
from splinecam_lite.partition.certificate import Certificate

NETWORKS = """
    from torch import nn

    def build():
        return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 3))

    class Small(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(2, 4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 1))

    image = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2))

    def slow():
        hidden = [layer for _ in range(5) for layer in (nn.Linear(400, 400), nn.ReLU())]
        return nn.Sequential(nn.Linear(2, 400), nn.ReLU(), *hidden, nn.Linear(400, 10))

    def sized(width):
        return nn.Linear(2, width)

    def smooth():
        return nn.Sequential(nn.Linear(2, 3), nn.GELU())

    def number():
        return 3

    def broken():
        return undefined
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a user's files, good ones and bad ones."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "net.py").write_text(textwrap.dedent(NETWORKS))
    (folder / "syntax.py").write_text("def build(:\n")
    (folder / "hello.pt").write_bytes(b"hello")
    (folder / "cut.npy").write_bytes(b"\x93NUMPY")
    images = np.random.default_rng(0).random((5, 3, 2, 2))
    np.save(folder / "images.npy", images)
    np.save(folder / "flat.npy", images.reshape(5, 12))
    np.save(folder / "one.npy", images[0])
    np.savez(folder / "both.npz", x=images[:3], y=images[2:])
    np.save(folder / "line.npy", np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))
    np.save(folder / "nan.npy", np.full((3, 2), np.nan))
    np.save(folder / "words.npy", np.array(["a", "b", "c"]))
    np.save(folder / "objects.npy", np.array([{}]), allow_pickle=True)
    model = load_model(f"{folder / 'net.py'}:build", None)
    state = model.state_dict()
    save_file(state, folder / "w.safetensors")
    for name, saved in {
        "plain": state,
        "wrapped": {"epoch": 3, "state_dict": state},
        "compiled": {"model": {f"module._orig_mod.{key}": value for key, value in state.items()}},
        "module": model,
        "other": {"a": torch.zeros(2)},
        "shapes": state | {"0.weight": torch.zeros(5, 2)},
        "diverged": state | {"0.bias": torch.full((6,), torch.nan)},
        "epoch": {"epoch": 3},
    }.items():
        torch.save(saved, folder / f"{name}.pt")
    return folder


@pytest.fixture
def user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, as the current one."""
    monkeypatch.chdir(folder)
    return folder


def test_partition_of_a_box(user: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "slice.npz", tmp_path / "slice.png"
    assert (
        main(["partition", "net.py:build", "--box", "-1", "1", "--out", str(out), "--plot", str(plot)]) == 0
    )
    printed = capsys.readouterr()
    loaded = sc.Partition.load(out)
    assert printed.out.startswith(
        f"{loaded.n_regions} activation regions, {loaded.n_linear_regions} linear regions, "
        f"{loaded.n_decision_cells} decision cell"
    )
    assert "tracing it" in printed.err
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slice.npz", "slice.png"]
    whole = load_model("net.py:build", None)
    assert loaded.n_regions == sc.partition(whole, sc.Slice.box(-1, 1)).n_regions


def test_exact_mode_is_an_option(user: Path, tmp_path: Path) -> None:
    words = ["partition", "net.py:build", "--box", "-1", "1", "--out", str(tmp_path / "a.npz")]
    for option, exact in ([], False), (["--exact"], True):
        assert main(words + option) == 0
        assert sc.Partition.load(tmp_path / "a.npz").exact == exact


def test_the_certificate_is_written(user: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "proof.json"
    assert main(["partition", "net.py:build", "--box", "-1", "1", "--exact", "--certify", str(path)]) == 0
    assert "proved: " in capsys.readouterr().out
    certificate = Certificate.load(path)
    assert certificate.status == "proved"
    part = sc.partition(load_model("net.py:build", None), sc.Slice.box(-1, 1), exact=True)
    assert certificate.recheck(part).holds


def test_every_format_is_written(user: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first_bytes = {
        ".npz": b"PK",
        ".geojson": b'{"type": "FeatureCollection"',
        ".svg": b"<?xml",
        ".parquet": b"PAR1",
    }
    for suffix, head in first_bytes.items():
        out = tmp_path / f"slice{suffix}"
        assert main(["partition", "net.py:build", "--box", "-1", "1", "--out", str(out)]) == 0
        assert out.read_bytes().startswith(head)
        assert capsys.readouterr().out.endswith(f"wrote {out}\n")
    assert len(list(tmp_path.iterdir())) == len(first_bytes)


def test_a_missing_package_is_refused_before_any_work(
    user: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splinecam_lite.cli.files.find_spec", lambda name: None)
    words = ["partition", "net.py:build", "--box", "-1", "1", "--out", str(tmp_path / "a.parquet")]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "needs geopandas and pyarrow: pip install 'splinecam-lite[geo]'" in said
    assert "tracing" not in said


@pytest.mark.parametrize(
    "words",
    [
        ["net.py:image", "--points", "images.npy", "--rows", "0", "2", "4"],
        ["net.py:image", "--points", "both.npz:x", "--margin", "0"],
        ["net.py:image", "--points", "flat.npy", "--rows", "0", "2", "4", "--input-shape", "3", "2", "2"],
        [
            "net.py:image",
            "--around",
            "one.npy",
            "--radius",
            "0.5",
            "--normalise",
            "0",
            "0",
            "0",
            "1",
            "2",
            "3",
        ],
        ["net.py:image", "--around", "images.npy", "--rows", "1", "--radius", "1e-3", "--threads", "1"],
        ["net.py:Small", "--box", "-1", "-2", "1e-3", "2", "--decide", "zero"],
        ["net.py:build", "--box", "-1", "1", "--output", "0", "--decide", "argmin"],
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_each_way_to_say_where(words: list[str], user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["partition", *words]) == 0, capsys.readouterr().err
    assert "activation region" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["w.safetensors", "plain.pt", "wrapped.pt", "compiled.pt"])
def test_weights_come_without_wrapper_and_prefix(name: str, user: Path) -> None:
    own = load_model("net.py:build", None).state_dict()
    model = load_model("net.py:build", user / name)
    assert not model.training
    assert all(torch.equal(own[key], value) for key, value in model.state_dict().items())


def test_module_on_the_path(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(user))
    assert isinstance(load_model("net:Small", None), torch.nn.Sequential)


def test_complexity(user: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "lc.npz"
    words = ["net.py:image", "--points", "images.npy", "--radius", "2", "--directions", "4", "--seed", "1"]
    assert main(["complexity", *words, "--out", str(out)]) == 0
    counted = np.load(out)
    lc = sc.LocalComplexity(load_model("net.py:image", None), radius=2, directions=4, seed=1)
    assert counted["per_layer"].tolist() == lc(np.load("images.npy")).per_layer.tolist()
    assert counted["layer_names"].tolist() == ["2"]
    assert "all layers" in capsys.readouterr().out


def test_an_approximation_says_so(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    arguments = ["partition", "net.py:smooth", "--box", "-2", "2", "--approximate", "gelu=1e-2"]
    assert main([*arguments, "--certify", "a.json"]) == 0
    out = capsys.readouterr().out
    assert "of an approximation (gelu within 0.00998)" in out
    assert "this is the partition of an APPROXIMATION of the network: layer '1'" in out
    assert "certifies the approximation, not the network itself: layer '1'" in out


def test_count(user, capsys):
    assert main(["count", "net.py:build", "--box", "-1", "1", "--memory", "64MB", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    part = sc.partition(load_model("net.py:build", None), sc.Slice.box(-1, 1))
    knots = part.counts_by_layer()[0].n_knots
    assert out.startswith(f"{part.n_regions} activation regions\n  areas from ")
    assert f"layer 0 '1': {knots} knots of 6 neurons, " in out
    assert "outputs right to" in out


def test_counts_of_an_approximation_say_so(user, capsys):
    assert main(["count", "net.py:smooth", "--box", "-2", "2", "--approximate", "gelu=1e-2"]) == 0
    assert "activation regions, of an approximation (gelu within 0.00998)\n" in capsys.readouterr().out


def test_a_partition_is_stored_once(user, tmp_path, capsys):
    words = [
        "partition",
        "net.py:build",
        "--box",
        "-1",
        "1",
        "--store",
        str(tmp_path / "a"),
        "--memory",
        "1GiB",
    ]
    assert main(words) == 0
    first = capsys.readouterr().out
    stored = sc.StoredPartition.open(tmp_path / "a")
    assert first == f"{stored.tally.summary()}\n{tmp_path / 'a'} holds all of it\n"
    assert stored.load(load_model("net.py:build", None)).n_regions == stored.n_regions > 1
    assert main(words) == 0
    assert capsys.readouterr().out == first  # the seconds too: it was read, not computed
    assert main([*words, "--decide", "argmin"]) == 2
    assert "holds a partition of another decision" in capsys.readouterr().err


REFUSED = {
    "a MODEL without a name": (["net.py", "--box", "-1", "1"], "MODEL is 'net.py'; give FILE.py:NAME"),
    "no such file": (["nett.py:build", "--box", "-1", "1"], "there is no file nett.py"),
    "no such module": (["no.such:build", "--box", "-1", "1"], "there is no module 'no.such'"),
    "a misspelt name": (["net.py:biuld", "--box", "-1", "1"], "net.py has no 'biuld'; it has 'build'"),
    "a name that takes arguments": (["net.py:sized", "--box", "-1", "1"], "missing a required argument"),
    "no module made": (["net.py:number", "--box", "-1", "1"], "returns int, not an nn.Module"),
    "an error of the user's": (["net.py:broken", "--box", "-1", "1"], "line 27: NameError"),
    "no Python": (["syntax.py:build", "--box", "-1", "1"], "syntax.py is no Python: line 1"),
    "GELU": (["net.py:smooth", "--box", "-1", "1"], "is GELU, which is not piecewise linear"),
    "an approximation without an error": (
        ["net.py:smooth", "--box", "-1", "1", "--approximate", "gelu"],
        "--approximate has 'gelu'; name each activation once, with a positive error",
    ),
    "two errors for one": (
        ["net.py:smooth", "--box", "-1", "1", "--approximate", "gelu=1e-2", "gelu=1e-3"],
        "--approximate has 'gelu=1e-3'; name each activation once",
    ),
    "an approximation of what is not there": (
        ["net.py:smooth", "--box", "-1", "1", "--approximate", "tanh=1e-2"],
        "names 'tanh', which the network does not have; it has gelu",
    ),
    "no slice": (["net.py:build"], "there is none of them"),
    "two slices": (
        ["net.py:build", "--box", "-1", "1", "--points", "line.npy"],
        "there is --points and --box",
    ),
    "three numbers": (["net.py:build", "--box", "-1", "1", "2"], "--box has 3 numbers"),
    "an empty box": (["net.py:build", "--box", "1", "-1"], "low must be below high"),
    "a box for images": (["net.py:image", "--box", "-1", "1"], "does not run on a float64 input"),
    "points on a line": (["net.py:build", "--points", "line.npy"], "lie on one line"),
    "NaN": (["net.py:build", "--points", "nan.npy"], "give finite numbers"),
    "words": (["net.py:build", "--points", "words.npy"], "words.npy holds <U1, not numbers"),
    "pickled objects": (["net.py:build", "--points", "objects.npy"], "no plain array of numbers"),
    "half a file": (["net.py:build", "--points", "cut.npy"], "no plain array of numbers"),
    "two arrays": (["net.py:image", "--points", "both.npz"], "give one of both.npz:x, both.npz:y"),
    "five points": (["net.py:image", "--points", "images.npy"], "holds 5 inputs; choose three"),
    "no such row": (["net.py:image", "--points", "images.npy", "--rows", "0", "1", "9"], "there is no row 9"),
    "no radius": (["net.py:image", "--around", "one.npy"], "--around needs --radius"),
    "a radius for nothing": (
        ["net.py:build", "--box", "-1", "1", "--radius", "1"],
        "--radius goes with --around",
    ),
    "a negative radius": (
        ["net.py:image", "--around", "one.npy", "--radius", "-1"],
        "must be a positive number",
    ),
    "no folder": (["net.py:build", "--box", "-1", "1", "--out", "no/a.npz"], "there is no folder no"),
    "no figure": (["net.py:build", "--box", "-1", "1", "--plot", "a.txt"], "must end in .png or .pdf"),
    "no threads": (["net.py:build", "--box", "-1", "1", "--threads", "0"], "--threads is 0"),
    "half a normalisation": (["net.py:build", "--box", "-1", "1", "--normalise", "1"], "give MEAN STD"),
    "no amount of memory": (
        ["net.py:build", "--box", "-1", "1", "--memory", "much"],
        "--memory is 'much'; give bytes, or an amount such as '2GB'",
    ),
    "a figure of what is on disk": (
        ["net.py:build", "--box", "-1", "1", "--store", "part", "--plot", "a.png"],
        "--store keeps the partition on disk and --plot needs it in memory",
    ),
    "a folder of the user's own": (
        ["net.py:build", "--box", "-1", "1", "--store", "."],
        "'.' is not a partition's folder; name another one, or an empty one",
    ),
    "no zero of three": (["net.py:build", "--box", "-1", "1", "--decide", "zero"], "needs one output"),
    "no such node": (["net.py:build", "--box", "-1", "1", "--output", "act"], "no node or module 'act'"),
}


@pytest.mark.parametrize(("words", "said"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(
    words: list[str], said: str, user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(os.listdir())
    assert main(["partition", *words]) == 2
    printed = capsys.readouterr()
    last = printed.err.splitlines()[-1]
    assert last.startswith("splinecam-lite: ")
    assert said in last
    assert not printed.out
    assert sorted(name for name in os.listdir() if name != "__pycache__") == [
        name for name in before if name != "__pycache__"
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.pt", "there is no file none.pt"),
        ("hello.pt", "no file of weights that torch can read"),
        ("module.pt", "save model.state_dict()"),
        ("other.pt", "lacks '0.weight', '0.bias', '2.weight', '2.bias' and has 'a'"),
        ("shapes.pt", "'0.weight' has shape (5, 2) in shapes.pt, but (6, 2) in the module"),
        ("diverged.pt", "NaN or infinite"),
        ("epoch.pt", "holds no state dict"),
        ("net.py", "give a .safetensors, .pt, .pth, .ckpt or .bin file"),
    ],
)
def test_weights_refused_by_name(
    name: str, said: str, user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["partition", "net.py:build", "--weights", name, "--box", "-1", "1"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["partiton"], ["partition", "net.py:build", "--boks", "1"], ["demo", "--out"]]
)
def test_words_that_are_no_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "--help" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    """Torch, numba and matplotlib take seconds to import; ``--help`` must not wait for them."""
    source = """if True:
        import sys
        from splinecam_lite.cli import main
        code = main(["partition", "--help"])
        heavy = {"torch", "numba", "matplotlib", "scipy", "shapely", "networkx"} & set(sys.modules)
        sys.exit(f"imported: {heavy}" if heavy else code)
    """
    run = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "--around" in run.stdout


def test_info_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("splinecam-lite", "torch", "numba", "kernels", "cache"))
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"splinecam-lite {sc.__version__}\n"


def test_first_use_says_that_it_compiles(
    user: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("splinecam_lite.engine.kernels.is_compiled", lambda: False)
    monkeypatch.setattr(warmup, "use_every_kernel", lambda: None)
    assert main(["partition", "net.py:build", "--box", "-1", "1"]) == 0
    assert "compiling kernels (once per version; about 30 s)" in capsys.readouterr().err


def test_demo_hands_over_to_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def run_demo(out: Path, quick: bool) -> Path:
        asked.append((out, quick))
        return out / "report.html"

    monkeypatch.setattr("splinecam_lite.studies.demo.run_demo", run_demo)
    assert main(["demo", "--out", str(tmp_path), "--quick"]) == 0
    assert asked == [(tmp_path, True)]
    assert str(tmp_path / "report.html") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "a.npz"), 1, "No space left on device: a.npz"),
        (MemoryError(), 1, "out of memory"),
        (sc.ComplexError("V - E + F = 2"), 1, "V - E + F = 2"),
        (sc.MemoryBudgetError("the first 9 regions take 5 MB"), 1, "the first 9 regions take 5 MB"),
        (OSError(errno.ENOENT, "no such folder: did not fit in '/gone'"), 1, ": no such folder: did not fit"),
        (Refusal("no"), 2, "no"),
    ],
)
def test_every_end_has_its_code(
    raised: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def info(given: object) -> None:
        raise raised

    monkeypatch.setattr(commands, "info", info)
    assert main(["info"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_file_is_complete_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    path.write_text("old")

    def write() -> None:
        with finished_file(path) as draft:
            draft.write_text("ne")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("figure.png", "old")]
    with finished_file(path) as draft:
        draft.write_text("new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("figure.png", "new")]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals are another matter there")
def test_interruption_at_work_is_clean(folder: Path, tmp_path: Path) -> None:
    words = ["partition", "net.py:slow", "--box", "-1", "1", "--out", str(tmp_path / "a.npz")]
    process = subprocess.Popen(
        [sys.executable, "-m", "splinecam_lite.cli", *words],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stderr is not None
    said = b""
    while not re.search(
        rb"tracing it \.\.\. \d+\.\d s", said
    ):  # what follows is the engine, for many seconds
        said += os.read(process.stderr.fileno(), 1000)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (said + err).decode()
    assert err.decode().endswith("splinecam-lite: interrupted\n")
    assert b"Traceback" not in err
    assert not out
    assert not list(tmp_path.iterdir())


def test_a_reader_that_goes_away_is_no_error() -> None:
    words = f"{sys.executable} -m splinecam_lite.cli info | true"
    run = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=False)
    assert "Traceback" not in run.stderr
    assert "Exception" not in run.stderr


@pytest.mark.parametrize(
    ("given", "wanted"), [(None, None), (":3", 3), ("3", "3"), ("fc", "fc"), (":x", ":x"), (":", ":")]
)
def test_an_output_is_a_number_or_a_name(given, wanted):
    assert commands.wanted_output(given) == wanted
