"""One split of a data set, in memory or mapped: no worker processes, a batch is an index."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from training.data.rows import Rows


@dataclass(frozen=True)
class Split:
    """One split of a data set."""

    x: Tensor | Rows  # images (N, C, H, W) uint8, or points (N, 2) float32
    labels: Tensor  # class indices (N,) int64
    classes: tuple[str, ...]  # in the order of the labels
    source: str  # where the data came from, in words, for the card
    caveat: str = ""  # a sentence that whoever reads figures measured on them must know
    own: bool = False  # one's own pictures, and no data set that has a name

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Tensor | slice) -> "Split":
        """Return the examples at these indices."""
        x = self.x.take(index) if isinstance(self.x, Rows) else self.x[index]
        return replace(self, x=x, labels=self.labels[index])


def as_input(x: Tensor) -> Tensor:
    """Bring stored data to what models take: images in [0, 1], points as they are."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


def sha256(split: Split) -> str:
    """Return the SHA-256 of a split's examples and labels; mapped examples are not read for it."""
    if isinstance(split.x, Rows):
        digest = hashlib.sha256(split.x.content)
    else:
        digest = hashlib.sha256(np.ascontiguousarray(split.x.numpy()).tobytes())
    digest.update(split.labels.numpy().tobytes())
    return digest.hexdigest()
