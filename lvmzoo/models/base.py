"""What all models share: a config, a place on a device, folders and the Hub."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from lvmzoo import checkpoint
from lvmzoo.checks import check_generator, check_tensor, check_unit_range
from lvmzoo.files import atomic_folder, write_json
from lvmzoo.nn.placement import any_parameter

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

    Of the mixin, `push_to_hub` is used as it is. Its loading reads config.json and perhaps a
    pickle from the network before any check, so `lvmzoo.from_pretrained` loads instead.
    """

    Config: ClassVar[type[Any]]
    COMPONENTS: ClassVar[tuple[str, ...]] = ("model",)

    config: Any
    origin: Origin | None = None

    # What every family offers; each documents its own.
    encode: Callable[..., Tensor]
    decode: Callable[..., Tensor]
    reconstruct: Callable[..., Tensor]
    interpolate: Callable[..., Tensor]
    sample: Callable[..., Tensor]
    score: Callable[..., dict[str, Tensor]]

    def __init__(self, config: Any = None) -> None:
        super().__init__()
        config = self.Config() if config is None else config
        if not isinstance(config, self.Config):
            wanted, got = self.Config.__name__, type(config).__name__
            raise TypeError(f"config of a {type(self).__name__} must be a {wanted}, not {got}")
        self.config = config

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

        The folder is written beside its target and renamed, so that it is complete or absent.

        Arguments:
            save_directory: The folder.
            config: Unused; the model's own config is saved.
            repo_id: Repository for `push_to_hub`; by default the folder's name.
            push_to_hub: Also upload, in one commit.
            model_card_kwargs: Unused; `training.publish` writes full cards.
            push_to_hub_kwargs: Passed on to `push_to_hub`.

        Raises:
            OSError: The folder cannot be written.
        """
        folder = Path(save_directory)
        with atomic_folder(folder) as temporary:
            self._save_pretrained(temporary)
            if (folder / "README.md").exists():
                (temporary / "README.md").unlink()
        if push_to_hub:
            return self.push_to_hub(repo_id or folder.name, **push_to_hub_kwargs)
        return None

    def _save_pretrained(self, save_directory: Path) -> None:
        name = type(self).__name__
        self.write_config(save_directory)
        for component in self.COMPONENTS:
            (save_directory / f"{component}.safetensors").write_bytes(self.serialize(component))
        (save_directory / "README.md").write_text(_README.format(name=name, tags="lvmzoo"))

    def write_config(self, folder: Path) -> None:
        """Write the config.json that `lvmzoo.from_pretrained` reads."""
        config = {"model_class": type(self).__name__, **checkpoint.config_dict(self.config)}
        write_json(folder / CONFIG_NAME, config)

    def serialize(self, component: str = "model", dtype: torch.dtype | None = None) -> bytes:
        """Return one component as the bytes of a safetensors file.

        Arguments:
            component: One of `COMPONENTS`.
            dtype: The dtype in the file; by default that of the parameters.
        """
        state = checkpoint.submodule(self, component).state_dict()
        tensors = {name: t.to(dtype or t.dtype) for name, t in state.items()}
        return checkpoint.serialize(tensors, self.component_metadata(component))

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
            "config": checkpoint.config_dict(self.config),
        }

    def _check_images(self, x: Any, what: str = "images", *, values: bool = True) -> Tensor:
        """Refuse what is no batch of images in [0, 1]; return it in the model's dtype."""
        shape = (None, *self.config.image_shape)
        images = check_tensor(x, shape, what, self.device, values=values)
        if values:
            check_unit_range(images, what)
        return images.to(self.dtype)

    def _randn(self, *shape: int, generator: torch.Generator | None) -> Tensor:
        """Draw N(0, I) on the generator's device, then move it to the model's."""
        check_generator(generator)
        device, dtype = self.device, self.dtype
        if generator is None:  # named, it would keep torch.compile from symbolic sizes
            return torch.randn(shape, device=device, dtype=dtype)
        noise = torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)
        return noise.to(device)
