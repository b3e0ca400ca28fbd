"""Exports of small models, each made once in a run of the tests, and what runs them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch

import lvmzoo
from support.factories import make_tiny

KINDS = ("VAE2D", "VAE", "VLAE", "BernoulliVAE", "VQVAE", "gated VQVAE")


def make(kind: str) -> Any:
    if kind == "BernoulliVAE":
        torch.manual_seed(0)
        return lvmzoo.BernoulliVAE(lvmzoo.BernoulliVAE.Config(image_size=8, latent_dim=3, hidden=9))
    return make_tiny(kind)


@cache
def exported(kind: str, format: str) -> tuple[Path, dict[str, Any]]:
    folder = Path(mkdtemp()) / "graphs"
    return folder, lvmzoo.export(make(kind), folder, format=format)


def run_onnx(folder: Path, name: str, **inputs: Any) -> list[torch.Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    arrays: Mapping[str, np.ndarray] = {k: np.asarray(v) for k, v in inputs.items()}
    return [torch.from_numpy(array) for array in session.run(None, dict(arrays))]
