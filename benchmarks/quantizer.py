"""Quantising 128 x 64 vectors with K = 128, D = 256: forward and backward."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._harness import Row, Settings, Work, compare, compare_memory, installed
from lvmzoo.models.vqvae import VectorQuantizer

CODES, DIM, BETA = 128, 256, 0.25
OURS, LIMIT, BROADCAST = "lvmzoo", "the one matrix product", "distances by broadcasting"
PEERS = {"vector-quantize-pytorch": "vector-quantize-pytorch", "diffusers": "diffusers"}
MISSED = (
    "besides the product, 8 MiB of features are read and written: reordered to rows, replaced by "
    "code vectors, subtracted, and in the backward pass scaled and summed by code"
)

Quantizer = Callable[[Tensor], tuple[Tensor, Tensor]]


def sides(settings: Settings, only: str | None = None) -> dict[str, Work]:
    """Return the works by name; only the one asked for, if any."""
    makers = {OURS: _ours, LIMIT: None, BROADCAST: _broadcasting}
    if installed("vector-quantize-pytorch"):
        makers["vector-quantize-pytorch"] = _vector_quantize_pytorch
    if installed("diffusers"):
        makers["diffusers"] = _diffusers
    wanted = {name: make for name, make in makers.items() if only in (None, name)}
    return {name: _work(make, settings) for name, make in wanted.items()}


def run(settings: Settings) -> list[Row]:
    """Return time and peak memory beside each other side."""
    works, work = sides(settings), f"quantise {_batch(settings)} x 64 vectors, forward and backward"
    rows = [Row(work, LIMIT, "limit", goal=2.0, missed=MISSED)]
    rows += [Row(work, BROADCAST, "peer"), *(Row(work, peer, "peer") for peer in PEERS)]
    memory = [
        Row(work, row.against, row.kind, "memory")
        if row.kind == "peer"
        else Row(work, LIMIT, "limit", "memory", note="the product keeps its (8192, 128) result")
        for row in rows
    ]
    rows = compare(rows, works, settings, rounds=7)
    return rows + compare_memory(memory, "quantizer", list(works), settings)


def _batch(settings: Settings) -> int:
    return settings.pick(128, 2)


def _work(make: Callable[[str], Quantizer] | None, settings: Settings) -> Work:
    n = _batch(settings)
    features = torch.randn(n, DIM, 8, 8, device=settings.device, requires_grad=True)
    gradient = torch.randn_like(features)
    if make is None:
        flat = torch.randn(n * 64, DIM, device=settings.device)
        codebook = torch.randn(CODES, DIM, device=settings.device)
        return lambda: flat @ codebook.t()
    quantizer = make(settings.device)

    def work() -> None:
        vectors, loss = quantizer(features)
        torch.autograd.backward([vectors, loss], [gradient, None])
        features.grad = None

    return work


def _ours(device: str) -> Quantizer:
    module = VectorQuantizer(CODES, DIM).to(device)

    def quantize(features: Tensor) -> tuple[Tensor, Tensor]:
        module.codebook.grad = None
        output = module(features)
        return output.vectors, output.codebook_loss + BETA * output.commitment_loss

    return quantize


def _broadcasting(device: str) -> Quantizer:
    codebook = (torch.rand(CODES, DIM, device=device) / CODES).requires_grad_()

    def quantize(features: Tensor) -> tuple[Tensor, Tensor]:
        codebook.grad = None
        x = features.permute(0, 2, 3, 1).reshape(-1, DIM)
        with torch.no_grad():
            codes = (x[:, None] - codebook).square_().sum(2).argmin(1)
        vectors = codebook[codes]
        loss = F.mse_loss(vectors, x.detach()) + BETA * F.mse_loss(x, vectors.detach())
        n, _, height, width = features.shape
        through = (x + (vectors - x).detach()).view(n, height, width, DIM)
        return through.permute(0, 3, 1, 2), loss

    return quantize


def _vector_quantize_pytorch(device: str) -> Quantizer:
    from vector_quantize_pytorch import VectorQuantize

    module: Any = VectorQuantize(
        dim=DIM,
        codebook_size=CODES,
        learnable_codebook=True,
        ema_update=False,
        rotation_trick=False,
        commitment_weight=BETA,
        commitment_use_cross_entropy_loss=False,
        accept_image_fmap=True,
    ).to(device)

    def quantize(features: Tensor) -> tuple[Tensor, Tensor]:
        module.zero_grad(set_to_none=True)
        vectors, _, loss = module(features)
        return vectors, loss.sum()

    return quantize


def _diffusers(device: str) -> Quantizer:
    from diffusers.models.autoencoders.vae import VectorQuantizer as Peer

    module: Any = Peer(CODES, DIM, beta=BETA, legacy=False).to(device)

    def quantize(features: Tensor) -> tuple[Tensor, Tensor]:
        module.zero_grad(set_to_none=True)
        vectors, loss, _ = module(features)
        return vectors, loss

    return quantize
