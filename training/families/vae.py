"""Convolutional VAEs whose decoder is N(mu(z), I)."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from torch import Tensor

from lvmzoo.registry import ModelInfo
from training.data import Split
from training.families import config_of
from training.families.base import Metric, SampleSet
from training.families.images import QUALITY, SAMPLES, image_sets
from training.families.variational import VariationalFamily
from training.metrics import psnr, squared_error


class _VAE(VariationalFamily):
    metrics: ClassVar = {
        **VariationalFamily.metrics,
        "half_squared_error": Metric("0.5 ‖x - mu(z)‖², posterior draws", "images in [-1, 1]"),
        **QUALITY,
    }
    sample_metrics: ClassVar = SAMPLES
    limits = (
        "Samples and reconstructions are blurred: a decoder N(mu(z), I) with {latents} latents "
        "keeps the layout and colours of a picture and averages over the rest. The fixed unit "
        "variance also makes likelihoods comparable only among models of this zoo with the same "
        "data; no bits per dimension are given, since they would read worse than raw pixels by "
        "construction."
    )

    def terms(self, model: Any, x: Tensor, elbo: Mapping[str, Tensor]) -> dict[str, Tensor]:
        constant = 0.5 * x[0].numel() * math.log(2 * math.pi)
        return {
            "half_squared_error": -elbo["reconstruction"] - constant,
            "mse": squared_error(model.reconstruct(x), x),
        }

    def figures(self, examples: Mapping[str, Tensor]) -> dict[str, float]:
        return {"psnr": psnr(examples["mse"].mean().item())}

    def sample_sets(self, model: Any, real: Split) -> Iterator[SampleSet]:
        return image_sets(model, real)

    def sizes(self, config: Any) -> dict[str, str]:
        return {"latents": str(config.latent_dim)}

    def summary(self, info: ModelInfo) -> str:
        return info.summary.replace("16-D", f"{config_of(info).latent_dim}-D")

    def usage(self, info: ModelInfo) -> str:
        return (
            'x = lvmzoo.load_images(["a.png", "b.png"], model)  # any size and mode\n'
            "z = model.encode(x)\n"
            "y = model.decode(z)                        # in [0, 1]\n"
            "model.elbo(x)                              # nats: elbo, reconstruction, kl\n"
        )

    def headline(self, metrics: Mapping[str, float]) -> str:
        return f"ELBO {metrics['elbo']:.2f} nats, PSNR {metrics['psnr']:.2f} dB"


FAMILY = _VAE()
