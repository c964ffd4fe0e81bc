"""The certificate: it holds of right partitions, says what rests on snapping, and is about what it says."""

import importlib
import itertools
import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

from splinecam_lite import Partition, Program, Slice, partition
from splinecam_lite.engine.plan import Tuning
from splinecam_lite.errors import CertificateError, FileError, ModelError
from splinecam_lite.partition.certificate import Certificate, Failure
from splinecam_lite.partition.certify import certify
from tests.agreement import slice_of
from tests.exact_networks import Abs
from tests.partition.networks import cases, compute, constant, deep, mlp
from tests.partition.test_degenerate_cases import BOX, concurrent_lines, lines_network

TINY = Tuning(group=2, block_vertices=16, piece_vertices=8)


class Residual(nn.Module):
    """Convolutions, a sum of two branches, averages: everything that is affine but no matrix."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.last = nn.Linear(27, 3)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        x = nn.functional.leaky_relu(x + self.second(x), 0.01)
        return self.last(self.pool(x).flatten(1))


def around(shape, radius=1.0) -> Slice:
    return Slice.around(np.random.default_rng(0).normal(size=shape), radius, seed=1)


# ---- what is right is proved -------------------------------------------------------------------


@given(cases)
def test_a_right_partition_is_proved(case):
    certificate = certify(compute(case), case.program())
    assert certificate.status == "proved", str(certificate)


@given(cases)
def test_an_exact_partition_is_proved(case):
    certificate = compute(case, exact=True).certify()
    assert certificate.status == "proved", str(certificate)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (lambda: Residual(), (1, 5, 5)),
        (
            lambda: nn.Sequential(
                nn.Linear(4, 9), nn.Hardtanh(), nn.Linear(9, 9), nn.ReLU6(), nn.Linear(9, 2)
            ),
            (4,),
        ),
        (lambda: nn.Sequential(nn.Linear(4, 9), nn.PReLU(9), nn.Linear(9, 9), Abs(), nn.Linear(9, 1)), (4,)),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 12), nn.LeakyReLU(), nn.Linear(12, 4)), (2, 3)),
        (lambda: nn.Linear(3, 2), (3,)),
    ],
    ids=["residual", "two breakpoints", "prelu and abs", "leaky", "affine"],
)
def test_kinds_of_networks(model, shape, exact):
    torch.manual_seed(1)
    part = partition(model().eval(), around(shape), exact=exact, threads=1)
    certificate = part.certify()
    assert certificate.status == "proved", str(certificate)
    assert certificate.n_decision_faces >= part.n_regions


def test_groups_do_not_matter(monkeypatch):
    part = partition(mlp(2, 16, 16, 3), Slice.box(-1, 1), threads=1, _tuning=TINY)
    assert len(part.blocks) > 10
    # By name: the package has a function where the room's name leads.
    proof_vertices = importlib.import_module("splinecam_lite.partition.proof.vertices")
    counts = []
    for size in (1, 64, 1 << 20):
        monkeypatch.setattr(proof_vertices, "SMALL_GROUP", size)
        certificate = part.certify()
        assert certificate.status == "proved"
        counts.append(sum(certificate.decisions.counts()))
    assert len(set(counts)) == 1


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_a_network_that_is_constant(value, n_outputs):
    assert partition(constant(value, n_outputs), Slice.box(-1, 1)).certify().status == "proved"


@pytest.mark.parametrize("decide", ["argmax", "argmin"])
def test_decisions(decide):
    part = partition(mlp(2, 12, 12, 4), Slice.box(-2, 2), decide=decide, threads=1)
    certificate = part.certify()
    assert certificate.status == "proved"
    assert certificate.n_decision_faces == part.decision_boundary().complex.n_faces > part.n_regions
    assert part.certify(decision=False).n_decision_faces == 0


@pytest.mark.parametrize("c", [1e-10, 1e10])
def test_columns_of_very_different_sizes(c):
    """Where biases do not scale with the weights, some limbs are not enough."""
    model = mlp(2, 12, 12, 8, 2)
    depth = 0
    for module in model:
        if isinstance(module, nn.Linear):
            depth += 1
            module.weight.data *= c
            module.bias.data *= c**depth
    assert partition(model, Slice.box(-1, 1), threads=1).certify().status == "proved"


# ---- snaps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [5, 20])
def test_what_rests_on_snapping_is_listed(n):
    model = lines_network(concurrent_lines(Fraction(3, 10), Fraction(1, 5), n))
    part = partition(model, slice_of(BOX))
    certificate = part.certify()
    assert certificate.status == "proved up to snaps"
    (vertex,) = {snap.vertex for snap in certificate.snapped}
    np.testing.assert_allclose(part.vertices[vertex], [0.3, 0.2], atol=1e-12)
    assert 0 < len(certificate.snapped) <= n - 2
    assert 0 < max(snap.displacement for snap in certificate.snapped) < 1e-15

    exact = partition(model, slice_of(BOX), exact=True).certify()
    assert exact.status == "proved"
    assert exact.n_regions > part.n_regions
    assert exact.decisions.double_double > 0 < exact.decisions.rational


def test_an_exact_partition_may_not_rest_on_snapping():
    model = lines_network(concurrent_lines(Fraction(3, 10), Fraction(1, 5), 5))
    part = replace(partition(model, slice_of(BOX)), exact=True)
    certificate = part.certify(decision=False)
    assert certificate.status == "not proved"
    assert {failure.fact for failure in certificate.failures} == {"incidence"}


# ---- what it is about ----------------------------------------------------------------------------


def test_another_network_is_told_by_its_digest():
    part, model = partition(mlp(2, 8, 3), Slice.box(-1, 1)), mlp(2, 8, 3)
    weight = model[0].weight.data
    weight[3, 1] = torch.nextafter(weight[3, 1], torch.tensor(np.inf, dtype=weight.dtype))
    certificate = part.certify(model)
    assert [failure.fact for failure in certificate.failures] == ["model"]
    with pytest.raises(CertificateError, match="the network is another one"):
        certificate.raise_if_failed()


def test_a_partition_from_a_file_needs_its_network(tmp_path):
    model = mlp(2, 8, 3)
    partition(model, Slice.box(-1, 1)).save(tmp_path / "part.npz")
    part = Partition.load(tmp_path / "part.npz")
    with pytest.raises(ModelError, match="give it"):
        part.certify()
    assert part.certify(model).status == "proved"
    assert part.certify(Program.from_module(model, (2,))).status == "proved"


def test_a_certificate_as_a_file(tmp_path):
    part = deep()
    certificate = part.certify()
    certificate.save(tmp_path / "proof.json")
    read = Certificate.load(tmp_path / "proof.json")
    assert read == certificate
    assert json.loads((tmp_path / "proof.json").read_text())["status"] == "proved"
    assert read.recheck(part).status == "proved"
    with pytest.raises(CertificateError, match="another slice"):
        read.recheck(partition(mlp(2, 16, 16, 3), Slice.box(-1, 2), threads=1))


def test_failures_survive_a_file(tmp_path):
    failure = Failure("sign", "the vertex lies 1 beyond it", region=3, vertex=2, knot=(0, 1, 0))
    certificate = replace(deep().certify(), failures=(failure,))
    certificate.save(tmp_path / "proof.json")
    read = Certificate.load(tmp_path / "proof.json")
    assert read.failures == (failure,)
    assert str(failure) in str(read)
    assert "region 3, vertex 2, layer 0 neuron 1" in str(failure)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "splinecam_lite certificate", "schema": 99}'])
def test_what_is_no_certificate_is_refused(tmp_path, text):
    (tmp_path / "proof.json").write_text(text)
    with pytest.raises(FileError, match="no certificate"):
        Certificate.load(tmp_path / "proof.json")


def test_a_status_that_does_not_fit_is_refused(tmp_path):
    deep().certify().save(tmp_path / "proof.json")
    text = (tmp_path / "proof.json").read_text()
    (tmp_path / "proof.json").write_text(text.replace('"failures": []', '"failures": null'))
    with pytest.raises(FileError, match="no certificate"):
        Certificate.load(tmp_path / "proof.json")


# ---- against exact places ------------------------------------------------------------------------


def test_places_and_areas_against_rationals():
    """Bounds on places hold, and exact areas sum to the domain's."""
    from splinecam_lite.network.exact.forms import ExactProgram
    from splinecam_lite.partition.certify import line_scales
    from splinecam_lite.partition.proof.labels import lines_at_vertices, sorted_labels
    from splinecam_lite.partition.proof.layout import layout_of
    from splinecam_lite.partition.proof.vertices import VertexProof

    part = deep()
    layout = layout_of(part.program)
    labels = sorted_labels(part, layout)
    lines = lines_at_vertices(part.complex, labels, layout.n_bits)
    exact = ExactProgram.on_slice(part.program, part.plane)
    scales = line_scales(part.program, part, layout)
    proof = VertexProof(part, exact, layout, labels, lines, scales, True, False)
    proof.run()
    places = [(Fraction(x, w), Fraction(y, w)) for x, y, w in proof.exact_points(np.arange(part.n_vertices))]
    for (x, y), place, rho, own, bound in zip(
        places, proof.place, proof.rho, part.vertices, proof.bounds, strict=True
    ):
        far = np.hypot(float(x - Fraction(place[0])), float(y - Fraction(place[1])))
        assert far <= rho < 1e-9
        assert np.hypot(float(x - Fraction(own[0])), float(y - Fraction(own[1]))) <= bound
    total = Fraction(0)
    for start, stop in itertools.pairwise(part.complex.face_ptr):
        corners = [places[v] for v in part.complex.face_vertex[start:stop]]
        area = sum(p[0] * q[1] - p[1] * q[0] for p, q in zip(corners, corners[1:] + corners[:1], strict=True))
        assert area > 0
        total += area / 2
    assert str(total) == part.certify().area


# ---- what a certificate is about -----------------------------------------------------------------


def test_an_exact_partition_from_a_file_is_proved_with_its_model(tmp_path):
    model = mlp(2, 8, 8, 3)
    part = partition(model, Slice.box(-1, 1), exact=True)
    part.save(tmp_path / "p.npz")
    loaded = Partition.load(tmp_path / "p.npz")
    certificate = loaded.certify(model)
    assert certificate.status == "proved"
    assert certificate.n_decision_faces > 0
    assert certificate.recheck(loaded, model).holds
    with pytest.raises(ModelError):
        loaded.certify()


def test_another_decision_is_another_partition():
    part = partition(mlp(2, 8, 8, 3), Slice.box(-1, 1))
    with pytest.raises(CertificateError, match="another partition"):
        part.certify().recheck(replace(part, decide="argmin"))


@pytest.mark.parametrize("entry", [("n_regions", 10**6), ("area", "7"), ("proved", ["all is well"])])
def test_a_falsified_certificate_is_found(tmp_path, entry):
    part = partition(mlp(2, 8, 8, 3), Slice.box(-1, 1))
    part.certify().save(tmp_path / "c.json")
    entries = json.loads((tmp_path / "c.json").read_text())
    (tmp_path / "c.json").write_text(json.dumps({**entries, entry[0]: entry[1]}))
    with pytest.raises(CertificateError, match=entry[0]):
        Certificate.load(tmp_path / "c.json").recheck(part)


def test_a_snap_on_a_constant_has_no_distance(tmp_path):
    """A preactivation that cancels to rounding noise on the whole domain: listed, and written as JSON."""
    model = mlp(2, 4, 1)
    with torch.no_grad():
        model[0].weight[:] = 0.0
        model[0].bias[:] = torch.tensor([0.1, 0.2, 0.3, 0.4])
        model[2].weight[:] = 1.0
        model[2].bias[:] = -(0.1 + 0.2 + 0.3 + 0.4)
    certificate = partition(nn.Sequential(*model, nn.ReLU()).eval(), Slice.box(-1, 1)).certify()
    assert certificate.holds
    certificate.save(tmp_path / "c.json")
    assert Certificate.load(tmp_path / "c.json") == certificate
