"""VAEs on points in the plane whose true density is known."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from lvmzoo.plot import save_scatter
from lvmzoo.registry import ModelInfo
from training.data import READERS, Split
from training.data.synthetic import Gaussian
from training.families.base import Metric
from training.families.variational import VariationalFamily
from training.metrics import standard_error


class _VAE2D(VariationalFamily):
    metrics: ClassVar = {
        **VariationalFamily.metrics,
        "gap": Metric("gap: mean of log p_true(x) - ELBO(x)", "nats, 0 is perfect"),
        "gap_se": Metric("standard error of the gap", "nats"),
    }
    pictures: ClassVar = {"samples": "Samples"}
    limits = "Made to check the method: its data have a known density and no other use."
    elbo_samples = 16
    # Training it takes less than a minute.
    retrained = ("gap", 0.01)

    def terms(self, model: Any, x: Tensor, elbo: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {"gap": _truth(model.config.dataset).log_prob(x.cpu()) - elbo["elbo"].cpu()}

    def figures(self, examples: Mapping[str, Tensor]) -> dict[str, float]:
        return {"gap_se": standard_error(examples["gap"])}

    @torch.inference_mode()
    def draw(self, model: Any, split: Split, examples: Mapping[str, Tensor], stem: str) -> None:
        generator = torch.Generator().manual_seed(0)
        panels = {
            "data": split.x[:1000],
            "samples with decoder noise": model.sample(
                1000, decoder_noise=True, generator=generator
            ),
            "samples without": model.sample(1000, generator=generator),
        }
        save_scatter(panels, f"{stem}_samples.png")

    def headline(self, metrics: Mapping[str, float]) -> str:
        return (
            f"ELBO {metrics['elbo']:.2f} nats, "
            f"{metrics['gap']:.4f} ± {metrics['gap_se']:.4f} below the true density"
        )

    def data_text(self, info: ModelInfo) -> str:
        return _truth(info.dataset).formula


def _truth(dataset: str) -> Gaussian:
    reader = READERS[dataset]
    assert isinstance(reader, Gaussian)
    return reader


FAMILY = _VAE2D()
