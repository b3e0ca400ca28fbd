"""Encoding, decoding and reconstructing 1,000 images with a VQ-VAE and a VAE."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._harness import Row, Settings, Work, compare, installed
from lvmzoo.loading import create_model
from lvmzoo.models.vae import VAE
from lvmzoo.models.vqvae import VQVAE

BATCH = 250
BARE, NETWORK = "its bare convolutions", "its bare network"
PYTHAE, DIFFUSERS = "pythae, same network", "diffusers VQModel"
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Flatten, nn.Unflatten)
MISSED = "activations and residual sums, which are in the bare network (below); scaling and checks"
FULL_SIZE = "256 channels as here, but its first and last blocks work at the full 32x32"

# Works on a batch by the name of their side, for "encode", "decode" and "reconstruct".
Sides = dict[str, dict[str, Callable[[Tensor], Any]]]


def run(settings: Settings) -> list[Row]:
    """Return the times of both models."""
    x = torch.rand(settings.pick(1000, 4), 3, 32, 32, device=settings.device)
    with torch.no_grad():
        rows = _vqvae(x, settings)
        return rows + _vae(x, settings)


def _bare(*networks: nn.Module) -> nn.Sequential:
    layers = [m for n in networks for m in n.modules() if isinstance(m, CONVOLUTIONS)]
    return nn.Sequential(*layers)


def _network_sides(encoder: nn.Module, decoder: nn.Module, half: bool) -> Sides:
    """Return the bare works: only what has weights, and the networks as they are.

    Arguments:
        encoder: The network before the latents.
        decoder: The network after them.
        half: Whether the encoder's first half of channels goes to the decoder.
    """
    bare_in, bare_out = _bare(encoder), _bare(decoder)

    def latents(y: Tensor) -> Tensor:
        return y.chunk(2, 1)[0] if half else y

    return {
        "encode": {BARE: bare_in, NETWORK: encoder},
        "decode": {BARE: bare_out, NETWORK: decoder},
        "reconstruct": {
            BARE: lambda x: bare_out(latents(bare_in(x))),
            NETWORK: lambda x: decoder(latents(encoder(x))),
        },
    }


def _vqvae(x: Tensor, settings: Settings) -> list[Row]:
    model = create_model("vqvae_cifar10").to(settings.device).eval()
    assert isinstance(model, VQVAE)
    part = model.autoencoder
    codes = model.encode(x)
    vectors = model.embed(codes)
    sides = _network_sides(part.encoder, part.decoder, half=False)
    if installed("pythae"):
        from benchmarks._pythae import around_vqvae

        peer = around_vqvae(create_model("vqvae_cifar10")).to(settings.device).eval()
        sides["encode"][PYTHAE] = lambda x: peer.quantizer(
            peer.encoder(x).embedding.permute(0, 2, 3, 1)
        )
        sides["decode"][PYTHAE] = peer.decoder
        sides["reconstruct"][PYTHAE] = peer.reconstruct
    inputs = {"encode": (x, x), "decode": (codes, vectors), "reconstruct": (x, x)}
    rows = _compare("VQ-VAE", model, sides, inputs, settings)
    return rows + _diffusers(model, x, codes, settings)


def _vae(x: Tensor, settings: Settings) -> list[Row]:
    model = create_model("vae_cifar10", pretrained=True).to(settings.device)
    assert isinstance(model, VAE)
    z = model.encode(x)
    sides = _network_sides(model.encoder, model.decoder, half=True)
    if installed("pythae"):
        from benchmarks._pythae import around_vae

        peer = around_vae(create_model("vae_cifar10")).to(settings.device).eval()
        sides["encode"][PYTHAE] = peer.encoder
        sides["decode"][PYTHAE] = peer.decoder
        sides["reconstruct"][PYTHAE] = peer.reconstruct
    inputs = {"encode": (x, x), "decode": (z, z), "reconstruct": (x, x)}
    return _compare("VAE", model, sides, inputs, settings)


def _compare(
    name: str,
    model: VAE | VQVAE,
    sides: Sides,
    inputs: Mapping[str, tuple[Tensor, Tensor]],
    settings: Settings,
) -> list[Row]:
    rows = []
    for method, others in sides.items():
        ours, theirs = inputs[method]
        works = {"lvmzoo": _batches(getattr(model, method), ours)}
        works |= {side: _batches(work, theirs) for side, work in others.items()}
        work = f"{name}: {method} {len(ours):,} images"
        bare = Row(work, BARE, "limit", goal=1.1, missed=MISSED)
        pairs = [bare, Row(work, NETWORK, "limit"), Row(work, PYTHAE, "peer")]
        rows += compare(pairs, works, settings, rounds=3)
    return rows


def _batches(work: Callable[[Tensor], Any], x: Tensor) -> Work:
    def all_batches() -> None:
        for part in x.split(BATCH):
            work(part)

    return all_batches


def _diffusers(model: VQVAE, x: Tensor, codes: Tensor, settings: Settings) -> list[Row]:
    """Beside a network that is so much larger that few images must do."""
    n = settings.pick(20, 1)
    x, codes = x[:n], codes[:n]
    ours: dict[str, Work] = {
        "encode": lambda: model.encode(x),
        "decode": lambda: model.decode(codes),
        "reconstruct": lambda: model.reconstruct(x),
    }
    theirs = _diffusers_works(model, x, codes, settings) if installed("diffusers") else {}
    rows = []
    for method, work in ours.items():
        works = {"lvmzoo": work} | ({DIFFUSERS: theirs[method]} if theirs else {})
        row = Row(f"VQ-VAE: {method} {n} images", DIFFUSERS, "peer", note=FULL_SIZE)
        rows += compare([row], works, settings, rounds=3)
    return rows


def _diffusers_works(model: VQVAE, x: Tensor, codes: Tensor, settings: Settings) -> dict[str, Work]:
    from diffusers import VQModel

    width = settings.pick(model.config.channels, 32)
    peer: Any = VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(width,) * 3,
        latent_channels=width,
        num_vq_embeddings=model.config.num_codes,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    )
    peer = peer.to(settings.device).eval()
    shape = (len(codes), *model.config.grid, width)
    flat = codes.flatten()
    return {
        "encode": lambda: peer.quantize(peer.encode(2 * x - 1).latents),
        "decode": lambda: peer.decode(flat, force_not_quantize=True, shape=shape),
        "reconstruct": lambda: peer(2 * x - 1),
    }
