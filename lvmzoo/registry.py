"""Which entries exist, and every fact about them. Imports no torch.

What is chosen by hand stands here: data sets and families of entries. What is measured or computed
(files, hashes, metrics) stands in `weights/index.json`, which `training.release` writes.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

__all__ = [
    "DATASETS",
    "WEIGHTS",
    "DataSet",
    "ModelInfo",
    "UnknownModelError",
    "WeightsFile",
    "fact_lines",
    "list_models",
    "model_classes",
    "model_info",
    "read_index",
    "why_no_weights",
]


WEIGHTS = Path(__file__).parent / "weights"


class UnknownModelError(ValueError):
    """No entry of the zoo has this name."""


@dataclass(frozen=True)
class DataSet:
    """A data set as the models see it.

    Arguments:
        name: The name in entries, folders and recipes.
        title: The name people use.
        shape: (C, H, W) of an image, or (2,) for points.
        licence: What its authors allow.
        source: Where it is described.
        classes: Class names in the order of the labels.
        content_size: Edge of the picture inside the image; what lies outside is black padding.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    licence: str
    source: str
    classes: tuple[str, ...] = ()
    content_size: int | None = None


_DIGITS = tuple("0123456789")
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_SYNTHETIC = "synthetic, drawn from a seed"

_DATASETS = (
    DataSet("gaussian1", "2-D Gaussian 1", (2,), "none needed", _SYNTHETIC),
    DataSet("gaussian2", "2-D Gaussian 2", (2,), "none needed", _SYNTHETIC),
    DataSet(
        name="mnist",
        title="MNIST",
        shape=(1, 32, 32),
        licence="CC BY-SA 3.0",
        source="LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/",
        classes=_DIGITS,
        content_size=28,
    ),
    DataSet(
        name="bmnist",
        title="binarised MNIST",
        shape=(1, 28, 28),
        licence="CC BY-SA 3.0",
        source="LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/",
        classes=_DIGITS,
    ),
    DataSet(
        name="cifar10",
        title="CIFAR-10",
        shape=(3, 32, 32),
        licence="none stated by its authors",
        source="Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html",
        classes=tuple(_CIFAR10.split()),
    ),
    DataSet(
        name="svhn",
        title="SVHN",
        shape=(3, 32, 32),
        licence="for non-commercial use only",
        source="Netzer et al. 2011, http://ufldl.stanford.edu/housenumbers/",
        classes=_DIGITS,
    ),
)
DATASETS: Mapping[str, DataSet] = {data.name: data for data in _DATASETS}


@dataclass(frozen=True)
class _Family:
    """What the entries of one model family share."""

    model_class: str
    summary: str
    paper: str
    datasets: tuple[str, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""  # of the entries' names, where it is not the family's name


_IMAGE_SETS = ("mnist", "cifar10", "svhn")
_VAE_PAPER = "Kingma and Welling 2013, https://arxiv.org/abs/1312.6114"
_FAMILIES = {
    "vae2d": _Family(
        model_class="VAE2D",
        summary="VAE on 2-D points, diagonal-Gaussian posterior and decoder",
        paper=_VAE_PAPER,
        datasets=("gaussian1", "gaussian2"),
    ),
    "vae": _Family(
        model_class="VAE",
        summary="convolutional VAE, 16-D latent, prior N(0, I), decoder N(mu(z), I)",
        paper=_VAE_PAPER,
        datasets=_IMAGE_SETS,
    ),
    "bernoulli_vae": _Family(
        model_class="BernoulliVAE",
        summary="VAE on binary images, 50-D latent, prior N(0, I), Bernoulli decoder",
        paper="Burda et al. 2015, https://arxiv.org/abs/1509.00519",
        datasets=("bmnist",),
        prefix="vae",
    ),
    "vlae": _Family(
        model_class="VLAE",
        summary="convolutional VAE, 16-D latent, autoregressive-flow prior, decoder N(mu(z), I)",
        paper="Chen et al. 2016, https://arxiv.org/abs/1611.02731",
        datasets=_IMAGE_SETS,
    ),
    "vqvae": _Family(
        model_class="VQVAE",
        summary="VQ-VAE, 8x8 codes of 128, PixelCNN prior",
        paper="van den Oord et al. 2017, https://arxiv.org/abs/1711.00937",
        datasets=_IMAGE_SETS,
    ),
    "vqvae_gated": _Family(
        model_class="VQVAE",
        summary="VQ-VAE, 8x8 codes of 128, class-conditional Gated PixelCNN prior",
        paper="van den Oord et al. 2016, https://arxiv.org/abs/1606.05328",
        datasets=_IMAGE_SETS,
        config={"prior": "gated_pixelcnn"},
    ),
}
_ENTRIES = {
    f"{family.prefix or name}_{dataset}": (family, DATASETS[dataset])
    for name, family in _FAMILIES.items()
    for dataset in family.datasets
}


@dataclass(frozen=True)
class WeightsFile:
    """One file of weights: its name, SHA-256, size in bytes and dtype on disk."""

    name: str
    sha256: str
    size: int
    dtype: str


@dataclass(frozen=True, repr=False)
class ModelInfo:
    """Every fact about one entry; shown as `lvmzoo info` does, in a notebook as a table.

    Arguments:
        name: The entry.
        model_class: Name of its class, an attribute of `lvmzoo`.
        summary: One line on the model.
        paper: Where the model is described.
        dataset: Name of the data set.
        image_shape: (C, H, W); None for points.
        classes: Class names in the order of the labels; empty for points.
        data_licence: Licence of the data.
        licence: Licence of code and weights.
        config: Arguments of the class's config that differ from their defaults.
        parameters: Number of parameters; None without weights.
        metrics: Headline figures on the test split; the card has all of them.
        files: Weights by component; empty without weights.
        repository: Hub repository that serves the same bytes; None if not published.
        revision: Commit of that repository.

    Example:
        >>> info = lvmzoo.model_info("vqvae_gated_cifar10")
        >>> info.model_class, info.pretrained, info.classes[7]
        ('VQVAE', True, 'horse')
        >>> sorted(info.files)
        ['autoencoder', 'prior']
    """

    name: str
    model_class: str
    summary: str
    paper: str
    dataset: str
    image_shape: tuple[int, ...] | None
    classes: tuple[str, ...]
    data_licence: str
    licence: str
    config: Mapping[str, Any]
    parameters: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, WeightsFile] = field(default_factory=dict)
    repository: str | None = None
    revision: str | None = None

    @property
    def pretrained(self) -> bool:
        """Whether weights exist."""
        return bool(self.files)

    def __repr__(self) -> str:
        return "\n".join(f"{key}: {value}".rstrip() for key, value in fact_lines(self._facts()))

    def _repr_html_(self) -> str:
        rows = (
            f"<tr><th style='text-align: left; white-space: pre'>{escape(key)}</th>"
            f"<td style='text-align: left'>{escape(value)}</td></tr>"
            for key, value in fact_lines(self._facts())
        )
        return f"<table>{''.join(rows)}</table>"

    def _facts(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)} | {
            "pretrained": self.pretrained
        }


def fact_lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield facts for people to read: names and values as text, nested ones below, indented."""
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            yield key, ""
            for inner, item in value.items():
                yield f"  {inner}", _text(item)
        else:
            yield key, _text(value)


def _text(value: Any) -> str:
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "-"
    return "-" if value in (None, "") else str(value)


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Return the sorted names of the entries.

    Arguments:
        pattern: Shell pattern that the name must match.
        pretrained: Only entries that have weights.

    Example:
        >>> lvmzoo.list_models("vae2d_*")
        ['vae2d_gaussian1', 'vae2d_gaussian2']
    """
    names = sorted(name for name in _ENTRIES if fnmatchcase(name, pattern))
    return [name for name in names if name in _index()] if pretrained else names


def model_info(name: str) -> ModelInfo:
    """Return the facts about an entry.

    Raises:
        UnknownModelError: No such entry; the message has the nearest names.

    Example:
        >>> lvmzoo.model_info("vae_cifar10").image_shape
        (3, 32, 32)
    """
    if name not in _ENTRIES:
        raise UnknownModelError(f"unknown entry {name!r}; {_nearest(name)}")
    family, data = _ENTRIES[name]
    images = len(data.shape) == 3
    config: dict[str, Any] = {"dataset": data.name}
    if images:
        config |= {"in_channels": data.shape[0], "classes": data.classes}
    config |= family.config
    facts = dict(_index().get(name, {}))
    facts["files"] = {k: WeightsFile(**v) for k, v in facts.get("files", {}).items()}
    facts["metrics"] = dict(facts.get("metrics", {}))
    return ModelInfo(
        name=name,
        model_class=family.model_class,
        summary=family.summary,
        paper=family.paper,
        dataset=data.name,
        image_shape=data.shape if images else None,
        classes=data.classes,
        data_licence=data.licence,
        licence="MIT",
        config=config,
        **facts,
    )


def _nearest(name: str) -> str:
    close = get_close_matches(name, _ENTRIES, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else "`lvmzoo list` shows all entries"


def model_classes() -> list[str]:
    """Return the names of the model classes that entries are of, in the order of the families."""
    return list(dict.fromkeys(family.model_class for family in _FAMILIES.values()))


def why_no_weights(name: str) -> str:
    """Say why an entry has no weights: nobody trained it, or this copy came without them."""
    path = WEIGHTS / "index.json"
    if not path.is_file():
        return f"this copy of lvmzoo was packed without its data: {path} is absent; install it anew"
    return f"{name} has no weights yet; `lvmzoo list --pretrained` shows the entries that do"


def read_index() -> dict[str, dict[str, Any]]:
    """Return what is generated of each entry: files, metrics, parameters, repository."""
    path = WEIGHTS / "index.json"
    if not path.is_file():  # a checkout in which nothing has been trained yet
        return {}
    index: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return index


def _index() -> dict[str, dict[str, Any]]:
    path = WEIGHTS / "index.json"
    return _read_once(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=1)
def _read_once(path: Path, changed: int) -> dict[str, dict[str, Any]]:
    return read_index()
