"""Pictures -> latents that depend on the picture alone, for the command and for data engines."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lvmzoo.loading import from_pretrained
from lvmzoo.models.base import ZooModel
from lvmzoo.models.vqvae import VQVAE
from lvmzoo.notes import Notes
from lvmzoo.pictures.many import BLOCK
from lvmzoo.pictures.transform import transform
from lvmzoo.placement import any_parameter, without_autocast
from lvmzoo.sets.codes import ExactCodes

__all__ = ["Encoder", "decoder_weights"]

_PROCESS = os.getpid()  # which imported this
_COLUMNS = ("image", "bytes", "img", "jpg", "jpeg", "png", "webp")


class Encoder:
    """Turns batches of pictures into columns: for Ray, datasets, a `DataLoader` or your own loop.

    Latents are those of `lvmzoo encode`, to the bit on one kind of machine, however pictures are
    put into batches: codes are what exact arithmetic gives, and a VAE always sees 64 pictures at a
    time, of which some may be blank. A model that is given may be trained on or loaded into
    meanwhile. It can be pickled; each process loads the weights by itself when it is first called.

    Arguments:
        name: An entry, a folder or a Hub repository id; or a model.
        device: "cpu", "cuda", ...; "auto" is a GPU if there is one.
        moments: Of a VAE, also the log standard deviations of the posterior.
        column: Which column of a batch holds the pictures; by default the first of image, bytes,
            img, jpg, jpeg, png, webp.
        keep_going: Let a picture that cannot be read have latents of zeros and its reason in the
            column `failure`, which is "" else. By default it is an error.

    Example:
        >>> encoder = lvmzoo.Encoder("vqvae_cifar10", device="cpu")
        >>> encoder(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))["latents"].shape
        (2, 8, 8)
    """

    def __init__(
        self,
        name: str | Path | ZooModel,
        *,
        device: str = "auto",
        moments: bool = False,
        column: str | None = None,
        keep_going: bool = False,
    ) -> None:
        self.name, self.device, self.moments = name, device, moments
        self.column, self.keep_going = column, keep_going
        self._loaded: _Network | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_loaded": None}

    @property
    def network(self) -> "_Network":
        """The model and what it gives, loaded when it is first needed."""
        if self._loaded is None:
            if os.getpid() != _PROCESS:  # forked: the threads of torch stayed behind
                torch.set_num_threads(1)
            self._loaded = _Network(self._model(), self.moments)
        elif isinstance(self.name, ZooModel):
            self._loaded.follow()
        return self._loaded

    def __call__(self, batch: Any) -> dict[str, Any]:
        """Return columns of a batch: `latents`, `log_std` with `moments`, `sha256`.

        Arguments:
            batch: Pictures, each as bytes, a path, {bytes, path} as `datasets` has it, a PIL image,
                an array (H, W) or (H, W, C) or a uint8 tensor (C, H, W), in a list or as one array
                (N, H, W, C) or tensor (N, C, H, W); a single picture; or a mapping with a column of
                either, whose other columns are kept.

        Returns:
            A dict of arrays (N, ...): `latents` has the shape of a latent, codes as uint8 or
            uint16, else float32; `sha256` is that of pictures that came as bytes, else "". Of a
            single picture they have no first dimension.

        Raises:
            TypeError: No pictures.
            ValueError: A picture cannot be read, unless `keep_going`.
        """
        kept: dict[str, Any] = {}
        if isinstance(batch, Mapping):
            column = self._column(batch)
            kept = {key: value for key, value in batch.items() if key != column}
            batch = batch[column]
        pictures, single = _pictures(batch)
        found = self._columns(pictures)
        if single:
            found = {key: value[0] for key, value in found.items()}
        return {**kept, **found}

    def _columns(self, pictures: Sequence[Any]) -> dict[str, Any]:
        to, notes = transform(self.network.model), Notes()
        found = [to.decode(one, notes, f"picture {i}") for i, one in enumerate(pictures)]
        failures = [one if isinstance(one, str) else "" for one in found]
        if not self.keep_going and any(failures):
            raise ValueError(next(filter(None, failures)))
        notes.warn(3)
        arrays = [one for one in found if isinstance(one, np.ndarray)]
        good = np.array([not failure for failure in failures], dtype=bool)
        made = self.network.columns(np.stack(arrays)) if arrays else self.network.none()
        columns: dict[str, Any] = {}
        for name, values in made.items():
            columns[name] = np.zeros((len(pictures), *values.shape[1:]), values.dtype)
            columns[name][good] = values
        columns["sha256"] = np.array([_sha256(picture) for picture in pictures], dtype=str)
        if self.keep_going:
            columns["failure"] = np.array(failures, dtype=str)
        return columns

    def _model(self) -> ZooModel:
        if isinstance(self.name, ZooModel):
            return self.name
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return from_pretrained(self.name).requires_grad_(False).to(device)

    def _column(self, batch: Mapping[str, Any]) -> str:
        names = (self.column,) if self.column else _COLUMNS
        found = next((name for name in names if name in batch), None)
        if found is None:
            has = ", ".join(map(str, batch)) or "none"
            raise TypeError(f"a batch needs a column {' or '.join(names)}; it has {has}")
        return found


class _Network:
    """A model, and the columns that it gives."""

    def __init__(self, model: ZooModel, moments: bool) -> None:
        if model.image_shape is None:
            raise ValueError(f"a {type(model).__name__} is a model of points: it takes no pictures")
        if moments and isinstance(model, VQVAE):
            raise ValueError("a VQ-VAE has codes and no moments")
        self.model, self.moments = model, moments
        self.exact: ExactCodes | None = None
        self.follow()
        if isinstance(model, VQVAE):
            few = model.config.num_codes <= 256
            self.dtype: Any = np.uint8 if few else np.uint16
            self.shape: tuple[int, ...] = model.config.grid
        else:
            self.dtype, self.shape = np.float32, (model.config.latent_dim,)

    def follow(self) -> None:
        """Take the weights that the model has now."""
        model = self.model
        if isinstance(model, VQVAE) and not (self.exact and self.exact.is_current()):
            with without_autocast(model.autoencoder.quantizer.codebook):
                self.exact = ExactCodes(model.autoencoder, model.config.image_shape)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of latents."""
        return ("latents", "log_std") if self.moments else ("latents",)

    def none(self) -> dict[str, np.ndarray]:
        """Return the columns of no pictures."""
        return {name: np.empty((0, *self.shape), self.dtype) for name in self.names}

    @torch.no_grad()
    def columns(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of pictures (n, H, W, C) uint8."""
        if not len(pictures):
            return self.none()
        whole = torch.from_numpy(pictures)
        with without_autocast(any_parameter(self.model)):
            parts = [
                [value.cpu().numpy().astype(self.dtype) for value in self._block(x)]
                for x in whole.split(BLOCK)
            ]
        return dict(zip(self.names, map(np.concatenate, zip(*parts, strict=True)), strict=True))

    def _block(self, x: Tensor) -> list[Tensor]:
        x = as_images(x, self.model)
        if self.exact is not None:
            return [self.exact(x)]
        n = len(x)
        # Matrix products of another number of rows may have other last digits, and so may grey
        # pictures with strides that pass for those of channels_last, which this replaces.
        x = torch.cat([x, x.new_zeros(BLOCK - n, *x.shape[1:])])
        if not self.moments:
            return [self.model.encode(x)[:n]]
        posterior = self.model.posterior(x).base_dist  # type: ignore[operator, union-attr]
        return [posterior.loc[:n], posterior.scale.log()[:n]]


def as_images(pictures: Tensor, model: ZooModel) -> Tensor:
    """Return uint8 pictures (n, H, W, C) as a model's images (n, C, H, W), on its device."""
    x = pictures.permute(0, 3, 1, 2).contiguous()  # while it is small
    return x.to(model.device).float().div_(255).to(model.dtype)


def decoder_weights(model: ZooModel) -> dict[str, str]:
    """Return the SHA-256 of the weights that give latents their meaning, by component."""
    assert model.origin is not None
    sha256 = model.origin.sha256
    return {key: sha256[key] for key in ("autoencoder", "model") if key in sha256}


def _pictures(batch: Any) -> tuple[Sequence[Any], bool]:
    """Return a batch as single pictures that `open_image` takes, and whether it was only one."""
    if isinstance(batch, Tensor):
        if batch.dtype != torch.uint8 or batch.ndim not in (3, 4):
            raise TypeError(
                "pictures as a tensor must be uint8, (C, H, W) or (N, C, H, W), not "
                f"{batch.dtype} of shape {tuple(batch.shape)}"
            )
        batch = batch.movedim(-3, -1).cpu().numpy()
    if isinstance(batch, np.ndarray) and batch.dtype != object:
        single = batch.ndim < 4
        return ([batch] if single else list(batch)), single
    if isinstance(batch, (list, tuple, np.ndarray)):
        return [_picture(one) for one in batch], False
    return [_picture(batch)], True


def _picture(one: Any) -> Any:
    return _pictures(one)[0][0] if isinstance(one, Tensor) else one


def _sha256(picture: Any) -> str:
    if isinstance(picture, Mapping):
        picture = picture.get("bytes")
    known = isinstance(picture, (bytes, bytearray, memoryview))
    return hashlib.sha256(picture).hexdigest() if known else ""
