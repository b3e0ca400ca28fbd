"""Data sets that torchvision reads, each from its own files, from an image tree or by download."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from lvmzoo.registry import DataSet
from training.data.own import read_tree
from training.data.rows import DataError
from training.data.split import Split, sha256

Examples = tuple[Tensor, Tensor]


class ImageSet(ABC):
    """Where a data set of images lies, how it is read, and which examples are for validation."""

    # What stands under the root if torchvision has written it there.
    layout: ClassVar[str]
    # Of the training set in original order.
    held_out: ClassVar[slice] = slice(-5000, None)
    # Copies that differ from the original: start of the SHA-256 of a whole split -> source, caveat.
    copies: ClassVar[Mapping[str, tuple[str, str]]] = {}

    @abstractmethod
    def read(self, root: Path, split: str) -> Examples:
        """Return images (N, C, H, W) uint8 and labels (N,) of "train" or "test" in the layout."""

    def download(self, root: Path) -> None:
        """Let torchvision download both splits."""
        from torchvision import datasets

        getattr(datasets, type(self).__name__)(root, download=True)

    def load(self, data: DataSet, split: str, root: Path) -> Split:
        """Load a split; see `training.data.load_split`."""
        whole = _load_whole(self, data, "test" if split == "test" else "train", root)
        if split in ("test", "all"):
            return whole
        held_out = torch.zeros(len(whole), dtype=torch.bool)
        held_out[self.held_out] = True
        chosen = whole.take((held_out if split == "validation" else ~held_out).nonzero()[:, 0])
        if not len(chosen):
            start, stop = self.held_out.start, self.held_out.stop
            which = f"the last {-start:,}" if start < 0 else f"those from {start:,} to {stop - 1:,}"
            raise DataError(
                f"the {split} split of {data.title} under {root} is empty: there are {len(whole)} "
                f"training images, of which {which} are for validation"
            )
        return chosen


# Both halves of one data set: entries and splits of it follow one another, and reading one from
# an image tree takes a minute.
@lru_cache(maxsize=2)
def _load_whole(images: ImageSet, data: DataSet, split: str, root: Path) -> Split:
    folder = root / images.layout
    # A download that failed leaves an empty folder behind.
    if not (folder.is_file() or (folder.is_dir() and any(folder.iterdir()))):
        tree = root / data.name / split
        if tree.is_dir():
            found = read_tree(tree, data)
            source, caveat = images.copies.get(sha256(found)[:16], ("an image tree", ""))
            return Split(found.x, found.labels, data.classes, source, caveat)
        try:
            images.download(root)
        except Exception as error:  # torchvision raises whatever its transport does
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"no {data.title} under {root}: neither torchvision's {images.layout} nor the "
                f"image tree {data.name}/{split}/<class>/*.png, and the download failed ({reason})"
            ) from None
    try:
        x, labels = images.read(root, split)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"the {data.title} under {root} cannot be read ({reason}); remove {folder} and it is "
            "downloaded again"
        ) from None
    if len(x) != len(labels) or not len(x):
        raise DataError(f"the {data.title} under {root} has {len(x)} images, {len(labels)} labels")
    return Split(x, labels.long(), data.classes, f"the original {data.title}")


class MNIST(ImageSet):
    """MNIST, with two black pixels on each side."""

    layout = "MNIST/raw"

    def read(self, root: Path, split: str) -> Examples:
        """Read the raw files: datasets.MNIST would unpickle a legacy `processed` folder."""
        from torchvision.datasets.mnist import read_image_file, read_label_file

        stem = str(root / self.layout / ("train" if split == "train" else "t10k"))
        x = read_image_file(f"{stem}-images-idx3-ubyte")[:, None]
        labels: Tensor = read_label_file(f"{stem}-labels-idx1-ubyte")
        return torch.nn.functional.pad(x, (2, 2, 2, 2)), labels


class CIFAR10(ImageSet):
    """CIFAR-10."""

    layout = "cifar-10-batches-py"
    copies: ClassVar = dict.fromkeys(
        ("4c6ff960799d1511", "12f8dfd385fadf8e"),
        (
            "a JPEG copy of CIFAR-10 (quality 75, 4:2:0; 30.0 dB against the originals)",
            "Likelihoods and PSNR are therefore not comparable with the literature to the last "
            "digit.",
        ),
    )

    def read(self, root: Path, split: str) -> Examples:
        """Read the batches, whose MD5 torchvision checks before it unpickles them."""
        from torchvision import datasets

        cifar = datasets.CIFAR10(root, train=split == "train")
        x = torch.from_numpy(cifar.data).permute(0, 3, 1, 2).contiguous()
        return x, torch.tensor(cifar.targets)


class SVHN(ImageSet):
    """SVHN's cropped digits."""

    layout = "train_32x32.mat"
    held_out = slice(7200, 8001)
    copies: ClassVar = dict.fromkeys(
        ("2ada856d6f32777c", "69aa9b02efd08955"),
        (
            "10,000 digits of SVHN's original test set, split by house into 8,001 and 1,999",
            "Nothing may be evaluated on SVHN's original test set with these weights: they have "
            "seen most of the digits used here, which come from it.",
        ),
    )

    def read(self, root: Path, split: str) -> Examples:
        """Read the MATLAB files; torchvision makes "10" the class 0."""
        from torchvision import datasets

        svhn = datasets.SVHN(root, split)
        return torch.from_numpy(svhn.data), torch.from_numpy(svhn.labels)

    def download(self, root: Path) -> None:
        """Download both splits of SVHN."""
        from torchvision import datasets

        for split in ("train", "test"):
            datasets.SVHN(root, split, download=True)
