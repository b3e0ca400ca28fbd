"""An exported VQ-VAE under onnxruntime, beside the same model under torch, on as many threads."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks._harness import Row, Settings, compare
from benchmarks._sources import small_vqvae
from lvmzoo.exporting.export import export
from lvmzoo.exporting.sample import draw
from lvmzoo.loading import create_model

ENTRY, LABEL, TORCH = "vqvae_gated_mnist", 3, "torch"


def run(settings: Settings) -> list[Row]:
    """Return the times of samples and of reconstructions."""
    model = small_vqvae().eval() if settings.smoke else create_model(ENTRY, pretrained=True)
    model.requires_grad_(False)
    n = settings.pick(16, 1)
    grid, k = model.config.grid, model.config.num_codes
    noise = np.random.default_rng(0).gumbel(size=(*grid, n, k)).astype(np.float32)
    labels, x = np.full(n, LABEL), torch.rand(1, *model.config.image_shape)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        about = export(model, folder, dtype="float16")
        graphs = _Graphs(Path(folder))
        size = sum(file["bytes"] for file in about["files"].values()) / 2**20
        for what, ours, theirs in (
            (
                f"sample {n}",
                lambda: draw(graphs, about, noise, labels=labels),
                lambda: model.sample(n, labels=LABEL),
            ),
            (
                "reconstruct 1 image",
                lambda: graphs("decode", {"codes": graphs("encode", {"images": x.numpy()})[0]}),
                lambda: model.reconstruct(x),
            ),
        ):
            work = f"{ENTRY} exported ({size:.1f} MiB): {what}"
            row = Row(work, TORCH, "peer", note="the model that was exported")
            rows += compare([row], {"lvmzoo": ours, TORCH: theirs}, settings, rounds=5)
    return rows


class _Graphs:
    """Runs the graphs of a folder on torch's number of threads."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.sessions = {
            path.stem: onnxruntime.InferenceSession(path, options) for path in folder.glob("*.onnx")
        }

    def __call__(self, name: str, inputs: Mapping[str, np.ndarray]) -> list[Any]:
        outputs: list[Any] = self.sessions[name].run(None, dict(inputs))
        return outputs
