"""What a run trains: a component of the model, on which batches, from which noise."""

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from lvmzoo.checkpoint import submodule
from lvmzoo.models.base import ZooModel
from lvmzoo.models.vqvae import VQVAE
from training.augment import augment, draw_noise, flipped
from training.data import as_input
from training.recipe import AutoencoderRecipe, PriorRecipe

if TYPE_CHECKING:
    from training.trainer import Run

__all__ = ["OBJECTIVES", "AutoencoderObjective", "Objective", "PriorObjective"]

# Images whose features dead codes are moved to, and by whose codes they are found dead.
REVIVAL_IMAGES = 256
CHUNK = 500


class Objective:
    """The whole model, by its own training step: `model(x, labels, noise=noise)`.

    Arguments:
        model: On its device; parts that were trained before are in it.
        run: The run.
    """

    component: ClassVar[str] = "model"

    def __init__(self, model: ZooModel, run: "Run") -> None:
        self.model, self.recipe = model, run.recipe
        self.x, self.labels = run.train.x.to(model.device), run.train.labels.to(model.device)

    @property
    def module(self) -> nn.Module:
        """What is trained; it returns a NamedTuple that begins with the loss."""
        return submodule(self.model, self.component)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw the noise of a whole batch, on the CPU: n rows each."""
        shift = draw_noise(n, generator)
        return shift, torch.randn(n, self.model.config.latent_dim, generator=generator)

    def batch(self, index: Tensor, *noise: Tensor) -> dict[str, Any]:
        """Return the module's arguments for these examples; the noise is on the device."""
        shift, posterior = noise
        return {"x": self.images(index, shift), "labels": self.labels[index], "noise": posterior}

    def validation_batch(self, model: Any, x: Tensor, generator: torch.Generator) -> dict[str, Any]:
        """Return the arguments of the module of `model` for validation examples x."""
        return {"x": x, "generator": generator}

    def before_step(self, step: int, total_steps: int, generator: torch.Generator) -> None:
        """Do what training does beside gradients."""

    def images(self, index: Tensor, shift: Tensor) -> Tensor:
        """Return augmented images, or points as they are."""
        x = self.x[index]
        if x.dtype != torch.uint8:
            return x
        x = augment(as_input(x), self.recipe.augment, shift)
        return x.contiguous(memory_format=torch.channels_last)


class AutoencoderObjective(Objective):
    """The autoencoder of a VQ-VAE."""

    component = "autoencoder"
    model: VQVAE
    recipe: AutoencoderRecipe

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw the noise of the augmentation."""
        return (draw_noise(n, generator),)

    def batch(self, index: Tensor, *noise: Tensor) -> dict[str, Any]:
        """Return the images."""
        return {"x": self.images(index, noise[0])}

    def validation_batch(self, model: Any, x: Tensor, generator: torch.Generator) -> dict[str, Any]:
        """Return the images."""
        return {"x": x}

    @torch.no_grad()
    def before_step(self, step: int, total_steps: int, generator: torch.Generator) -> None:
        """Move dead codes to features of random images, in the first half of the run.

        Codes count as dead by those images too, so that there is no count to keep.
        """
        every = self.recipe.revive_every
        if not every or step % every or step > total_steps // 2:
            return
        autoencoder = self.model.autoencoder
        index = torch.randint(len(self.x), (REVIVAL_IMAGES,), generator=generator)
        noise = draw_noise(len(index), generator).to(self.x.device)
        x = self.images(index.to(self.x.device), noise)
        features = torch.cat([autoencoder.features(part) for part in x.split(128)])
        features = features.permute(0, 2, 3, 1).flatten(0, 2)
        autoencoder.quantizer.revive(features, generator)


class PriorObjective(Objective):
    """The prior of a VQ-VAE, on codes of its finished autoencoder.

    The training set is encoded once as it is, and once flipped if that is the augmentation; images
    under any other augmentation, or of a run of few steps, are encoded when their batch is due.
    """

    component = "prior"
    model: VQVAE
    recipe: PriorRecipe

    def __init__(self, model: ZooModel, run: "Run") -> None:
        super().__init__(model, run)
        self.codes: list[Tensor] = []
        if run.encode_ahead and self.recipe.augment in ("none", "flip"):
            self.codes.append(self._encode_all(self.x))
        if self.codes and self.recipe.augment == "flip":
            self.codes.append(self._encode_all(self.x.flip(3)))

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw the noise of the augmentation, and that by which labels are dropped."""
        return draw_noise(n, generator), torch.rand(n, generator=generator)

    def batch(self, index: Tensor, *noise: Tensor) -> dict[str, Any]:
        """Return codes and labels, some of them replaced by that of no class."""
        shift, drop = noise
        if not self.codes:
            codes = self._encode(self.model, self.images(index, shift))
        else:
            codes = self.codes[0][index]
            if len(self.codes) == 2:
                codes = torch.where(flipped(shift)[:, None, None], self.codes[1][index], codes)
        none = self.model.prior.num_labels
        labels = self.labels[index] if none else None
        if labels is not None:
            labels = torch.where(drop < self.recipe.label_dropout, none, labels)
        return {"codes": codes, "labels": labels}

    def validation_batch(self, model: Any, x: Tensor, generator: torch.Generator) -> dict[str, Any]:
        """Return codes, without labels."""
        return {"codes": self._encode(model, x)}

    def _encode_all(self, x: Tensor) -> Tensor:
        parts = [self._encode(self.model, as_input(part)) for part in x.split(CHUNK)]
        return torch.cat(parts)

    @torch.no_grad()
    def _encode(self, model: VQVAE, x: Tensor) -> Tensor:
        # In float32, whatever the recipe's precision: these must be the codes that users see.
        with torch.autocast(x.device.type, enabled=False):
            return model.autoencoder.encode(x)


OBJECTIVES: dict[str, type[Objective]] = {
    objective.component: objective
    for objective in (Objective, AutoencoderObjective, PriorObjective)
}
