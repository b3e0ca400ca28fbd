"""An exported VQ-VAE under onnxruntime, beside the same model under torch, on as many threads."""

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lvmzoo
from benchmarks._harness import Row, Settings, Work, compare
from lvmzoo.exporting.sample import draw

__all__ = ["graphs_in", "run", "works"]

ENTRY, LABEL = "vqvae_gated_mnist", 3


def run(settings: Settings) -> list[Row]:
    """Return the times of samples and of reconstructions."""
    model = lvmzoo.create_model(ENTRY, pretrained=True)
    if settings.smoke:  # which is exported in no time
        model = lvmzoo.create_model(ENTRY, channels=8, prior_channels=8, prior_layers=6).eval()
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        about = lvmzoo.export(model, name, dtype="float16")
        size = sum(file["bytes"] for file in about["files"].values()) / 2**20
        rows = []
        for what, sides in works(model, about, Path(name), settings.pick(16, 1)).items():
            work = f"{ENTRY} exported ({size:.1f} MiB): {what}"
            rows += compare(work, {"lvmzoo": sides[0], "torch": sides[1]}, settings)
        return rows


def works(model: Any, about: Mapping[str, Any], folder: Path, n: int) -> dict[str, list[Work]]:
    """Return how onnxruntime and torch sample n pictures and reconstruct one."""
    graph = graphs_in(folder)
    grid, k = model.config.grid, model.config.num_codes
    noise = np.random.default_rng(0).gumbel(size=(*grid, n, k)).astype(np.float32)
    x = torch.rand(1, *model.image_shape)

    def reconstruct() -> None:
        graph("decode", {"codes": graph("encode", {"images": x.numpy()})[0]})

    return {
        f"sample {n}": [
            partial(draw, graph, about, noise, labels=np.full(n, LABEL)),
            partial(model.sample, n, labels=LABEL),
        ],
        "reconstruct 1 image": [reconstruct, partial(model.reconstruct, x)],
    }


def graphs_in(folder: Path) -> Any:
    """Return what runs a graph of a folder by its name, on torch's number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    sessions = {
        path.stem: onnxruntime.InferenceSession(path, options) for path in folder.glob("*.onnx")
    }
    return lambda name, inputs: sessions[name].run(None, dict(inputs))
