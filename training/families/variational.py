"""What the families of variational models share: the bounds on log p(x)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lvmzoo.models.vae import VariationalModel
from training.augment import draw_noise
from training.data import Split, as_input, batch_size
from training.families.base import Family, Measured, Metric, Objective, joined, means
from training.families.images import PICTURES, columns_of, draw_images
from training.recipe import Recipe


@dataclass(frozen=True)
class VariationalRecipe(Recipe):
    """How a variational model is trained."""

    path_gradient: bool = False  # of the ELBO: without the score of q (Roeder et al. 2017)


class VariationalObjective(Objective):
    """The negative ELBO of the whole model, by the gradient that the recipe asks for."""

    Recipe = VariationalRecipe

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw the noise of augmentation and of the posterior."""
        return draw_noise(n, generator), self.draw_latents(n, generator)

    def draw_latents(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw N(0, I), (n, latent_dim)."""
        return torch.randn(n, self.model.config.latent_dim, generator=generator)

    def batch(self, index: Tensor, *noise: Tensor) -> dict[str, Any]:
        """Return the arguments of `VariationalModel.forward`."""
        image_noise, latents = noise
        x = self.images(index, image_noise)
        return {"x": x, "noise": latents, "path_gradient": self.recipe.path_gradient}

    def validation_batch(self, model: Any, x: Tensor, generator: torch.Generator) -> dict[str, Any]:
        """Return the arguments of `VariationalModel.forward`."""
        return {"x": x, "generator": generator}


class VariationalFamily(Family):
    """Measures the evidence lower bound, its terms and the importance-weighted bound."""

    objectives = (VariationalObjective,)
    metrics: ClassVar[Mapping[str, Metric]] = {
        "elbo": Metric("ELBO", "nats, higher is better"),
        "reconstruction": Metric("E_q log p(x\\|z)", "nats, higher is better"),
        "kl": Metric("KL(q(z\\|x) ‖ p(z))", "nats"),
        "log_likelihood": Metric("importance-weighted bound, 64 samples", "nats, higher is better"),
    }
    pictures: ClassVar[Mapping[str, str]] = {"samples": "Samples", **PICTURES}
    elbo_samples: ClassVar[int] = 1
    importance_samples: ClassVar[int] = 64

    def terms(self, model: Any, x: Tensor, elbo: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what else is measured of each x, (N,) each, given the terms of the ELBO."""
        return {}

    def figures(self, examples: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the figures that are no means of terms."""
        return {}

    @torch.inference_mode()
    def draw(self, model: Any, split: Split, examples: Mapping[str, Tensor], stem: str) -> None:
        """Draw samples, reconstructions and interpolations of images."""
        x = as_input(split.x[: 6 * columns_of(model)]).to(model.device)
        draw_images(model, x, torch.Generator().manual_seed(0), stem)

    @torch.inference_mode()
    def measure(
        self, model: VariationalModel, split: Split, *, full: bool, train: Split | None = None
    ) -> Measured:
        """Measure; see `Family.measure`. The importance-weighted bound is what is costly."""
        draws, weighted_draws = (torch.Generator().manual_seed(seed) for seed in (0, 1))
        parts = []
        for x in split.x.split(batch_size(split.x.shape)):
            x = as_input(x).to(model.device)
            terms = model.score(
                x, num_samples=self.elbo_samples, importance_samples=0, generator=draws
            )
            if full:
                terms["log_likelihood"] = model.log_likelihood(
                    x, num_samples=self.importance_samples, generator=weighted_draws
                )
            parts.append(terms | self.terms(model, x, terms))
        examples = joined(parts)
        return means(examples) | self.figures(examples), examples
