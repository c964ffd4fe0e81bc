"""Partitions of approximations: right about them, and every result says what it is of."""

import json
from dataclasses import replace

import networkx
import numpy as np
import pytest
import torch
from torch import nn

from splinecam_lite import ModelError, Partition, Program, Segment, Slice, partition
from splinecam_lite.partition.certificate import Certificate
from splinecam_lite.partition.certify import certify

SHORT = r"of an approximation (gelu within "
BOX = Slice.box(-2, 2)
WANTED = {"gelu": 1e-2, "tanh": 3e-2}


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(2, 6), nn.GELU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)
    ).eval()


@pytest.fixture(scope="module")
def part(model) -> Partition:
    return partition(model, BOX, approximate=WANTED)


def test_it_is_the_partition_of_the_approximation(model, part):
    program = Program.from_module(model, (2,)).approximated(WANTED)
    assert part.n_regions > 100
    assert part.model_digest == program.digest()
    points = np.random.default_rng(0).uniform(-2, 2, (3000, 2))
    region = part.locate(points)
    x = torch.from_numpy(points)
    A, b = part.affine_maps()
    linear = np.einsum("noi,ni->no", A[region], points) + b[region]
    np.testing.assert_allclose(linear, program.run(x).numpy(), atol=1e-10)
    with torch.no_grad():
        away = np.abs(linear - model.double()(x).numpy()).max()
    model.float()
    assert 1e-6 < away < 0.3
    values = program.run(x, keep=[op.inputs[0] for op in program.preactivation_ops])
    for layer, op in enumerate(program.preactivation_ops):
        z = values[op.inputs[0]]
        above = torch.stack([z - b for b in op.breakpoints], dim=1).numpy()
        clear = np.abs(above) > 1e-9
        assert ((part.pattern_bits(layer, region) == (above > 0)) | ~clear).all()


def test_exact_mode_and_certificate(model, part):
    exact = partition(model, BOX, approximate=WANTED, exact=True)
    assert exact.n_regions == part.n_regions
    np.testing.assert_array_equal(np.sort(exact.pattern_hashes()), np.sort(part.pattern_hashes()))
    assert exact.certify().status == "proved"


def assert_says_so(text: str) -> None:
    assert SHORT in text
    assert "tanh within 0.0" in text


def test_reports_say_so(part):
    assert_says_so(repr(part))
    assert_says_so(part.summary())
    text = str(part.report)
    assert "this is the partition of an APPROXIMATION of the network" in text
    assert "layer '1' is piecewise linear in place of gelu, from which it differs by at most 0.0" in text
    assert [name for name, _ in part.report.approximated] == ["1", "3"]
    for _, (function, tolerance, error) in part.report.approximated:
        assert tolerance == WANTED[function]
        assert 0.5 * tolerance < error <= tolerance


def test_other_partitions_do_not(model):
    program = Program.from_module(model, (2,), output="0")
    plain = partition(program, BOX)
    for text in (repr(plain), plain.summary(), str(plain.report), str(plain.certify())):
        assert "approx" not in text.lower()
    assert "approx" not in plain.plot().get_title()


def test_files_say_so(model, part, tmp_path):
    part.save(tmp_path / "a.npz")
    loaded = Partition.load(tmp_path / "a.npz")
    assert loaded.report.approximated == part.report.approximated
    assert loaded.layers == part.layers
    assert_says_so(repr(loaded))
    assert_says_so(loaded.summary())
    # The module that was partitioned is enough: it is approximated likewise.
    again = Partition.load(tmp_path / "a.npz", model)
    assert again.program.digest() == part.model_digest
    assert loaded.certify(model).status == "proved"
    other = Program.from_module(model, (2,)).approximated(WANTED | {"tanh": 0.1})
    with pytest.raises(ModelError, match="not the network that was partitioned"):
        Partition.load(tmp_path / "a.npz", other)


def test_exports_say_so(part, tmp_path):
    part.to_geojson(tmp_path / "a.geojson")
    about = json.loads((tmp_path / "a.geojson").read_text())["partition"]
    first, second = about["approximations"]
    assert first["layer"] == "1"
    assert (first["function"], first["tolerance"]) == ("gelu", 1e-2)
    assert second["proved_error"] <= 3e-2
    part.to_svg(tmp_path / "a.svg")
    assert_says_so((tmp_path / "a.svg").read_text())
    graph = part.to_networkx()
    assert graph.graph["approximations"] == about["approximations"]
    assert isinstance(graph, networkx.Graph)
    geopandas = pytest.importorskip("geopandas")
    frame = part.to_geopandas()
    assert isinstance(frame, geopandas.GeoDataFrame)
    assert frame.attrs["partition"]["approximations"] == about["approximations"]


def test_figures_say_so(model, part):
    assert_says_so(part.plot().get_title())
    title = part.plot(title="my network").get_title()
    assert title.startswith("my network\n")
    assert_says_so(title)
    piece = partition(model, Segment.between([-1, -1], [1, 1]), approximate=WANTED)
    assert_says_so(piece.plot()[0].get_title())
    assert_says_so(piece.plot(title="mine")[0].get_title())


def test_certificates_say_so(model, part, tmp_path):
    certificate = part.certify()
    assert certificate.holds
    assert "certifies the approximation, not the network itself" in str(certificate)
    certificate.save(tmp_path / "a.json")
    read = Certificate.load(tmp_path / "a.json")
    assert read.approximation == certificate.approximation
    assert "APPROXIMATION" in read.approximation
    assert read.recheck(part, model).holds


def test_a_partition_that_lies_about_it_is_not_proved(part):
    def claimed(error):
        layer = part.layers[0]
        layers = (layer._replace(approximation=error and layer.approximation._replace(proved_error=error)),)
        return replace(part, layers=layers + part.layers[1:])

    for error in (None, 1e-5):
        certificate = certify(claimed(error), part.program)
        assert certificate.status == "not proved"
        assert "other approximations" in str(certificate)


def test_old_certificates_are_read(part, tmp_path):
    part.certify().save(tmp_path / "a.json")
    entries = json.loads((tmp_path / "a.json").read_text())
    del entries["approximation"]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    assert Certificate.load(tmp_path / "a.json").approximation == ""


@pytest.mark.parametrize("exact", [False, True])
def test_segments(model, exact):
    piece = partition(model, Segment.between([-2, -1], [2, 1.5]), approximate=WANTED, exact=exact)
    program = Program.from_module(model, (2,)).approximated(WANTED)
    assert piece.n_pieces > 15
    assert_says_so(repr(piece))
    assert "APPROXIMATION" in str(piece.report)
    assert "APPROXIMATION" in piece.summary()
    t = np.linspace(0, 1, 501)
    outputs = program.run(piece.segment.lift(t)).numpy()
    between = np.stack([np.interp(t, piece.t, column) for column in piece.outputs.T], axis=1)
    np.testing.assert_allclose(between, outputs, atol=1e-9)


def test_a_program_may_be_given(model, part):
    program = Program.from_module(model, (2,))
    assert partition(program, BOX, approximate=WANTED).model_digest == part.model_digest
    ready = program.approximated(WANTED)
    assert_says_so(repr(partition(ready, BOX)))
    with pytest.raises(ModelError, match="names 'gelu', which the network does not have; it has no smooth"):
        partition(ready, BOX, approximate=WANTED)


def test_without_it_the_refusal_names_it(model):
    with pytest.raises(ModelError, match=r"layer '1' .* is GELU.*approximate=\{'gelu': 1e-3\}"):
        partition(model, BOX)
    with pytest.raises(ModelError, match=r"layer '3' .* is tanh.*approximate=\{'tanh': 1e-3\}"):
        partition(model, BOX, approximate={"gelu": 1e-2})
    with pytest.raises(ModelError, match="the tolerance of 'gelu' is -1"):
        partition(model, BOX, approximate={"gelu": -1})


def test_finer_tolerances_come_nearer(model):
    points = np.random.default_rng(1).uniform(-2, 2, (2000, 2))
    expected = Program.from_module(model, (2,)).run(points).numpy()
    away = []
    for tolerance in (1e-1, 1e-2, 1e-3):
        fine = partition(model, BOX, approximate=dict.fromkeys(WANTED, tolerance))
        A, b = fine.affine_maps()
        region = fine.locate(points)
        away.append(np.abs(np.einsum("noi,ni->no", A[region], points) + b[region] - expected).max())
    assert 0 < away[2] < away[1] / 4 < away[0] / 16
