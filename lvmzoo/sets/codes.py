"""Codes that depend on the picture alone: near ties are decided in float64."""

import copy

import torch
from torch import Tensor

from lvmzoo.models.vqvae import Autoencoder

__all__ = ["ExactCodes"]

_SAFETY = 4.0  # how much farther than the worst of the trial pictures features may be off
_LEAST = 1e-6  # relative to the longest feature vector; float32 has seven digits
_SCORES = 2**22  # that are computed at a time
_TOGETHER = 32  # doubtful pictures
_TIE = 1e-12  # scores that differ by less, relatively, are one in float64, too


class ExactCodes:
    """Finds the codes that exact arithmetic would give, whatever shares a batch with a picture.

    The last digits of a network's features depend on how many pictures it is given at a time, and
    a feature vector that lies between two code vectors may fall to either. So scores are computed
    in float64, and where the features' own rounding could make another code the nearest, that
    picture's features are computed again in float64. How large the rounding is, is
    measured on trial pictures: it differs between devices and precisions.

    Arguments:
        autoencoder: On its device, in float32 or float64.
        shape: (C, H, W) of its images.
    """

    def __init__(self, autoencoder: Autoencoder, shape: tuple[int, int, int]) -> None:
        self.autoencoder = autoencoder
        self.double = copy.deepcopy(autoencoder).requires_grad_(False)
        codebook = autoencoder.quantizer.codebook
        # The Metal backend has no float64.
        self.device = torch.device("cpu") if codebook.device.type == "mps" else codebook.device
        self.double.to(self.device, torch.float64)
        self.codebook = self.double.quantizer.codebook.detach()
        self.offsets = -0.5 * self.codebook.square().sum(1)
        self.diameter = 2 * self.codebook.norm(dim=1).max()
        self.bound = self._measure(shape)

    def is_current(self) -> bool:
        """Whether the autoencoder has the weights that it had when this was made."""
        now, then = self.autoencoder.state_dict(), self.double.state_dict()
        return all(torch.equal(now[key].to(value), value) for key, value in then.items())

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return codes (N, H / 4, W / 4) int64, on the device of images (N, C, H, W) in [0, 1]."""
        rows = self._rows(self.autoencoder, x)
        count = max(1, _SCORES // (rows[0, ..., 0].numel() * len(self.codebook)))
        found = [self._nearest(part) for part in rows.split(count)]
        codes = torch.cat([codes for codes, _ in found])
        doubtful = torch.cat([doubtful for _, doubtful in found]).nonzero()[:, 0]
        for part in doubtful.split(_TOGETHER):
            codes[part] = self._exact(x[part.to(x.device)])
        return codes.to(x.device)

    def _rows(self, autoencoder: Autoencoder, x: Tensor) -> Tensor:
        """Return features (N, H, W, D) in float64."""
        features = autoencoder.features(x).to(self.device, torch.float64)
        return features.permute(0, 2, 3, 1)

    def _nearest(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes (N, H, W) of features, and which of the N they are doubtful of."""
        scores = rows @ self.codebook.t() + self.offsets
        best, codes = scores.max(3)
        # Score and distance: s_a - s_b = (|x - b|^2 - |x - a|^2) / 2. Features that are off by d
        # change it by d (a - b), at most by |d| times the diameter of the codebook.
        reach = self.bound * rows.norm(dim=3).amax((1, 2))
        near = scores >= (best - (reach * self.diameter)[:, None, None])[..., None]
        near.scatter_(3, codes[..., None], False)
        n, i, j, other = near.nonzero(as_tuple=True)
        apart = (self.codebook[codes[n, i, j]] - self.codebook[other]).norm(dim=1)
        close = best[n, i, j] - scores[n, i, j, other] <= reach[n] * apart
        doubtful = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        return codes, doubtful.index_fill(0, n[close], True)

    def _exact(self, x: Tensor) -> Tensor:
        """Return the codes (N, H, W) of pictures in float64, of equals the first."""
        rows = self._rows(self.double, x.to(self.device, torch.float64))
        scores = rows @ self.codebook.t() + self.offsets
        scale = rows.norm(dim=3, keepdim=True) * self.diameter + self.offsets.abs().max()
        equal = scores >= scores.amax(3, keepdim=True) - _TIE * scale
        codes: Tensor = equal.to(torch.uint8).argmax(3)
        return codes

    @torch.no_grad()
    def _measure(self, shape: tuple[int, int, int]) -> Tensor:
        """Return by how much features are off, relative to the longest of their picture."""
        generator = torch.Generator("cpu").manual_seed(0)
        coarse = torch.empty(6, shape[0], 4, 4, dtype=torch.float32, device="cpu")
        coarse.uniform_(generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
        noise = torch.empty_like(smooth).uniform_(generator=generator)
        x = torch.cat([smooth, noise, torch.zeros_like(noise[:1]), torch.ones_like(noise[:1])])
        parameter = self.autoencoder.quantizer.codebook
        rows = self._rows(self.autoencoder, x.to(parameter.device, parameter.dtype))
        exact = torch.cat(
            [self._rows(self.double, one.to(self.device, torch.float64)) for one in x.split(1)]
        )
        off = (rows - exact).norm(dim=3) / exact.norm(dim=3).amax((1, 2), keepdim=True)
        bound: Tensor = (_SAFETY * off.nan_to_num().max()).clamp(min=_LEAST)
        return bound
