"""Points drawn from a seed, whose true density is known."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from lvmzoo.registry import DataSet
from training.data.split import Split

_SIZES = {"train": 10_000, "validation": 2_500, "test": 2_500}


@dataclass(frozen=True)
class Gaussian:
    """Points x = mean + (eps * scale) R with eps ~ N(0, I) and R a rotation by 45 degrees."""

    mean: tuple[float, float]
    scale: tuple[float, float]
    seed: int  # of train; validation and test are drawn from the next two

    def load(self, data: DataSet, split: str, root: Path) -> Split:
        """Draw a split; nothing is read."""
        if split == "all":
            train, held_out = (self.load(data, part, root) for part in ("train", "validation"))
            x = torch.cat([train.x[:], held_out.x[:]])
            return replace(train, x=x, labels=torch.cat([train.labels, held_out.labels]))
        seed = self.seed + list(_SIZES).index(split)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(_SIZES[split], 2, generator=generator, dtype=torch.float64)
        scale, mean = (torch.tensor(v, dtype=torch.float64) for v in (self.scale, self.mean))
        x = mean + (noise * scale) @ _rotation()
        return Split(x.float(), torch.zeros(len(x)).long(), (), f"drawn from seed {seed}")

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the true log density of points (N, 2), (N,) float64 in nats."""
        factor = _rotation().T * torch.tensor(self.scale, dtype=torch.float64)
        mean = torch.tensor(self.mean, dtype=torch.float64)
        density: Tensor = MultivariateNormal(mean, factor @ factor.T).log_prob(x.double())
        return density

    @property
    def formula(self) -> str:
        """How the points are drawn, in one line."""
        entropy = math.log(2 * math.pi * math.e) + math.log(math.prod(self.scale) ** 2) / 2
        (a, b), (c, d) = self.mean, self.scale
        return (
            f"x = ({a:g}, {b:g}) + (eps * ({c:g}, {d:g})) R with "
            "eps ~ N(0, I), R = [[s, s], [-s, s]] and s = sqrt(2) / 2; "
            f"entropy {entropy:.3f} nats"
        )


def _rotation() -> Tensor:
    s = math.sqrt(2) / 2
    return torch.tensor([[s, s], [-s, s]], dtype=torch.float64)
