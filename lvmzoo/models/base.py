"""What all models share: a config, a place on a device, folders and the Hub."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from lvmzoo import checkpoint, hub, loading
from lvmzoo.checkpoint import Origin
from lvmzoo.checks import (
    check_count,
    check_generator,
    check_positive,
    check_reached,
    check_same_shape,
    check_tensor,
    check_unit_range,
)
from lvmzoo.files import atomic_folder, expand_user
from lvmzoo.placement import any_parameter, at_least_float32

__all__ = ["ImageConfig", "ZooModel"]

_README = """---
library_name: lvmzoo
tags: [lvmzoo]
---

A {name} of lvmzoo, a zoo of latent variable models.

```python
import lvmzoo
model = lvmzoo.from_pretrained("PATH-OR-REPOSITORY")
```
"""


@dataclass(frozen=True)
class ImageConfig:
    """What every image model's config begins with.

    Arguments:
        in_channels: Channels of an image, C.
        image_size: Height and width of an image.
        dataset: Name of the data set the model is for.
        classes: Class names in the order of the labels.
    """

    in_channels: int = 3
    image_size: int = 32
    dataset: str = ""
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that a model of these sizes can be built."""
        require_range(self, in_channels=(1, 16), image_size=(8, 1024))
        if self.image_size % 8:
            raise ValueError(f"image_size must be a multiple of 8, not {self.image_size}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.in_channels, self.image_size, self.image_size


def require_range(config: Any, **limits: tuple[int, int]) -> None:
    """Check that each field, or each element of a tuple field, lies in its limits."""
    for name, (low, high) in limits.items():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if not low <= number <= high:
                raise ValueError(f"{name} must be from {low} to {high}, not {number!s:.40}")


class ZooModel(nn.Module):
    """A model with a config dataclass, loaded and saved as checked safetensors only."""

    Config: ClassVar[type[Any]]
    COMPONENTS: ClassVar[tuple[str, ...]] = ("model",)

    config: Any
    origin: Origin | None = None
    networks: tuple[str, ...] = ()  # names of those that the constructor was given

    # What every family offers; each documents its own.
    encode: Callable[..., Tensor]
    decode: Callable[..., Tensor]
    sample: Callable[..., Tensor]
    score: Callable[..., dict[str, Tensor]]

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Note which networks of their own a constructor is given: loading needs them again."""
        self = super().__new__(cls)
        self.networks = tuple(sorted(k for k, v in options.items() if isinstance(v, nn.Module)))
        return self

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        config = self.Config() if config is None else config
        if not isinstance(config, self.Config):
            wanted, got = self.Config.__name__, type(config).__name__
            raise TypeError(f"config of a {type(self).__name__} must be a {wanted}, not {got}")
        self.config = config

    @classmethod
    def fill_in(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a config's values with those that follow from others, unless they are given."""
        return dict(values)

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) of an image; None for a model of points."""
        shape: tuple[int, int, int] | None = getattr(self.config, "image_shape", None)
        return shape

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return any_parameter(self).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters."""
        return any_parameter(self).dtype

    @property
    def density_dtype(self) -> torch.dtype:
        """That of densities: half precision would round sums of thousands of terms."""
        return at_least_float32(self.dtype)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return what the model makes of the latents of x, in the shape of x.

        A VAE decodes the posterior mean, a VQ-VAE the codes.

        Arguments:
            x: Images (N, C, H, W) in [0, 1], or points (N, 2).
        """
        return check_reached(self._decode(self._latents(self._check_data(x), "x")), "x")

    def interpolate(self, x_a: Tensor, x_b: Tensor, steps: int = 10) -> Tensor:
        """Decode the straight lines between the latents of x_a and of x_b.

        They lie between posterior means; of a VQ-VAE between features, each point quantised.

        Arguments:
            x_a: Where the lines start: images (N, C, H, W) in [0, 1], or points (N, 2).
            x_b: Where they end, in the shape of x_a.
            steps: Pictures on each line, both ends included, at least 2.

        Returns:
            (N, steps, ...): the first is the reconstruction of x_a, the last that of x_b.
        """
        steps = check_count(steps, "steps", least=2)
        x_a, x_b = self._check_data(x_a, "x_a"), self._check_data(x_b, "x_b")
        check_same_shape(x_a, x_b)
        a, b = self._latents(x_a, "x_a"), self._latents(x_b, "x_b")
        weights = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device)
        weights = weights.view(-1, *[1] * (a.ndim - 1))
        line = torch.lerp(a[:, None], b[:, None], weights)  # (N, steps, ...)
        x = check_reached(self._decode(line.flatten(0, 1)), "x_a and x_b")
        lines: Tensor = x.unflatten(0, (-1, steps))
        return lines

    # What a family implements.

    def _latents(self, x: Tensor, what: str) -> Tensor:
        """Return what lies on straight lines in `interpolate`, of checked x."""
        raise NotImplementedError

    def _decode(self, latents: Tensor) -> Tensor:
        """Return the images or points of what `_latents` returns."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> Self:
        """Load an entry of the zoo, a folder or a Hub repository as a model of this class.

        Arguments:
            name: As for `lvmzoo.from_pretrained`.
            options: As for `lvmzoo.from_pretrained`; and the networks that this model's constructor
                was given, e.g. encoder.

        Raises:
            UnknownModelError: No such entry or folder.
            CheckpointError: The weights are absent, damaged or of another class.
        """
        networks = {k: options.pop(k) for k, v in [*options.items()] if isinstance(v, nn.Module)}
        model: Self = loading.load(name, cls, networks=networks, **options)
        return model

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        dataset: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Write config.json, the weights and, unless there is one, a README.md.

        The folder is complete or absent. Weights are stored in the dtype of the parameters, those
        of float64 or of several dtypes in float32.

        Arguments:
            folder: The folder; ~ is expanded.
            dataset: Name of the pictures that the model has been tuned on, if that has changed.
            classes: Names of their classes, likewise.

        Raises:
            CheckpointError: What would be saved could not be loaded; nothing is changed.
            OSError: The folder cannot be written.
        """
        folder = expand_user(folder)
        with atomic_folder(folder) as temporary:
            checkpoint.write_model(self, temporary, dataset=dataset, classes=classes)
            if not (folder / hub.README_NAME).exists():
                self._write_readme(temporary)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Push model",
        create_pr: bool = False,
    ) -> str:
        """Upload what `save_pretrained` writes, in one commit.

        A README.md that the repository has already stays as it is.

        Arguments:
            repo_id: The repository, made if need be.
            private: Whether it is to be private.
            token: For the Hub; by default the one in HF_TOKEN or of `hf auth login`.
            revision: The branch, made if need be.
            commit_message: The commit's message.
            create_pr: Open a pull request instead.

        Returns:
            The address of the commit.

        Raises:
            CheckpointError: What would be uploaded could not be loaded; the Hub is not asked.
            OSError: The Hub does not take it.
        """
        with TemporaryDirectory() as staged:
            checkpoint.write_model(self, Path(staged))
            self._write_readme(Path(staged))
            commit = hub.upload(
                Path(staged),
                repo_id,
                message=commit_message,
                private=private,
                token=token,
                revision=revision,
                create_pr=create_pr,
                keep_readme=True,
            )
        return commit.commit_url

    def _write_readme(self, folder: Path) -> None:
        text = _README.format(name=type(self).__name__)
        (folder / hub.README_NAME).write_text(text, encoding="utf-8", newline="\n")

    @staticmethod
    def component_config(config: Any, component: str) -> dict[str, Any]:
        """Return the fields of a config that a component depends on, one of `COMPONENTS`."""
        return checkpoint.config_dict(config)

    def _check_data(self, x: Any, what: str = "images", *, values: bool = True) -> Tensor:
        """Refuse what is no batch of images in [0, 1]; return it in the dtype of densities."""
        shape = (None, *self.config.image_shape)
        images = check_tensor(x, shape, what, self.device, values=values)
        if values:
            images = check_unit_range(images, what)
        return images.to(self.density_dtype)

    def _check_request(self, n: Any, temperature: Any, generator: Any) -> tuple[int, float]:
        """Return how many samples are asked for, at which temperature."""
        check_generator(generator)
        return check_count(n), check_positive(temperature, "temperature")

    def _randn(self, *shape: int, generator: torch.Generator | None) -> Tensor:
        """Draw N(0, I) on the generator's device, then move it to the model's."""
        check_generator(generator)
        device, dtype = self.device, self.density_dtype
        if generator is None:  # named, it would keep torch.compile from symbolic sizes
            return torch.randn(shape, device=device, dtype=dtype)
        noise = torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)
        return noise.to(device)
