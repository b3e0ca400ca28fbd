"""Encoding, decoding and reconstructing 1,000 images with a VQ-VAE and a VAE.

Encoding and decoding beside the bare network, without the nearest code, scaling and checks;
reconstructing beside pythae's model around the same network.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import lvmzoo
from benchmarks import _pythae
from benchmarks._harness import Row, Settings, Work, compare, installed

BATCH = 250


def run(settings: Settings) -> list[Row]:
    """Return the times of both models."""
    rows = []
    x = torch.rand(settings.pick(1000, 4), 3, 32, 32, device=settings.device)
    with torch.no_grad():
        for title, entry in (("VQ-VAE", "vqvae_cifar10"), ("VAE", "vae_cifar10")):
            model = lvmzoo.create_model(entry, pretrained=True).to(settings.device)
            for method, works in _works(model, x).items():
                rows += compare(f"{title}: {method} {len(x):,} images", works, settings, rounds=3)
    return rows


def _works(model: Any, x: Tensor) -> dict[str, dict[str, Work]]:
    encoder, decoder = _pythae.networks(model)
    z = model.encode(x)
    vectors = model.embed(z) if z.ndim == 3 else z
    works: dict[str, dict[str, Work]] = {
        "encode": {
            "lvmzoo": _batches(model.encode, x),
            "its bare network": _batches(encoder, x),
        },
        "decode": {
            "lvmzoo": _batches(model.decode, z),
            "its bare network": _batches(decoder, vectors),
        },
    }
    if installed("pythae"):
        peer = _pythae.around(model).to(x.device).eval()
        works["reconstruct"] = {
            "lvmzoo": _batches(model.reconstruct, x),
            "pythae, same network": _batches(peer.reconstruct, x),
        }
    return works


def _batches(work: Callable[[Tensor], Any], x: Tensor) -> Work:
    def all_batches() -> None:
        for part in x.split(BATCH):
            work(part)

    return all_batches
