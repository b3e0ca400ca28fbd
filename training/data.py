"""Data sets, each as one tensor in memory: no worker processes, a batch is an index."""

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lvmzoo.images import EXTENSIONS, fit_image, open_image
from lvmzoo.registry import DATASETS, DataSet

__all__ = [
    "DataError",
    "Split",
    "as_input",
    "gaussian_formula",
    "gaussian_log_prob",
    "load_folder",
    "load_split",
    "sha256",
]

# Copies that differ from the original data sets, by the start of the SHA-256 of a whole split.
_JPEG = "a JPEG copy of CIFAR-10 (quality 75, 4:2:0; 30.0 dB against the originals)"
_PART = "10,000 digits of SVHN's original test set, split by house into 8,001 and 1,999"
_COPIES = {
    "4c6ff960799d1511": _JPEG,
    "12f8dfd385fadf8e": _JPEG,
    "2ada856d6f32777c": _PART,
    "69aa9b02efd08955": _PART,
}


class DataError(RuntimeError):
    """The data are not there, or are not what they should be."""


@dataclass(frozen=True)
class Split:
    """One split of a data set.

    Arguments:
        x: Images (N, C, H, W) uint8, or points (N, 2) float32.
        labels: Class indices (N,) int64.
        classes: Class names in the order of the labels.
        source: Where the data came from, in words, for the card.
    """

    x: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Tensor | slice) -> "Split":
        """Return the examples at these indices."""
        return replace(self, x=self.x[index], labels=self.labels[index])


def as_input(x: Tensor) -> Tensor:
    """Bring stored data to what models take: images in [0, 1], points as they are."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


def load_split(dataset: str, split: str, root: Path) -> Split:
    """Load "train" (without validation), "validation", "all" (both) or "test".

    Raises:
        DataError: The data are not under `root` and cannot be downloaded, or are damaged.
    """
    data = DATASETS[dataset]
    if len(data.shape) == 1:
        return _gaussian(dataset, split)
    whole = _load_images(data, "test" if split == "test" else "train", root)
    if split in ("test", "all"):
        return whole
    held_out = validation_indices(dataset, len(whole))
    mask = torch.zeros(len(whole), dtype=torch.bool)
    mask[held_out.start : held_out.stop] = True
    return whole.take((mask if split == "validation" else ~mask).nonzero()[:, 0])


def load_folder(folder: Path, split: str, data: DataSet) -> Split:
    """Load one's own pictures from `folder/{train,test}/<class>/*` as `data` has them.

    Without a test folder every tenth file is test; of the training files every tenth is
    validation.

    Raises:
        DataError: There are no such folders or no pictures.
    """
    train = folder / "train"
    if not train.is_dir():
        raise DataError(f"{folder} has no folder train/<class>/ with pictures")
    classes = tuple(sorted(p.name for p in train.iterdir() if p.is_dir()))
    own = replace(data, classes=classes, content_size=None)
    source = f"{len(classes)} classes of own pictures"
    if split == "test" and (folder / "test").is_dir():
        return _read_tree(folder / "test", own, source)
    whole = _read_tree(train, own, source)
    tenth = torch.arange(len(whole)) % 10
    if not (folder / "test").is_dir():
        if split == "test":
            return whole.take((tenth == 9).nonzero()[:, 0])
        whole = whole.take((tenth != 9).nonzero()[:, 0])
        tenth = torch.arange(len(whole)) % 10
    if split == "all":
        return whole
    return whole.take(((tenth == 0) == (split == "validation")).nonzero()[:, 0])


def validation_indices(dataset: str, size: int) -> range:
    """Return which examples of the training set, in original order, are for validation."""
    return range(7200, 8001) if dataset == "svhn" else range(size - 5000, size)


def sha256(split: Split) -> str:
    """Return the SHA-256 of a split's examples and labels."""
    digest = hashlib.sha256(np.ascontiguousarray(split.x.numpy()).tobytes())
    digest.update(split.labels.numpy().tobytes())
    return digest.hexdigest()


# 2-D Gaussians: x = mean + (eps * scale) R, which has full covariance.
_MEAN = {"gaussian1": (1.0, 2.0), "gaussian2": (-1.0, 2.0)}
_SCALE = {"gaussian1": (5.0, 1.0), "gaussian2": (1.0, 5.0)}
_SIZE = {"train": 10_000, "validation": 2_500, "test": 2_500}
_SEED = {"train": 1, "validation": 2, "test": 3}


def _rotation() -> Tensor:
    s = math.sqrt(2) / 2
    return torch.tensor([[s, s], [-s, s]], dtype=torch.float64)


def _gaussian(dataset: str, split: str) -> Split:
    if split == "all":
        parts = [_gaussian(dataset, part) for part in ("train", "validation")]
        return replace(
            parts[0], x=torch.cat([p.x for p in parts]), labels=torch.zeros(12_500).long()
        )
    seed = _SEED[split] + 10 * sorted(_MEAN).index(dataset)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(_SIZE[split], 2, generator=generator, dtype=torch.float64)
    scale = torch.tensor(_SCALE[dataset], dtype=torch.float64)
    x = torch.tensor(_MEAN[dataset], dtype=torch.float64) + (noise * scale) @ _rotation()
    return Split(x.float(), torch.zeros(len(x)).long(), (), f"drawn from seed {seed}")


def gaussian_formula(dataset: str) -> str:
    """Say how the points of a 2-D data set are drawn."""
    mean, scale = _MEAN[dataset], _SCALE[dataset]
    entropy = math.log(2 * math.pi * math.e) + math.log(25) / 2
    return (
        f"x = ({mean[0]:g}, {mean[1]:g}) + (eps * ({scale[0]:g}, {scale[1]:g})) R with "
        "eps ~ N(0, I), R = [[s, s], [-s, s]] and s = sqrt(2) / 2; "
        f"entropy {entropy:.3f} nats"
    )


def gaussian_log_prob(dataset: str, x: Tensor) -> Tensor:
    """Return the true log density of points (N, 2) of a 2-D data set, (N,) float64 in nats."""
    scale = torch.tensor(_SCALE[dataset], dtype=torch.float64)
    mean = torch.tensor(_MEAN[dataset], dtype=torch.float64)
    noise = (x.double() - mean) @ _rotation().T / scale
    return -0.5 * noise.square().sum(1) - math.log(2 * math.pi) - scale.log().sum()


# Both halves of one data set: entries and splits of it follow one another, and reading one from
# an image tree takes a minute.
@lru_cache(maxsize=2)
def _load_images(data: DataSet, split: str, root: Path) -> Split:
    layout = _TORCHVISION[data.name]
    folder = root / layout
    # A download that failed leaves an empty folder behind.
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        return _read_torchvision(data, split, root)
    tree = root / data.name / split
    if tree.is_dir():
        found = _read_tree(tree, data, "an image tree")
        return replace(found, source=_COPIES.get(sha256(found)[:16], found.source))
    try:
        _download(data, split, root)
    except Exception as error:  # torchvision raises whatever its transport does
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"no {data.title} under {root}: neither torchvision's {layout} nor the image tree "
            f"{data.name}/{split}/<class>/*.png, and the download failed ({reason})"
        ) from None
    return _read_torchvision(data, split, root)


_TORCHVISION = {
    "mnist": "MNIST/raw",
    "cifar10": "cifar-10-batches-py",
    "svhn": "train_32x32.mat",
}


def _download(data: DataSet, split: str, root: Path) -> None:
    from torchvision import datasets

    if data.name == "mnist":
        datasets.MNIST(root, download=True)
    elif data.name == "cifar10":
        datasets.CIFAR10(root, download=True)
    else:
        for part in ("train", "test"):
            datasets.SVHN(root, part, download=True)


def _read_torchvision(data: DataSet, split: str, root: Path) -> Split:
    from torchvision import datasets
    from torchvision.datasets.mnist import read_image_file, read_label_file

    try:
        if data.name == "mnist":
            # Not datasets.MNIST: beside raw files it would unpickle a legacy `processed` folder.
            stem = str(root / "MNIST/raw" / ("train" if split == "train" else "t10k"))
            x = read_image_file(f"{stem}-images-idx3-ubyte")[:, None]
            labels = read_label_file(f"{stem}-labels-idx1-ubyte")
            x = torch.nn.functional.pad(x, (2, 2, 2, 2))
        elif data.name == "cifar10":
            cifar = datasets.CIFAR10(root, train=split == "train")  # checks MD5 before unpickling
            x = torch.from_numpy(cifar.data).permute(0, 3, 1, 2).contiguous()
            labels = torch.tensor(cifar.targets)
        else:
            svhn = datasets.SVHN(root, split)
            x, labels = torch.from_numpy(svhn.data), torch.from_numpy(svhn.labels)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"the {data.title} under {root} cannot be read ({reason})") from None
    if len(x) != len(labels) or not len(x):
        raise DataError(f"the {data.title} under {root} has {len(x)} images, {len(labels)} labels")
    return Split(x, labels.long(), data.classes, f"the original {data.title}")


def _read_tree(folder: Path, data: DataSet, source: str) -> Split:
    found = [p for p in folder.glob("*/*") if p.suffix.lower() in EXTENSIONS]
    files = sorted(found, key=_order)
    if not files:
        raise DataError(f"{folder} holds no pictures in <class>/ folders")
    unknown = sorted({p.parent.name for p in files} - set(data.classes))
    if unknown:
        raise DataError(f"{folder} has the class {unknown[0]!r}, which {data.name} has not")
    channels, size = data.shape[0], data.shape[1]

    def read(path: Path) -> np.ndarray:
        return fit_image(open_image(path, channels), size, data.content_size)

    try:
        with ThreadPoolExecutor() as pool:
            bar = tqdm(pool.map(read, files), str(folder), len(files), leave=False, disable=None)
            arrays = np.stack(list(bar))
    except (ValueError, OSError) as error:
        raise DataError(str(error)) from None
    x = torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([data.classes.index(p.parent.name) for p in files])
    return Split(x, labels, data.classes, source)


def _order(path: Path) -> tuple[int, str, str]:
    """Files named by a number come in its order, whatever their class: the original order."""
    number = int(path.stem) if path.stem.isascii() and path.stem.isdigit() else 0
    return number, path.stem, path.parent.name
