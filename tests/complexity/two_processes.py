"""One of two processes of a training run, started by ``test_distributed.py``; writes down what it sees."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from splinecam_lite.complexity.monitor import LCMonitor
from splinecam_lite.errors import SplineCamError

PROBES = (7, 1)
"""Neither is a multiple of two; of the second, process 1 gets nothing."""


def network() -> nn.Module:
    torch.manual_seed(5)
    layers = [nn.Linear(4, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Dropout(0.2), nn.Linear(10, 10), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(10, 2))


def probes() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {f"of{n}": torch.randn(n, 4, generator=generator) for n in PROBES}


def monitor(model: nn.Module, **options) -> LCMonitor:
    return LCMonitor(model, options.pop("probes", probes()), range(9), 0.5, 3, **options)


def trained(folder: Path | None) -> dict:
    """Three steps on batches of this process's own, measured if there is a folder for the file."""
    rank, seen = dist.get_rank(), {"values": [], "states": []}
    model = DistributedDataParallel(network())
    measure = monitor(model, path=folder / "lc.jsonl") if folder else (lambda step: {})
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    torch.manual_seed(rank)
    for step in range(3):
        optimiser.zero_grad()
        model(torch.randn(6, 4) * (rank + 1)).square().mean().backward()
        optimiser.step()
        seen["states"].append({name: t.clone() for name, t in model.module.state_dict().items()})
        seen["values"].append(measure(step))
        after = model.module.state_dict()
        assert all(torch.equal(t, after[name]) for name, t in seen["states"][-1].items())
    return seen | {"random": torch.random.get_rng_state()}


def resumed(folder: Path) -> list[dict]:
    """Go on with a file that process 0 alone can read."""
    name = "lc.jsonl" if dist.get_rank() == 0 else "out of reach.jsonl"
    again = monitor(DistributedDataParallel(network()), path=folder / name)
    values = [again(step) for step in (1, 2, 3)]
    assert [record["step"] for record in again.history] == [0, 1, 2, 3]
    return values


def failing() -> tuple[str, str, dict]:
    """The point of process 1 overflows; afterwards both go on."""
    model, points = network(), probes()["of7"]
    points = points.double()
    points[1] = 1e308
    model[0].weight.data *= 100
    broken = monitor(model, probes={"of7": points})
    try:
        broken(0)
    except SplineCamError as error:
        caught = type(error).__name__, str(error)
    assert not broken.history
    return *caught, monitor(network())(0)


def sharded() -> list[str]:
    """What is said of both kinds of FSDP."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    messages = []
    mesh = init_device_mesh("cpu", (2,))
    for wrap in (
        lambda m: FullyShardedDataParallel(m, device_id=torch.device("cpu"), device_mesh=mesh),
        lambda m: fully_shard(m, mesh=mesh),
    ):
        try:
            monitor(wrap(network()))(0)
        except SplineCamError as error:
            messages.append(str(error))
    return messages


def metric() -> list[dict]:
    """A metric for which only process 0 has points, and one for which both have."""
    from splinecam_lite.complexity.adapters import LocalComplexityMetric

    values = []
    rank, points = dist.get_rank(), probes()["of7"]
    for shares in ([points[:0], points[:0]], [points, points[:0]], [points[:3], points[3:]]):
        one = LocalComplexityMetric(network(), (4,), 0.5, 3)
        one.update(shares[rank][:2])
        one.update(shares[rank][2:])
        values.append({name: float(value) for name, value in one.compute().items()})
    return values


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", store, timedelta(seconds=90), rank=rank, world_size=2)
    seen = {
        "with": trained(folder),
        "without": trained(None),
        "resumed": resumed(folder),
        "failing": failing(),
        "sharded": sharded(),
        "metric": metric(),
        # Process 1 does not call, and nobody waits for it.
        "alone": monitor(network(), distributed=False)(0) if rank == 0 else None,
    }
    dist.barrier()
    torch.save(seen, folder / f"seen{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
