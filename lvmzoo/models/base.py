"""What all models share: a config, a place on a device, folders and the Hub."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from lvmzoo import checkpoint, hub
from lvmzoo.checks import (
    check_count,
    check_generator,
    check_positive,
    check_reached,
    check_same_shape,
    check_tensor,
    check_unit_range,
)
from lvmzoo.files import atomic_folder, expand_user, write_json
from lvmzoo.hub import README_NAME
from lvmzoo.placement import any_parameter, at_least_float32
from lvmzoo.registry import model_classes

__all__ = ["ImageConfig", "Origin", "ZooModel"]

CONFIG_NAME = "config.json"
_README = """---
library_name: lvmzoo
tags: [{tags}]
---

A {name} of lvmzoo, a zoo of latent variable models.

```python
import lvmzoo
model = lvmzoo.from_pretrained("PATH-OR-REPOSITORY")
```
"""


@dataclass(frozen=True)
class Origin:
    """Where a model's weights came from: the name it was loaded by, and its files' SHA-256."""

    name: str
    sha256: dict[str, str]


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


class ZooModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="lvmzoo",
    tags=["lvmzoo"],
):
    """A model with a config dataclass, loaded and saved as checked safetensors only.

    Of the mixin, only the names are used. Its loading reads config.json and perhaps a pickle from
    the network before any check, and its upload replaces a README.md that somebody wrote.
    """

    Config: ClassVar[type[Any]]
    COMPONENTS: ClassVar[tuple[str, ...]] = ("model",)

    config: Any
    origin: Origin | None = None

    # What every family offers; each documents its own.
    encode: Callable[..., Tensor]
    decode: Callable[..., Tensor]
    sample: Callable[..., Tensor]
    score: Callable[..., dict[str, Tensor]]

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
    def from_pretrained(  # type: ignore[override]
        cls, name: str | Path, **options: Any
    ) -> Self:
        """Load an entry of the zoo, a folder or a Hub repository of this class.

        Arguments:
            name: As for `lvmzoo.from_pretrained`.
            options: As for `lvmzoo.from_pretrained`.

        Raises:
            UnknownModelError: No such entry or folder.
            CheckpointError: The weights are absent, damaged or of another class.
        """
        return cls._from_pretrained(model_id=name, **options)

    @classmethod
    def _from_pretrained(cls, *, model_id: str | Path, **options: Any) -> Self:  # type: ignore[override]
        import lvmzoo  # not `loading`, which stands above the models

        model = lvmzoo.from_pretrained(model_id, **options)
        if not isinstance(model, cls):
            kind = type(model).__name__
            raise checkpoint.CheckpointError(
                f"{model_id} is a {kind}, not a {cls.__name__}; use lvmzoo.{kind}.from_pretrained"
            )
        return model

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        *,
        config: None = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: None = None,
        **push_to_hub_kwargs: Any,
    ) -> Any:
        """Write config.json, the weights and a README.md that is not there yet.

        The folder is written aside and renamed, so that it is complete or absent. Weights are
        stored in the dtype of the parameters, those of float64 or of several dtypes in float32.

        Arguments:
            save_directory: The folder; ~ is expanded.
            config: Unused; the model's own config is saved.
            repo_id: Repository for `push_to_hub`; by default the folder's name.
            push_to_hub: Also upload these files and the folder's README.md, in one commit.
            model_card_kwargs: Unused; `training.publish` writes full cards.
            push_to_hub_kwargs: Passed on to `push_to_hub`.

        Raises:
            CheckpointError: What would be saved could not be loaded; nothing is changed.
            OSError: The folder cannot be written, or the Hub does not take it.
        """
        folder = expand_user(save_directory)
        weights = self._files()
        with atomic_folder(folder) as temporary:
            self._write(temporary, weights)
            if (folder / README_NAME).exists():
                (temporary / README_NAME).unlink()
        if not push_to_hub:
            return None
        with TemporaryDirectory() as staged:
            for name in (CONFIG_NAME, README_NAME, *weights):
                shutil.copyfile(folder / name, Path(staged) / name)
            repo_id = repo_id or folder.resolve().name
            return hub.upload(Path(staged), repo_id, stub=self._stub(), **push_to_hub_kwargs)

    def push_to_hub(  # type: ignore[override]
        self, repo_id: str, **options: Any
    ) -> str:
        """Upload what `save_pretrained` writes, in one commit.

        A README.md that the repository has already stays as it is.

        Arguments:
            repo_id: The repository, made if need be.
            options: commit_message, private, token, branch, and those of `HfApi.upload_folder`:
                create_pr, allow_patterns, ignore_patterns, delete_patterns.

        Returns:
            The address of the commit.

        Raises:
            CheckpointError: What would be uploaded could not be loaded; the Hub is not asked.
            OSError: The Hub does not take it.
        """
        weights = self._files()
        with TemporaryDirectory() as staged:
            self._write(Path(staged), weights)
            return hub.upload(Path(staged), repo_id, stub=self._stub(), **options)

    def _save_pretrained(self, save_directory: Path) -> None:
        self._write(save_directory, self._files())

    def _files(self) -> dict[str, bytes]:
        return {
            f"{component}.safetensors": self.serialize(component) for component in self.COMPONENTS
        }

    def _write(self, folder: Path, weights: Mapping[str, bytes]) -> None:
        self.write_config(folder)
        for name, data in weights.items():
            (folder / name).write_bytes(data)
        (folder / README_NAME).write_text(self._stub(), encoding="utf-8", newline="\n")

    def _stub(self) -> str:
        return _README.format(name=type(self).__name__, tags="lvmzoo")

    def write_config(self, folder: Path) -> None:
        """Write the config.json that `lvmzoo.from_pretrained` reads."""
        config = {"model_class": type(self).__name__, **checkpoint.config_dict(self.config)}
        write_json(folder / CONFIG_NAME, config)

    def serialize(self, component: str = "model", dtype: torch.dtype | None = None) -> bytes:
        """Return one component as the bytes of a safetensors file.

        Arguments:
            component: One of `COMPONENTS`.
            dtype: The dtype in the file; by default that of the parameters, or float32 where
                they have several or one that no file of this zoo has.

        Raises:
            CheckpointError: The file could not be loaded.
        """
        tensors = self.component_tensors(component, dtype)
        return checkpoint.serialize(tensors, self.component_metadata(component))

    def component_tensors(
        self, component: str, dtype: torch.dtype | None = None
    ) -> dict[str, Tensor]:
        """Return the tensors that `serialize` stores, by the names that loading expects."""
        kind = type(self).__name__
        if kind not in model_classes():
            known = ", ".join(model_classes())
            raise checkpoint.CheckpointError(
                f"cannot save this {kind}: it could not be loaded as a model of this zoo ({known})"
            )
        state = checkpoint.submodule(self, component).state_dict()
        try:
            expected = checkpoint.submodule(self._blank(), component).state_dict()
            return checkpoint.prepare(state, expected, dtype)
        except checkpoint.CheckpointError as error:
            raise checkpoint.CheckpointError(f"cannot save this {kind}: {error}") from None

    def _blank(self) -> "ZooModel":
        """Make what loading will make of this model's class and config."""
        import lvmzoo  # not `loading`, which stands above the models

        cls: type[ZooModel] = getattr(lvmzoo, type(self).__name__)
        try:
            values = checkpoint.config_dict(self.config)
        except (TypeError, ValueError) as error:
            raise checkpoint.CheckpointError(f"its config is no plain data ({error})") from None
        config = checkpoint.build_config(cls.Config, values, "its config")
        with checkpoint.Skeleton():
            return cls(config)

    def component_config(self, component: str) -> dict[str, Any]:
        """Return the config that a component depends on, one of `COMPONENTS`."""
        return checkpoint.config_dict(self.config)

    def component_metadata(
        self, component: str, parts: Mapping[str, checkpoint.Component] | None = None
    ) -> dict[str, Any]:
        """Return what a component's file says of itself, checked when it is loaded.

        Arguments:
            component: One of `COMPONENTS`.
            parts: All components, where their tensors are not in the model yet.
        """
        return {
            "model_class": type(self).__name__,
            "component": component,
            "config": self.component_config(component),
        }

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
