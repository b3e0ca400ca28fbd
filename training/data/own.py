"""One's own pictures, from whatever sources `lvmzoo encode` reads, and how they are split."""

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from lvmzoo.files import write_json
from lvmzoo.notes import Notes
from lvmzoo.pictures.find import find
from lvmzoo.pictures.record import Picture, SourceError, stem
from lvmzoo.registry import DATASETS, DataSet
from training.data.pictures import Read, read_pictures
from training.data.rows import DataError, Rows
from training.data.split import Split

Sources = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
_SHOWN = 10  # names in a message
_TRAIN, _VALIDATION, _TEST = range(3)
_GIVEN: dict[str | None, int] = {"validation": _VALIDATION, "test": _TEST}


@dataclass(frozen=True)
class OwnPictures:
    """One's own pictures, as they were understood."""

    name: str
    whole: Split
    part: Tensor  # (N,), which of these are for training, for validation and for the test
    line: str  # what was understood, in one line

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the labels; () if there are none."""
        return self.whole.classes

    def split(self, name: str) -> Split:
        """Return "train" (without validation), "validation", "all" (both) or "test".

        Raises:
            DataError: The split would be empty.
        """
        parts = {"train": [_TRAIN], "validation": [_VALIDATION], "test": [_TEST]}
        wanted = torch.tensor(parts.get(name, [_TRAIN, _VALIDATION]))
        split = self.whole.take(torch.isin(self.part, wanted).nonzero()[:, 0])
        if not len(split):
            raise DataError(
                f"the {name} split is empty: a tenth of each class of {self.name} would be in "
                "it, and no class has enough pictures"
            )
        return split


def name_of(sources: Sources) -> str:
    """Return what pictures are called: like the first source, but not like a data set."""
    first = _listed(sources)[0].rstrip("/")
    name = os.path.basename(first if "://" in first else os.path.abspath(first))
    name = stem(name) if name.lower().endswith((".tar", ".parquet")) else name
    return f"own-{name}" if name in DATASETS else name


def read_folder(
    sources: Sources,
    data: DataSet,
    cache: Path | None = None,
    *,
    skip: bool = False,
    deadline: float = math.inf,
) -> OwnPictures:
    """Read one's own pictures, at the size and with the channels of `data`.

    docs/sources.md says where they may lie, and what makes classes and splits. Pictures come in the
    order of their names, and whether one is for training follows from its name alone, so that the
    same pictures in a folder, in tars or in parquet files are the same data.

    Arguments:
        sources: Files, folders, tars, parquet files, or addresses of fsspec.
        data: A data set that has images of the size and channels.
        cache: A folder in which they are kept as they were read; by default they are in memory.
        skip: Leave out what cannot be read.
        deadline: A moment of `time.monotonic` after which reading stops, to go on later.

    Raises:
        DataError: No pictures, some that cannot be read, a class of a single one, or a class of
            which there are pictures for the test alone.
        UnfinishedError: The deadline passed before all were in the cache.
    """
    name, notes = name_of(sources), Notes()
    pictures = _find(sources, notes)
    x, read = read_pictures(pictures, data, cache, name, _listed(sources), deadline)
    if read.failures and not skip:
        raise DataError(_unreadable(read.failures, len(pictures), cache, name))
    order = sorted(
        (i for i in range(len(pictures)) if i not in read.failures),
        key=lambda i: _name_in_set(pictures[i]),
    )
    if not order:
        raise DataError(f"none of the {len(pictures):,} pictures of {name} can be read")
    kept = [pictures[i] for i in order]
    classes = _classes(kept, name)
    bad = f"{len(read.failures):,} of {len(pictures):,} pictures could not be read"
    whole = Split(
        x.take(torch.tensor(order)) if isinstance(x, Rows) else x[torch.tensor(order)],
        torch.tensor([classes.index(str(p.label)) if classes else 0 for p in kept]),
        classes,
        f"{len(classes)} classes of own pictures" if classes else "own pictures, no classes",
        f"{bad} and were left out." if read.failures else "",
        own=True,
    )
    part = torch.tensor([_GIVEN.get(picture.split, _TRAIN) for picture in kept])
    _check_counts(whole.labels[part != _TEST], classes, name)
    has_test = bool((part == _TEST).any())
    _hold_out(part, [_name_in_set(picture) for picture in kept], whole.labels)
    own = OwnPictures(name, whole, part, "")
    return replace(own, line=_line(own, has_test, read, notes))


def read_tree(folder: Path, data: DataSet) -> Split:
    """Read every picture below `folder/<class>/` into memory, those of a data set.

    Pictures named by a number come in its order whatever their class, which is the original order
    of the image trees of data sets.

    Raises:
        DataError: No pictures, a class that `data` lacks, pictures outside the class folders, or
            one that cannot be read.
    """
    pictures = sorted(_find(folder, Notes()), key=_number)
    for picture in pictures:
        label = picture.key.partition("/")[0]
        if label not in data.classes:
            raise DataError(f"{picture.name} is in no class of {data.name}: {data.classes}")
    x, read = read_pictures(pictures, data, None, data.name, [])
    if read.failures:
        raise DataError(_unreadable(read.failures, len(pictures), None, data.name))
    labels = [data.classes.index(picture.key.partition("/")[0]) for picture in pictures]
    kind = f"{len(data.classes)} classes of own pictures"
    return Split(x, torch.tensor(labels), data.classes, kind)


def _number(picture: Picture) -> tuple[int, str, str]:
    name = Path(picture.key).stem
    return int(name) if name.isascii() and name.isdigit() else 0, name, picture.key


def _listed(sources: Sources) -> list[str]:
    given = [sources] if isinstance(sources, (str, os.PathLike)) else sources
    return [os.fspath(source) for source in given]


def _find(sources: Sources, notes: Notes) -> list[Picture]:
    """Find pictures; where splits are given, those outside of them are left out."""
    try:
        pictures = list(find(_listed(sources), notes))
    except (SourceError, OSError) as error:
        raise DataError(str(error)) from None
    if not pictures:
        raise DataError(f"there are no pictures in {', '.join(_listed(sources))}")
    if not any(picture.split == "train" for picture in pictures):
        return [replace(picture, split=None) for picture in pictures]
    for picture in pictures:
        if picture.split is None:
            notes.add(picture.name, "neither for training nor for the test; left out")
    return [picture for picture in pictures if picture.split]


def _unreadable(bad: dict[int, str], total: int, cache: Path | None, name: str) -> str:
    """Say which pictures cannot be read, and write the whole list to a file."""
    shown = "; ".join(list(bad.values())[:_SHOWN])
    more = f"; and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
    where = ""
    if cache is not None:
        path = cache / f"{name}.unreadable.json"
        write_json(path, list(bad.values()))
        where = f"; all of them are listed in {path}"
    return (
        f"{len(bad):,} of {total:,} pictures cannot be read ({shown}{more}){where}; mend or remove "
        "them, or leave them out with --skip-unreadable"
    )


def _name_in_set(picture: Picture) -> str:
    """Return the name by which a picture is known, the same in a folder, tar or parquet file."""
    name = stem(picture.key) if picture.offset is None else picture.key
    first, slash, rest = name.partition("/")
    if picture.split and slash and first != picture.label:
        name = rest
    return name if "/" in name or picture.label is None else f"{picture.label}/{name}"


def _classes(pictures: Sequence[Picture], name: str) -> tuple[str, ...]:
    """Return the classes, in the order of names or numbers, if every picture has one."""
    if any(picture.label is None for picture in pictures):
        return ()
    found = {str(picture.label) for picture in pictures if picture.split != "test"}
    foreign = sorted({str(picture.label) for picture in pictures} - found)
    if foreign:
        raise DataError(f"the test pictures of {name} have the class {foreign[0]!r}, others do not")
    numbers = all(label.isascii() and label.isdigit() for label in found)
    return tuple(sorted(found, key=int if numbers else str))


def _check_counts(labels: Tensor, classes: tuple[str, ...], name: str) -> None:
    for label, count in zip(
        classes, labels.bincount(minlength=len(classes)).tolist(), strict=False
    ):
        if count < 2:
            raise DataError(
                f"the class {label!r} of {name} has {count} picture to train on: give it two at "
                "least (of three, one is in each split), or take it away"
            )


def _hold_out(part: Tensor, names: Sequence[str], labels: Tensor) -> None:
    """Mark pictures for test and validation, if none are given: a tenth of each class by names.

    A picture that more are put beside stays where it is, but in a class of a few dozen at most, of
    which one at least is held out.
    """
    wanted = [split for split in (_TEST, _VALIDATION) if not (part == split).any()]
    for label in labels.unique():
        index = ((labels == label) & (part == _TRAIN)).nonzero()[:, 0].tolist()
        places = sorted((_place(names[i]), i) for i in index)
        for split in wanted:
            least = 3 if split == _TEST else 2
            if len(places) >= least:
                count = sum(place < 0.1 for place, _ in places)
                count = min(max(1, count), len(places) + 1 - least)
                part[[i for _, i in places[:count]]] = split
                # Of the rest, so that a tenth of it follows.
                places = [(max(0.0, place - 0.1) / 0.9, i) for place, i in places[count:]]


def _place(name: str) -> float:
    """Return a number in [0, 1) that follows from a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def _line(own: OwnPictures, has_test: bool, read: Read, notes: Notes) -> str:
    """Say in one line what was understood."""
    labels, size = own.whole.labels, own.whole.x.shape[-1]
    counts = labels.bincount(minlength=len(own.classes)).tolist()
    named = [f"{name} {n:,}" for name, n in zip(own.classes, counts, strict=False)]
    more = f", and {len(named) - 2 * _SHOWN} more" if len(named) > 2 * _SHOWN else ""
    classes = f"in {len(named)} classes ({', '.join(named[: 2 * _SHOWN])}{more})"
    parts = [f"{own.name}: {len(labels):,} pictures {classes if named else 'without classes'}"]
    train, validation, test = own.part.bincount(minlength=3).tolist()
    tenth = "" if has_test else f" (a tenth of {'each class' if named else 'them'})"
    parts.append(f"{train:,} train, {validation:,} validation, {test:,} test{tenth}")
    kinds = [f"{n:,}: {kind}" for kind, n in read.converted.items()]
    parts.append(
        f"{size}x{size} pixels; " + (f"converted {'; '.join(kinds)}" if kinds else "none converted")
    )
    if read.failures:
        parts.append(f"{len(read.failures):,} unreadable ones left out")
    return "; ".join([*parts, *notes.lines()])
