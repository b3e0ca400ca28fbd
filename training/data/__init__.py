"""The data sets by name, and one's own pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from lvmzoo.registry import DATASETS, DataSet
from training.data.bmnist import BinarisedMNIST
from training.data.own import OwnPictures, read_folder
from training.data.rows import DataError, Rows, UnfinishedError, batch_size, make_rows, resident
from training.data.split import Split, as_input, sha256
from training.data.synthetic import Gaussian
from training.data.torchvision import CIFAR10, MNIST, SVHN

__all__ = [
    "READERS",
    "DataError",
    "OwnPictures",
    "Reader",
    "Rows",
    "Split",
    "UnfinishedError",
    "as_input",
    "batch_size",
    "load_split",
    "make_rows",
    "read_folder",
    "resident",
    "sha256",
]


class Reader(Protocol):
    """What a data set needs, so that it can be trained and measured on."""

    def load(self, data: DataSet, split: str, root: Path) -> Split:
        """Load "train" (without validation), "validation", "all" (both) or "test"."""


READERS: Mapping[str, Reader] = {
    "gaussian1": Gaussian(mean=(1.0, 2.0), scale=(5.0, 1.0), seed=1),
    "gaussian2": Gaussian(mean=(-1.0, 2.0), scale=(1.0, 5.0), seed=11),
    "mnist": MNIST(),
    "bmnist": BinarisedMNIST(),
    "cifar10": CIFAR10(),
    "svhn": SVHN(),
}


def load_split(dataset: str, split: str, root: Path) -> Split:
    """Load "train" (without validation), "validation", "all" (both) or "test".

    Raises:
        DataError: The data are not under `root` and cannot be downloaded, are damaged or too few;
            or the data set has no reader.
    """
    if dataset not in READERS:
        raise DataError(f"nothing reads {dataset}: add its reader to READERS in {__file__}")
    return READERS[dataset].load(DATASETS[dataset], split, root)
