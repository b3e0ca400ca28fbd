"""The flow prior of a VLAE: log-densities and samples."""

import torch

from benchmarks._harness import Row, Settings, compare, installed
from lvmzoo.loading import create_model
from lvmzoo.models.vlae import VLAE
from lvmzoo.sampling import invert_flow

DIM, HIDDEN = 16, (512, 512)
LIMIT, ZUKO = "one pass through the network", "zuko MAF"


def run(settings: Settings) -> list[Row]:
    """Return the times of densities and samples of many latents."""
    model = create_model("vlae_cifar10", pretrained=True).to(settings.device)
    assert isinstance(model, VLAE)
    prior, n = model.prior.requires_grad_(False), settings.pick(1024, 8)
    z = torch.randn(n, DIM, device=settings.device)
    densities = {"lvmzoo": lambda: prior.log_prob(z), LIMIT: lambda: prior.net(z)}
    samples = {"lvmzoo": lambda: invert_flow(prior, z), LIMIT: lambda: prior.net(z)}
    if installed("zuko"):
        import zuko

        flow = zuko.flows.MAF(
            DIM, transforms=1, hidden_features=HIDDEN, activation=torch.nn.SiLU
        ).to(settings.device)
        flow.requires_grad_(False)
        densities[ZUKO] = lambda: flow().log_prob(z)
        samples[ZUKO] = lambda: flow().sample((n,))
    rows = []
    for what, works in {"log-density": densities, "sampling": samples}.items():
        work = f"VLAE prior: {what} of {n:,} latents"
        sides = [Row(work, LIMIT, "limit"), Row(work, ZUKO, "peer")]
        rows += compare(sides, works, settings, rounds=9)
    return rows
