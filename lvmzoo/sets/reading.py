"""Latents that `lvmzoo encode` has written, read back: whole, streamed, or by pyarrow."""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lvmzoo.extra import import_extra
from lvmzoo.files import expand_user
from lvmzoo.sets.making import INFO_NAME
from lvmzoo.sets.plan import Plan, missing, shard_path

__all__ = ["LatentSet", "read_latents"]


class LatentSet:
    """The latents of a data set; `read_latents` opens one, and a `DataLoader` takes it.

    Arguments:
        plan: What the set is.
        info: What its `set.json` says: entry, weights, columns, counts and more.

    Example:
        >>> from PIL import Image
        >>> from lvmzoo.cli import main
        >>> Image.new("L", (28, 28)).save("black.png")
        >>> main("encode vae_mnist black.png -o latents".split(), standalone_mode=False)
        >>> [batch.shape for batch in lvmzoo.read_latents("latents").batches(256)]
        [torch.Size([1, 16])]
    """

    def __init__(self, plan: Plan, info: dict[str, Any]) -> None:
        self.plan, self.info = plan, info

    def __len__(self) -> int:
        return int(self.info["counts"]["rows"])

    def __getitem__(self, index: int) -> Tensor:
        """Return the latent of a row; from the first on all are in memory."""
        return self._whole[index]

    @cached_property
    def _whole(self) -> Tensor:
        return self.tensor()

    def __repr__(self) -> str:
        return f"LatentSet({len(self):,} of {self.info['entry']}, {self.shape}, {self.folder})"

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.plan.folder

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one latent: (H / 4, W / 4) of codes, else (latent_dim,)."""
        return tuple(self.info["columns"]["latents"]["shape"])

    @property
    def shards(self) -> list[Path]:
        """The parquet files, in order."""
        return [shard_path(self.folder, i) for i in range(len(self.plan.sizes))]

    @property
    def dataset(self) -> Any:
        """The rows with all their columns, as a memory-mapped `pyarrow.dataset.Dataset`."""
        dataset = import_extra("pyarrow.dataset")
        return dataset.dataset([str(path) for path in self.shards], format="parquet")

    def tensor(self, column: str = "latents") -> Tensor:
        """Return a column of latents, (N, *shape), in the dtype that it is stored in.

        Arguments:
            column: "latents", or "log_std" where the set has it.

        Raises:
            ValueError: There is no such column.
        """
        parts = list(self.batches(2**16, column))
        dtype = getattr(torch, self.info["columns"][column]["dtype"])
        return torch.cat([torch.empty(0, *self.shape, dtype=dtype, device="cpu"), *parts])

    def batches(self, size: int, column: str = "latents") -> Iterator[Tensor]:
        """Yield a column of latents in order, (n, *shape) with n at most `size`, as they are read.

        Raises:
            ValueError: There is no such column.
        """
        if column not in self.info["columns"]:
            has = ", ".join(self.info["columns"])
            raise ValueError(f"{self.folder} has no latents {column!r} but {has}")
        for batch in self.dataset.to_batches(columns=[column], batch_size=size):
            if len(batch):
                values = batch.column(0).flatten().to_numpy().reshape(len(batch), *self.shape)
                yield torch.from_numpy(values.copy())

    def labels(self, classes: Sequence[str] = ()) -> Tensor | None:
        """Return the labels as class indices (N,) int64; None if not every row has one.

        Arguments:
            classes: Names of the classes, of which labels may be names or indices. Without them,
                names are numbered in sorted order, and numbers are taken as they are.

        Raises:
            ValueError: A label is none of the classes.
        """
        texts = self.dataset.to_table(columns=["label"]).column("label").combine_chunks()
        if texts.null_count:
            return None
        encoded = texts.dictionary_encode()
        index = _class_indices(encoded.dictionary.to_pylist(), classes, self.folder)
        return index[torch.from_numpy(encoded.indices.to_numpy().astype(np.int64))]


def read_latents(folder: str | Path) -> LatentSet:
    """Open a folder that `lvmzoo encode NAME SOURCE... -o FOLDER` has written.

    Arguments:
        folder: The folder; all its shards must be there.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: It holds no latents, or not all of them yet.

    Example:
        >>> from PIL import Image
        >>> from lvmzoo.cli import main
        >>> Image.new("L", (28, 28)).save("black.png")
        >>> main("encode vqvae_mnist black.png -o codes".split(), standalone_mode=False)
        >>> latents = lvmzoo.read_latents("codes")
        >>> latents.info["entry"], len(latents), latents.tensor().shape
        ('vqvae_mnist', 1, torch.Size([1, 8, 8]))
    """
    folder = expand_user(folder)
    plan = Plan.read(folder) if folder.is_dir() else None
    if plan is None:
        raise ValueError(f"{folder} is no folder that `lvmzoo encode` has written")
    if plan.facts["kind"] != "latents":
        raise ValueError(f"{folder} holds {plan.facts['kind']}, no latents")
    absent = len(missing(plan))
    info: dict[str, Any] = {}
    if (folder / INFO_NAME).exists():
        info = json.loads((folder / INFO_NAME).read_text(encoding="utf-8"))
    if absent or "counts" not in info:
        raise ValueError(
            f"{folder} is not complete: {absent} of {len(plan.sizes)} shards are missing; run the "
            "command that wrote it again"
        )
    return LatentSet(plan, info)


def _class_indices(names: Sequence[str], classes: Sequence[str], folder: Path) -> Tensor:
    """Return the class index of each label."""
    numbers = all(name.isdecimal() for name in names)
    if numbers and not set(names) <= set(classes):
        found = [int(name) for name in names]
    else:
        known = list(classes) or sorted(names)
        found = [known.index(name) if name in known else -1 for name in names]
    for name, index in zip(names, found, strict=True):
        if index < 0 or (classes and index >= len(classes)):
            raise ValueError(
                f"{folder} has the label {name!r}, which is no class: {', '.join(classes)}"
            )
    return torch.tensor(found, dtype=torch.long, device="cpu")
