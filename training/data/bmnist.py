"""MNIST, to be binarised: a pixel is one with the probability that is its grey value."""

from dataclasses import replace
from pathlib import Path

import torch

from lvmzoo.registry import DataSet
from training.data.split import Split
from training.data.torchvision import MNIST

_SEEDS = {"validation": 1, "test": 2}


class BinarisedMNIST(MNIST):
    """MNIST at 28x28: the training set is grey, for training binarises it anew at every epoch.

    Validation and test are binary, drawn once from a seed, as is their label's digit from MNIST.
    """

    def load(self, data: DataSet, split: str, root: Path) -> Split:
        """Load a split of MNIST without its border, binarised if it is measured on."""
        grey = super().load(replace(data, name="mnist", title="MNIST"), split, root)
        x = grey.x[:][..., 2:-2, 2:-2].contiguous()
        if split in _SEEDS:
            generator = torch.Generator().manual_seed(_SEEDS[split])
            x = 255 * (torch.rand(x.shape, generator=generator) < x / 255).byte()
        return replace(grey, x=x, source=f"{grey.source}, binarised")
