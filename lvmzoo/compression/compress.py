"""Pictures or codes -> a file of the size that the prior promises, and back."""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from lvmzoo import checkpoint
from lvmzoo.checks import check_codes, check_count, check_labels
from lvmzoo.compression.container import Chunk, DamagedError, Description, Reader, Writer
from lvmzoo.compression.exact import ExactPrior
from lvmzoo.loading import origin_of
from lvmzoo.models.vqvae import VQVAE
from lvmzoo.registry import list_models

__all__ = ["Compressed", "Compressor", "Part", "compress", "decompress"]

CHUNK = 256  # pictures that are coded together, and lost together


@torch.no_grad()
def compress(model: VQVAE, images: Tensor, labels: Any = None) -> bytes:
    """Compress pictures to their codes under a model's prior, as `lvmzoo compress` does.

    The bytes say which model they need and do not contain it. They decode to the same codes on any
    machine: `docs/compress.md`.

    Arguments:
        model: A VQ-VAE with a prior of the zoo; it may be your own.
        images: Images (N, C, H, W) in [0, 1], or codes (N, h, w).
        labels: Classes, which go along and make files smaller: a class (its index or name), N of
            them or a LongTensor (N,); only for a prior that takes labels.

    Returns:
        The bytes of a file `.lvz`.

    Raises:
        TypeError: The model is no VQ-VAE.
        ValueError: The prior is not one of the zoo's, or its weights are too large.
        ImportError: The extra `compress` is not installed.

    Example:
        >>> model = lvmzoo.create_model("vqvae_cifar10", pretrained=True)
        >>> x = model.sample(4)
        >>> data = lvmzoo.compress(model, x)
        >>> torch.equal(lvmzoo.decompress(data, codes=True), model.encode(x))
        True
    """
    if not isinstance(model, VQVAE):
        raise TypeError(f"only a VQVAE compresses, not a {type(model).__name__}")
    file = io.BytesIO()
    compressor = Compressor(file, model, facts=labels is not None)
    if isinstance(images, Tensor) and images.is_floating_point():
        codes = model.encode(images)
    else:
        codes = check_codes(images, model.config.grid, model.config.num_codes, model.device)
    given: list[int] = []
    if labels is not None:
        if not model.prior.num_labels:
            raise ValueError("this VQVAE's prior is unconditional: it takes no labels")
        given = check_labels(labels, len(codes), model.config.classes, model.device).tolist()
    compressor.add(codes, labels=given)
    compressor.finish()
    return file.getvalue()


@torch.no_grad()
def decompress(
    data: bytes,
    model: VQVAE | None = None,
    *,
    codes: bool = False,
    only: int | range | None = None,
) -> Tensor:
    """Return the images that `compress` was given, as the model reconstructs them.

    Arguments:
        data: What `compress` returned, or the bytes of a file of `lvmzoo compress`.
        model: The model; not needed for an entry of the zoo.
        codes: Return codes (N, h, w) int64 instead.
        only: Some of them: the number of a picture, or a range of numbers.

    Returns:
        Images (N, C, H, W) in [0, 1], on the model's device.

    Raises:
        ValueError: The bytes are damaged, of a later version or of another model.

    Example:
        >>> model = lvmzoo.create_model("vqvae_cifar10", pretrained=True)
        >>> data = lvmzoo.compress(model, model.sample(4))
        >>> lvmzoo.decompress(data).shape, lvmzoo.decompress(data, only=3).shape
        (torch.Size([4, 3, 32, 32]), torch.Size([1, 3, 32, 32]))
    """
    compressed = Compressed(io.BytesIO(data), "the data", model)
    parts = [part.codes for part in compressed.parts(only)]
    if codes:
        return torch.cat(parts)
    return torch.cat([compressed.model.decode(part) for part in parts])


class Compressor:
    """Writes codes to a file, a chunk at a time.

    Arguments:
        file: Open for writing.
        model: The model.
        facts: Whether pictures have names or labels.
    """

    def __init__(self, file: BinaryIO, model: VQVAE, *, facts: bool) -> None:
        self.model, self.exact = model, ExactPrior(model.prior)
        self.writer = Writer(file, facts=facts)
        self.codes = torch.empty(0, *model.config.grid, dtype=torch.long, device=model.device)
        self.names: list[str] = []
        self.labels: list[int | None] = []
        self.count = 0

    def add(
        self, codes: Tensor, names: Sequence[str] = (), labels: Sequence[int | None] = ()
    ) -> None:
        """Take more codes (n, h, w), with n names or none and n labels or none."""
        self.codes = torch.cat([self.codes, codes])
        self.names += names
        self.labels += labels
        while len(self.codes) >= CHUNK:
            self._write()

    def finish(self) -> None:
        """Write what is left, and the description of all."""
        if len(self.codes):
            self._write()
        model, config = self.model, self.model.config
        origin = origin_of(model)
        entry = origin.name if origin is not None and origin.name in list_models() else ""
        own = {"model_class": type(model).__name__, **checkpoint.config_dict(config)}
        description = Description(
            entry=entry,
            config={} if entry else own,
            autoencoder=checkpoint.fingerprint(model.autoencoder.state_dict()),
            prior=self.exact.sha256(),
            grid=config.grid,
            num_codes=config.num_codes,
            pictures=self.count,
            chunk=CHUNK,
            facts=self.writer.facts,
        )
        self.writer.finish(description)

    def _write(self) -> None:
        codes, self.codes = self.codes[:CHUNK], self.codes[CHUNK:]
        names, self.names = self.names[:CHUNK], self.names[CHUNK:]
        labels, self.labels = self.labels[:CHUNK], self.labels[CHUNK:]
        coded = self.exact.encode(codes, _as_tensor(labels, self.model))
        self.writer.add(Chunk(self.count, len(codes), coded, names, labels))
        self.count += len(codes)


class Part(NamedTuple):
    """Pictures that follow one another: the first's number, codes (n, h, w), and their names."""

    start: int
    codes: Tensor
    names: Sequence[str]


class Compressed:
    """The codes of a file.

    Arguments:
        file: Open for reading.
        name: What messages call it.
        model: The model; None loads the entry that the file names.

    Raises:
        ValueError: The file is damaged, of a later version, or needs another model.
    """

    def __init__(self, file: BinaryIO, name: str, model: VQVAE | None = None) -> None:
        self.reader = Reader(file, name)
        about = self.reader.description
        if model is None and not about.entry:
            raise ValueError(f"{name} needs a model of your own: give the one that wrote it")
        self.model = VQVAE.from_pretrained(about.entry) if model is None else model
        if not isinstance(self.model, VQVAE):
            raise TypeError(f"{name} needs a VQVAE, not a {type(model).__name__}")
        model = self.model
        self.exact = ExactPrior(model.prior)
        ours = checkpoint.fingerprint(model.autoencoder.state_dict()), self.exact.sha256()
        if ours != (about.autoencoder, about.prior):
            wanted = about.entry or "its own model"
            raise ValueError(f"{name} was written by {wanted} with other weights than these")

    def parts(
        self, only: int | range | None = None, lost: Callable[[str], Any] | None = None
    ) -> Iterator[Part]:
        """Yield the pictures, a chunk at a time.

        Arguments:
            only: The number of a picture, or a range of numbers.
            lost: Called with a message for each chunk that is damaged, which is left out; by
                default that is an error.
        """
        wanted = self._range(only)
        size = self.reader.description.chunk
        indices = range(wanted.start // size, -(-wanted.stop // size))
        damaged = 0
        for index in indices:
            try:
                chunk = self.reader.chunk(index)
            except DamagedError as error:
                damaged += 1
                if lost is None or damaged == len(indices):
                    raise
                lost(str(error))
                continue
            labels = _as_tensor(chunk.labels, self.model)
            codes = self.exact.decode(chunk.codes, chunk.count, labels).to(self.model.device)
            first = max(wanted.start - chunk.start, 0)
            here = slice(first, wanted.stop - chunk.start)
            yield Part(chunk.start + first, codes[here], chunk.names[here])

    def _range(self, only: int | range | None) -> range:
        count = self.reader.description.pictures
        if only is None:
            return range(count)
        if not isinstance(only, range):
            first = check_count(only, "only", least=0, most=count - 1)
            return range(first, first + 1)
        if only.step != 1 or not 0 <= only.start < only.stop <= count:
            raise ValueError(f"only must be in range(0, {count}), not {only}")
        return only


def _as_tensor(labels: Sequence[int | None], model: VQVAE) -> Tensor | None:
    if not labels:
        return None
    none = model.prior.num_labels
    return torch.tensor([none if label is None else label for label in labels])
