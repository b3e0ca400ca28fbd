"""Models to files that run without lvmzoo: graphs, what is known of them, and how to sample."""

import copy
import hashlib
import pkgutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lvmzoo._version import __version__
from lvmzoo.checks import check_count
from lvmzoo.exporting.agreement import measure
from lvmzoo.exporting.formats import BATCH, FORMATS, OPSET
from lvmzoo.exporting.graphs import Graph, facts_of, graphs_of
from lvmzoo.files import atomic_folder, write_json
from lvmzoo.loading import from_pretrained, origin_of
from lvmzoo.models.base import ZooModel
from lvmzoo.pictures.transform import load_images, transform
from lvmzoo.registry import UnknownModelError, model_info

__all__ = ["export"]

ABOUT = "lvmzoo.json"
VERSION = 1  # of what ABOUT holds
DTYPES = ("float32", "float16")
EXAMPLES = 8  # of noise, and of samples
MAX_IMAGES = 256  # which are taken in at once


def export(
    model: str | Path | ZooModel,
    folder: str | Path,
    *,
    format: str = "onnx",
    dtype: str = "float32",
    images: Sequence[str | Path] = (),
) -> dict[str, Any]:
    """Write a model as graphs, which have been compared with it, and lvmzoo.json about them.

    What each file takes and returns stands in lvmzoo.json and in docs/export.md; sample.py, which
    is written beside them, draws samples with numpy and onnxruntime.

    Arguments:
        model: A model, or its name as for `lvmzoo.from_pretrained`.
        folder: Where to; what it holds already stays, but for files of the same names.
        format: "onnx", or "torch-export" for files that `torch.export.load` reads.
        dtype: That of the weights in the files: "float32" or "float16", to which weights that it
            cannot hold are rounded before anything is compared. Inputs, outputs and what is
            between them are float32 in either case.
        images: At most 256 pictures to compare by, beside noise and the model's own samples.

    Returns:
        What lvmzoo.json holds.

    Raises:
        ImportError: A library that the format needs is absent.
        ExportError: The files do not compute what the model computes; nothing is written.
        ValueError: Unknown format or dtype, too many pictures, or a model that takes none.
        OSError: The folder cannot be written; nothing is left behind.

    Example:
        >>> about = lvmzoo.export("vae2d_gaussian1", "graphs", format="torch-export")
        >>> sorted(about["files"])
        ['decode.pt2', 'encode.pt2']
    """
    form = _choice(FORMATS, format, "format")
    _choice(dict.fromkeys(DTYPES), dtype, "dtype")
    check_count(len(images), "the number of images", least=0, most=MAX_IMAGES)
    form.check_installed()
    model = _prepared(model, half=dtype == "float16")
    without_autocast = torch.autocast("cpu", enabled=False)
    with torch.no_grad(), without_autocast, atomic_folder(folder) as temporary:
        graphs = graphs_of(model, _examples(model, images))
        paths = {name: temporary / f"{name}.{form.ending}" for name in graphs}
        for name, graph in graphs.items():
            form.write(model, graph, paths[name], dtype == "float16")
        about = _about(model) | {"graphs": format, "dtype": dtype}
        about["opset"] = OPSET if format == "onnx" else None
        about["files"] = {paths[name].name: _file(paths[name], graphs[name]) for name in graphs}
        runs = {name: form.load(path) for name, path in paths.items()}
        about["checked"] = [m._asdict() for m in measure(model, graphs, runs, about)]
        write_json(temporary / ABOUT, about)
        loop = pkgutil.get_data(__package__, "sample.py")
        assert loop is not None
        (temporary / "sample.py").write_bytes(loop)
    return about


def _choice(known: Mapping[str, Any], value: Any, what: str) -> Any:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}, not {value!r:.60}")
    return known[value]


def _prepared(model: str | Path | ZooModel, *, half: bool) -> ZooModel:
    """Return a model of our own on the CPU, in eval mode, its weights as files are to hold them."""
    if isinstance(model, ZooModel):
        model = copy.deepcopy(model)
        model.origin = origin_of(model)  # what is tuned no longer is that entry
    else:
        model = from_pretrained(model)
    model = model.cpu().float().eval().requires_grad_(False)
    for parameter in model.parameters():
        rounded = parameter.half().float() if half else parameter
        # What lies in memory in another order would be stored so.
        parameter.data = rounded.contiguous()
        if not torch.isfinite(parameter).all():
            raise ValueError("dtype float16 cannot hold all weights of this model; use float32")
    return model


def _examples(model: ZooModel, images: Sequence[str | Path]) -> Tensor:
    """Return noise, samples of the model and pictures, as the model takes them in."""
    generator = torch.Generator().manual_seed(0)
    shape = (EXAMPLES, *(model.image_shape or (2,)))
    noise = torch.rand(shape, generator=generator, dtype=torch.float32)
    parts = [noise if model.image_shape else 6 * noise - 3]
    parts.append(model.sample(EXAMPLES, generator=generator))
    if images:
        parts.append(load_images(images, model))
    return torch.cat(parts)


def _about(model: ZooModel) -> dict[str, Any]:
    origin, config = model.origin, model.config
    name = Path(origin.name).resolve().name if origin else type(model).__name__
    entry = None
    if origin:
        with suppress(UnknownModelError):
            info = asdict(model_info(origin.name))
            facts = ("summary", "paper", "licence", "data_licence", "metrics")
            entry = {key: info[key] for key in facts}
    return {
        "format": VERSION,
        "name": name,
        "model_class": type(model).__name__,
        "lvmzoo": __version__,
        "torch": torch.__version__,
        "weights": dict(origin.sha256) if origin else {},
        "dataset": config.dataset,
        "classes": list(getattr(config, "classes", ())),
        "image": _image(model),
        "entry": entry,
        **facts_of(model),
    }


def _image(model: ZooModel) -> dict[str, int] | None:
    if model.image_shape is None:
        return None
    channels, size, _ = model.image_shape
    content = transform(model).content if channels in (1, 3) else None
    return {"channels": channels, "size": size, "content_size": content or size}


def _file(path: Path, graph: Graph) -> dict[str, Any]:
    data = path.read_bytes()
    outputs = graph.function(**graph.inputs)
    fewer = graph.function(**{key: value[:-1] for key, value in graph.inputs.items()})
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "inputs": {key: _described(x, x[:-1]) for key, x in graph.inputs.items()},
        "outputs": {
            key: _described(x, y) for key, x, y in zip(graph.outputs, outputs, fewer, strict=True)
        },
    }


def _described(x: Tensor, fewer: Tensor) -> dict[str, Any]:
    """Say of which dtype and shape a tensor is, whose shape with fewer examples tells the batch."""
    shape = [BATCH if a != b else a for a, b in zip(x.shape, fewer.shape, strict=True)]
    return {"dtype": str(x.dtype).removeprefix("torch."), "shape": shape}
