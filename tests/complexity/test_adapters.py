"""The adapters in real training runs of their frameworks, as small as they can be."""

import subprocess
import sys
import warnings

import lightning.pytorch
import pytest
import pytorch_lightning
import torch
import torchmetrics
import transformers
from torch import nn

from splinecam_lite.complexity import LocalComplexity
from splinecam_lite.complexity.adapters import LightningMonitor, LocalComplexityMetric, TrainerMonitor
from splinecam_lite.complexity.monitor import LCMonitor

POINTS = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def monitor(model: nn.Module, at=(0, 1, 3), **options) -> LCMonitor:
    return LCMonitor(model, {"train": POINTS}, at, 0.5, 3, **options)


def test_a_metric_is_the_estimate_of_all_points():
    model = network()
    metric = LocalComplexityMetric(model, (4,), 0.5, 3)
    for batch in (POINTS[:2], POINTS[2:2], POINTS[2:7], POINTS[7:]):
        metric.update(batch)
    whole, values = LocalComplexity(model, 0.5, 3)(POINTS), metric.compute()
    assert set(values) == {"layer1", "sum", "sum_ci99"}
    assert float(values["layer1"]) == pytest.approx(whole.per_layer[:, 0].mean())
    assert {f"lc/train/{name}": float(value) for name, value in values.items()} == pytest.approx(
        monitor(model)(0)
    )
    assert model.training

    metric.reset()
    metric.update(POINTS[:4])
    assert float(metric.compute()["sum"]) == pytest.approx(whole.per_layer[:4].sum() / 4)
    # forward: the value of the batch, and the sums go on.
    assert float(metric(POINTS[4:])["sum"]) == pytest.approx(whole.per_layer[4:].sum() / 5)
    assert float(metric.compute()["sum"]) == pytest.approx(whole.per_layer.sum() / 9)


def test_copies_of_a_metric_follow_the_same_network():
    model = network()
    metric = LocalComplexityMetric(model, POINTS, 0.5, 3, estimate={"layers": 0, "logits": True})
    collection = torchmetrics.MetricCollection({"lc": metric}).clone(prefix="test_")
    assert not list(metric.parameters())
    assert not metric.state_dict()
    with torch.no_grad():
        model[0].bias += 1.0
    collection.update(POINTS)
    now = LocalComplexity(model, 0.5, 3, layers=0, logits=True)(POINTS).per_layer.mean(axis=0)
    found = {name: float(value) for name, value in collection.compute().items()}
    assert [found["test_layer1"], found["test_layer2"]] == pytest.approx(now.tolist())


def test_a_metric_without_points_has_no_value():
    metric = LocalComplexityMetric(network(), (4,), 0.5, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics says so as well
        assert all(torch.isnan(value) for value in metric.compute().values())


def lightning_run(package, callbacks, **options):
    """Four updates in an epoch, two batches each; the module and its trainer."""

    class Module(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = network()

        def training_step(self, batch, index):
            return self.network(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.1)

        def forward(self, x):
            return self.network(x)

    module = Module()
    torch.manual_seed(2)
    data = torch.utils.data.TensorDataset(torch.randn(16, 4))
    trainer = package.Trainer(
        max_epochs=1,
        accelerator="cpu",
        accumulate_grad_batches=2,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks(module),
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers, intervals and loggers
        trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=2))
    return module, trainer


class Logger(lightning.pytorch.loggers.logger.Logger):
    """Keeps what it gets."""

    name, version = "kept", 0

    def __init__(self):
        super().__init__()
        self.kept = []

    def log_metrics(self, metrics, step=None):
        self.kept.append((step, metrics))

    def log_hyperparams(self, *args, **kwargs):
        pass


@pytest.mark.parametrize("of", ["network", "module"])
def test_a_lightning_trainer_logs_and_trains_as_without(of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []

    def callbacks(module):
        made.append(monitor(module.network if of == "network" else module))
        return [LightningMonitor(made[0])]

    logger = Logger()
    module, trainer = lightning_run(lightning.pytorch, callbacks, logger=logger)
    plain, _ = lightning_run(lightning.pytorch, lambda module: [], logger=False)
    for ours, theirs in zip(module.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    history = made[0].history
    assert [record["step"] for record in history] == [0, 1, 3]
    ours = [(step, values) for step, values in logger.kept if "lc/train/sum" in values]
    assert [{"step": step, **values} for step, values in ours] == history
    assert float(trainer.callback_metrics["lc/train/sum"]) == pytest.approx(history[-1]["lc/train/sum"])
    assert history[0]["lc/train/sum"] != history[-1]["lc/train/sum"]
    assert not list(tmp_path.iterdir())


def test_the_other_package_of_lightning_takes_the_same_callback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []

    def callbacks(module):
        made.append(monitor(module.network))
        return [LightningMonitor(made[0])]

    _, trainer = lightning_run(pytorch_lightning, callbacks, logger=False)
    assert len(made[0].history) == 3
    assert float(trainer.callback_metrics["lc/train/sum"]) == pytest.approx(
        made[0].history[-1]["lc/train/sum"]
    )


class Regression(nn.Module):
    """A network as transformers' Trainer wants it: from a batch to its loss."""

    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, x, labels=None):
        out = self.network(x)
        return {"loss": (out - labels).square().mean(), "logits": out}


def transformers_trainer(model, folder, data, callbacks=(), **options) -> transformers.Trainer:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=4,
        per_device_train_batch_size=2,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        logging_steps=100,
        seed=3,
        **options,
    )
    return transformers.Trainer(model, arguments, train_dataset=data, callbacks=list(callbacks))


class Reporter(transformers.TrainerCallback):
    """What Weights & Biases and the like get."""

    def __init__(self):
        self.reported = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.reported.append((state.global_step, dict(logs)))


@pytest.mark.parametrize("reported", [False, True])
def test_a_transformers_trainer_logs_and_trains_as_without(reported, tmp_path):
    generator = torch.Generator().manual_seed(4)
    data = [
        {"x": torch.randn(4, generator=generator), "labels": torch.randn(2, generator=generator)}
        for _ in range(8)
    ]
    model, plain, reporter = Regression(), Regression(), Reporter()
    watch = monitor(model.network)
    trainer = transformers_trainer(model, tmp_path, data, [reporter])
    trainer.add_callback(TrainerMonitor(watch, trainer.log if reported else None))
    trainer.train()
    transformers_trainer(plain, tmp_path, data).train()
    for ours, theirs in zip(model.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    logged = [entry for entry in trainer.state.log_history if "lc/train/sum" in entry]
    assert [record["step"] for record in watch.history] == [0, 1, 3]
    assert [{k: v for k, v in entry.items() if k != "epoch"} for entry in logged] == watch.history
    assert [entry["epoch"] for entry in logged] == [0, 0.25, 0.75]
    seen = [step for step, logs in reporter.reported if "lc/train/sum" in logs]
    assert seen == ([0, 1, 3] if reported else [])


def test_a_language_model_is_measured_after_its_embedding(tmp_path):
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=6, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config)
    tokens = torch.randint(0, 11, (8, 4), generator=torch.Generator().manual_seed(0))

    class Logits(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, tokens):
            # Without a cache, which the Trainer switches off, transformers numbers the samples of a batch for
            # its mask, and an export would treat each sample differently.
            return self.model(tokens, use_cache=True).logits

    start = "model.transformer.wte"
    watch = LCMonitor(Logits(model), {"train": tokens}, (0, 2), 0.2, 5, start=start)
    data = [{"input_ids": row, "labels": row} for row in tokens]
    trainer = transformers_trainer(model, tmp_path, data, [TrainerMonitor(watch)])
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "lc/train/sum" in entry]
    assert [entry["step"] for entry in logged] == [0, 2]
    assert 0 < logged[0]["lc/train/layer1"] < 4 * 32
    assert logged[0]["lc/train/layer1"] != logged[1]["lc/train/layer1"]


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("LocalComplexityMetric", ["torchmetrics"]),
        ("LightningMonitor", ["lightning", "pytorch_lightning"]),
        ("TrainerMonitor", ["transformers"]),
    ],
)
def test_a_missing_package_is_named_with_its_extra(name, packages, monkeypatch):
    module = f"splinecam_lite.complexity.adapters.{packages[0]}"
    monkeypatch.delitem(sys.modules, module)
    for package in list(sys.modules):
        if package.split(".")[0] in packages:
            monkeypatch.delitem(sys.modules, package)
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
    from splinecam_lite.complexity import adapters

    with pytest.raises(
        ImportError, match=rf"the package {packages[0]}, which .* pip install 'splinecam-lite\[adapters\]'"
    ):
        getattr(adapters, name)


def test_frameworks_are_imported_only_when_asked_for():
    code = """
import sys
from splinecam_lite.complexity import adapters
import splinecam_lite.complexity.monitor
assert set(adapters.__all__) <= set(dir(adapters))
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"lightning", "pytorch_lightning", "torchmetrics", "transformers"}, loaded
try:
    adapters.nothing
except AttributeError as error:
    assert "no attribute 'nothing'" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=240)
