"""Pictures in folders: image trees of data sets, and one's own pictures as people have them."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lvmzoo.files import atomic_file
from lvmzoo.images import visible_files
from lvmzoo.registry import DataSet
from training.data.pictures import Found, extreme, read_pictures
from training.data.rows import DataError, Rows
from training.data.split import Split

__all__ = ["OwnPictures", "load_folder", "read_folder", "read_tree"]

_SHOWN = 10  # names in a message


@dataclass(frozen=True)
class OwnPictures:
    """One's own pictures, as they were understood."""

    folder: Path
    train: Split  # with those of validation, and of test where that has no folder
    test: Split | None  # where it has a folder
    line: str  # what was understood, in one line

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the labels; () if there are none."""
        return self.train.classes

    def split(self, name: str) -> Split:
        """Return "train" (without validation), "validation", "all" (both) or "test".

        Without a test folder, a tenth of each class is test; of the training pictures, a tenth of
        each class is validation. A class of at least three pictures is in every split.

        Raises:
            DataError: The split would be empty.
        """
        whole = self.train
        if name == "test" and self.test is not None:
            return self.test
        if self.test is None:
            held_out = _tenth(whole.labels, 9, least=3)
            whole = whole.take((held_out if name == "test" else ~held_out).nonzero()[:, 0])
        if name in ("train", "validation"):
            held_out = _tenth(whole.labels, 0, least=2)
            whole = whole.take((held_out if name == "validation" else ~held_out).nonzero()[:, 0])
        if not len(whole):
            raise DataError(
                f"the {name} split is empty: a tenth of each class of {self.folder} would be in "
                "it, and no class has enough pictures"
            )
        return whole


def load_folder(folder: Path, split: str, data: DataSet) -> Split:
    """Load a split of one's own pictures into memory; see `read_folder`."""
    return read_folder(folder, data).split(split)


def read_folder(
    folder: Path,
    data: DataSet,
    cache: Path | None = None,
    *,
    skip: bool = False,
    deadline: float = math.inf,
) -> OwnPictures:
    """Read one's own pictures, at the size and with the channels of `data`.

    They lie in `folder/{train,test}/<class>/`, in `folder/<class>/`, or flat or nested without
    classes: there are classes if some lie directly in folders, and none beside these. What is
    deeper is of the class, too; hidden files and folders do not count.

    Arguments:
        folder: Where they are.
        data: A data set that has images of the size and channels.
        cache: A folder in which they are kept as they were read; by default they are in memory.
        skip: Leave out what cannot be read.
        deadline: A moment of `time.monotonic` after which reading stops, to go on later.

    Raises:
        DataError: No pictures, some that cannot be read, a class of a single one, or a test
            folder with a class that train lacks.
        UnfinishedError: The deadline passed before all were in the cache.
    """
    folder = Path(folder)
    roots = [folder]
    if (folder / "train").is_dir():
        roots = [folder / part for part in ("train", "test") if (folder / part).is_dir()]
    trees = [_find(root) for root in roots]
    classes = _classes(trees[0])
    own = replace(data, name=folder.resolve().name, classes=classes, content_size=None)
    for tree in trees:
        _check_tree(tree, own, strict=roots != [folder])
    read = [read_pictures(tree.root, tree.files, own, cache, deadline) for tree in trees]
    facts = [found for _, found in read]
    bad = [
        (tree.root / tree.files[i], why)
        for tree, found in zip(trees, facts, strict=True)
        for i, why in found.unreadable.items()
    ]
    total = sum(len(tree.files) for tree in trees)
    if bad and not skip:
        raise DataError(_unreadable(folder, bad, total, cache))
    if len(bad) == total:
        raise DataError(f"none of the {total:,} pictures below {folder} can be read")
    text = f"{len(bad):,} of {total:,} pictures could not be read and were left out."
    splits = [
        _split(tree, *r, classes, text if bad else "") for tree, r in zip(trees, read, strict=True)
    ]
    _check_counts(splits[0], folder)
    pictures = OwnPictures(folder, splits[0], splits[1] if len(splits) > 1 else None, "")
    return replace(pictures, line=_line(pictures, facts, own, trees[0]))


def _split(
    tree: "_Tree", x: Tensor | Rows, found: Found, classes: tuple[str, ...], caveat: str
) -> Split:
    """Return the pictures of a tree that could be read."""
    kind = f"{len(classes)} classes of own pictures" if classes else "own pictures, no classes"
    split = Split(x, _labels(tree.files, classes), classes, kind, caveat, own=True)
    if not found.unreadable:
        return split
    kept = torch.ones(len(split), dtype=torch.bool)
    kept[list(found.unreadable)] = False
    return split.take(kept.nonzero()[:, 0])


def read_tree(folder: Path, data: DataSet) -> Split:
    """Read every picture below `folder/<class>/` into memory, those of a data set.

    Pictures named by a number come in its order whatever their class, which is the original order
    of the image trees of data sets.

    Raises:
        DataError: No pictures, a class that `data` lacks, pictures outside the class folders, or
            one that cannot be read.
    """
    tree = _find(folder)
    _check_tree(tree, data, strict=True)
    x, found = read_pictures(folder, tree.files, data, None)
    bad = [(folder / tree.files[i], why) for i, why in found.unreadable.items()]
    if bad:
        raise DataError(_unreadable(folder, bad, len(tree.files), None))
    labels = _labels(tree.files, data.classes)
    return Split(x, labels, data.classes, f"{len(data.classes)} classes of own pictures")


@dataclass(frozen=True)
class _Tree:
    """The pictures below a folder, by their names in it, in order."""

    root: Path
    files: list[str]


def _find(root: Path) -> _Tree:
    """Find pictures, and say which other files are left out."""
    files: list[str] = []
    others: list[str] = []
    for path in visible_files(root):
        name = path.relative_to(root).as_posix()
        (files if path.suffix.lower() in _endings() else others).append(name)
    if others:
        warnings.warn(
            f"{len(others)} files below {root} are no pictures and are left out, the first of "
            f"them {min(others)}",
            stacklevel=3,
        )
    return _Tree(root, sorted(files, key=_order))


def _endings() -> dict[str, str]:
    return Image.registered_extensions()


def _order(name: str) -> tuple[int, str, str]:
    stem = Path(name).stem
    return int(stem) if stem.isascii() and stem.isdigit() else 0, stem, name


def _classes(tree: _Tree) -> tuple[str, ...]:
    """Return the first folders of all names, if some picture lies directly in one, none beside."""
    if min((name.count("/") for name in tree.files), default=0) != 1:
        return ()
    return tuple(sorted({name.partition("/")[0] for name in tree.files}))


def _labels(files: Sequence[str], classes: tuple[str, ...]) -> Tensor:
    if not classes:
        return torch.zeros(len(files), dtype=torch.long)
    index = {name: i for i, name in enumerate(classes)}
    return torch.tensor([index[name.partition("/")[0]] for name in files])


def _check_tree(tree: _Tree, data: DataSet, *, strict: bool) -> None:
    """Refuse a tree without pictures, with a foreign class, or with pictures beside classes."""
    root, names = tree.root, tree.files
    if not names:
        raise DataError(f"{root} holds no pictures")
    stray = [name for name in names if "/" not in name]
    if stray and strict and (data.classes or len(stray) < len(names)):
        raise DataError(
            f"{root} holds {len(stray)} pictures outside its class folders ({stray[0]}); "
            "move them into one"
        )
    if data.classes:
        unknown = sorted({name.partition("/")[0] for name in names} - set(data.classes))
        if unknown:
            raise DataError(f"{root} has the class {unknown[0]!r}, which {data.name} has not")


def _check_counts(train: Split, folder: Path) -> None:
    counts = train.labels.bincount(minlength=len(train.classes)).tolist()
    for name, count in zip(train.classes, counts, strict=False):
        if count < 2:
            raise DataError(
                f"the class {name!r} of {folder} has {count} picture{'s' * (not count)} to train "
                "on: give it two at least (of three, one is in each split), or take its folder away"
            )


def _unreadable(folder: Path, bad: list[tuple[Path, str]], total: int, cache: Path | None) -> str:
    """Say which pictures cannot be read, and write the whole list to a file."""
    shown = "; ".join(why for _, why in bad[:_SHOWN])
    more = f"; and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
    where = ""
    if cache is not None:
        path = cache / f"{folder.resolve().name}.unreadable.txt"
        with atomic_file(path) as temporary:
            text = "".join(f"{name}\t{' '.join(why.split())}\n" for name, why in bad)
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        where = f"; all of them are listed in {path}"
    return (
        f"{len(bad):,} of {total:,} pictures cannot be read ({shown}{more}){where}; mend or remove "
        "them, or leave them out with --skip-unreadable"
    )


def _beside(folder: Path) -> list[str]:
    """Return the folders beside train and test, which are not read."""
    found = [path.name for path in folder.iterdir() if path.is_dir()]
    return sorted(n for n in found if n not in ("train", "test") and not n.startswith("."))


def _line(own: OwnPictures, found: list[Found], data: DataSet, tree: _Tree) -> str:
    """Say in one line what was understood; `tree` holds the files of the training pictures."""
    splits = [own.train] if own.test is None else [own.train, own.test]
    labels = torch.cat([split.labels for split in splits])
    counts = labels.bincount(minlength=len(own.classes)).tolist()
    named = [f"{name} {n:,}" for name, n in zip(own.classes, counts, strict=False)]
    more = f", and {len(named) - 2 * _SHOWN} more" if len(named) > 2 * _SHOWN else ""
    classes = f"in {len(named)} classes ({', '.join(named[: 2 * _SHOWN])}{more})"
    stray = sum("/" not in name for name in tree.files)
    stray = 0 if stray == len(tree.files) else stray
    without = f"without classes{f' ({stray:,} lie outside of folders)' if stray else ''}"
    parts = [f"{data.name}: {len(labels):,} pictures {classes if named else without}"]
    sizes = [f"{_count(own, name):,} {name}" for name in ("train", "validation", "test")]
    tenth = f" (a tenth of {'each class' if named else 'them'})" if own.test is None else ""
    parts.append(f"{', '.join(sizes)}{tenth}")
    ends = [size for f in found for size in f.sizes]
    low, high, size = extreme(min, ends), extreme(max, ends), data.shape[-1]
    cropped = sum(f.cropped for f in found)
    span = f"{low[0]}x{low[1]}" + (f" to {high[0]}x{high[1]}" if low != high else "")
    square = f", {cropped:,} cropped to their middle square" if cropped else ""
    scaled = f", resized to {size}x{size}" if {*low, *high} != {size} else ""
    parts.append(f"{span} pixels{square}{scaled}")
    kinds = [f"{n:,}: {kind}" for f in found for kind, n in f.converted.items()]
    parts.append(f"converted {'; '.join(kinds)}" if kinds else "none converted")
    bad = sum(len(f.unreadable) for f in found)
    beside = [] if tree.root == own.folder else _beside(own.folder)
    parts += [f"{bad:,} unreadable ones left out"] if bad else []
    parts += [f"not read: {', '.join(f'{name}/' for name in beside)}"] if beside else []
    return "; ".join(parts)


def _count(own: OwnPictures, name: str) -> int:
    try:
        return len(own.split(name))
    except DataError:
        return 0


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
