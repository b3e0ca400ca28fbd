"""Pictures in folders, one for each class: image trees of data sets, and one's own pictures."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from lvmzoo.images import visible_files
from lvmzoo.notes import Notes
from lvmzoo.picture import fit_image, open_image
from lvmzoo.registry import DataSet
from training.data.split import DataError, Split


def load_folder(folder: Path, split: str, data: DataSet) -> Split:
    """Load one's own pictures from `folder/{train,test}/<class>/**`, at the size of `data`.

    Without a test folder, a tenth of each class is test; of the training pictures, a tenth of
    each class is validation. A class of at least three pictures is in every split.

    Raises:
        DataError: There are no such folders or no pictures, or the split would be empty.
    """
    train, test = folder / "train", folder / "test"
    if not train.is_dir():
        raise DataError(f"{folder} has no folder train/<class>/ with pictures")
    classes = _classes(train)
    own = replace(data, name=folder.name, classes=classes, content_size=None)
    if split == "test" and test.is_dir():
        return replace(read_tree(test, own), own=True)
    whole = read_tree(train, own)
    if not test.is_dir():
        held_out = _tenth(whole.labels, 9, least=3)
        whole = whole.take((held_out if split == "test" else ~held_out).nonzero()[:, 0])
    if split in ("train", "validation"):
        held_out = _tenth(whole.labels, 0, least=2)
        whole = whole.take((held_out if split == "validation" else ~held_out).nonzero()[:, 0])
    if not len(whole):
        raise DataError(
            f"the {split} split is empty: a tenth of each class of {train} would be in it, and no "
            "class has enough pictures"
        )
    return replace(whole, own=True)


def read_tree(folder: Path, data: DataSet) -> Split:
    """Read every picture below `folder/<class>/`; hidden files and folders do not count.

    Pictures named by a number come in its order whatever their class, which is the original order
    of the image trees of data sets.

    Raises:
        DataError: No pictures, a class that `data` lacks, pictures outside the class folders, or
            one that cannot be read.
    """
    paths = [path for path in visible_files(folder) if _is_picture(path)]
    files = sorted(paths, key=lambda path: _order(path, folder))
    if not files:
        raise DataError(f"{folder} holds no pictures in <class>/ folders")
    stray = [path for path in files if path.parent == folder]
    if stray:
        raise DataError(
            f"{folder} holds {len(stray)} pictures outside its class folders ({stray[0].name}); "
            "move them into one"
        )
    names = [path.relative_to(folder).parts[0] for path in files]
    unknown = sorted(set(names) - set(data.classes))
    if unknown:
        raise DataError(f"{folder} has the class {unknown[0]!r}, which {data.name} has not")
    labels = torch.tensor([data.classes.index(name) for name in names])
    source = f"{len(data.classes)} classes of own pictures"
    return Split(_read(files, data, folder), labels, data.classes, source)


def _read(files: list[Path], data: DataSet, folder: Path) -> Tensor:
    channels, size, notes = data.shape[0], data.shape[1], Notes()

    def read(path: Path) -> np.ndarray:
        return fit_image(open_image(path, channels, notes), size, data.content_size)

    try:
        with ThreadPoolExecutor() as pool:
            bar = tqdm(pool.map(read, files), str(folder), len(files), leave=False, disable=None)
            arrays = np.stack(list(bar))
    except (ValueError, OSError) as error:
        raise DataError(str(error)) from None
    notes.warn(stacklevel=3)
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous()


def _classes(folder: Path) -> tuple[str, ...]:
    """Return the folders that hold pictures, and say which other files are left out."""
    files = list(visible_files(folder))
    others = sorted(path for path in files if not _is_picture(path))
    if others:
        warnings.warn(
            f"{len(others)} files below {folder} are no pictures and are left out, the first of "
            f"them {others[0].relative_to(folder)}",
            stacklevel=3,
        )
    parts = [path.relative_to(folder).parts for path in files if _is_picture(path)]
    return tuple(sorted({names[0] for names in parts if len(names) > 1}))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in Image.registered_extensions()


def _order(path: Path, folder: Path) -> tuple[int, str, str]:
    number = int(path.stem) if path.stem.isascii() and path.stem.isdigit() else 0
    return number, path.stem, path.relative_to(folder).as_posix()


def _tenth(labels: Tensor, place: int, *, least: int) -> Tensor:
    """Mark a tenth of each class, (N,): in each ten that follow one another, the one at `place`.

    A class of fewer than ten gives its last at most, and one of fewer than `least` gives none.
    """
    marked = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        index = (labels == label).nonzero()[:, 0]
        if len(index) >= least:
            marked[index[min(place, len(index) - 1) :: 10]] = True
    return marked
