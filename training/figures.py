"""What is measured of a model on a split; the cards say what each figure means.

Noise is drawn from fixed seeds, so the same file and data give the same figures, and two models of
one data set are compared example by example.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lvmzoo.models.base import ZooModel
from lvmzoo.models.vae2d import VAE2D
from lvmzoo.models.variational import VariationalModel
from lvmzoo.models.vqvae import VQVAE
from training.data import Split, as_input, gaussian_log_prob

__all__ = ["IMPORTANCE_SAMPLES", "baseline_bits", "measure", "ssim", "standard_error"]

BATCH = 500
IMPORTANCE_SAMPLES = 64
ELBO_SAMPLES = {"points": 16, "images": 1}
PSEUDO_COUNT = 0.1  # of the baselines that count codes

Measured = tuple[dict[str, float], dict[str, Tensor]]


@torch.inference_mode()
def measure(
    model: ZooModel,
    split: Split,
    dataset: str,
    *,
    importance_samples: int = IMPORTANCE_SAMPLES,
    train: Split | None = None,
) -> Measured:
    """Measure a model on a split.

    Arguments:
        model: The model.
        split: The examples.
        dataset: Name of the data set, whose true density may be known.
        importance_samples: Draws of the importance-weighted bound, by far the most costly
            figure of a VAE; 0 leaves it out and changes no other.
        train: What the baselines of a VQ-VAE's prior count codes in; None leaves them out and
            changes no other figure.

    Returns:
        The figures, and for each example of the split the terms (N,) they are means of; of a
        VQ-VAE the codes (N, H, W) too.
    """
    if isinstance(model, VQVAE):
        return _measure_codes(model, split, train)
    if isinstance(model, VariationalModel):
        return _measure_variational(model, split, dataset, importance_samples)
    raise ValueError(f"no figures are defined for a {type(model).__name__}")


def _measure_variational(
    model: VariationalModel, split: Split, dataset: str, importance_samples: int
) -> Measured:
    kind = "points" if isinstance(model, VAE2D) else "images"
    draws, weighted_draws = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    parts: list[dict[str, Tensor]] = []
    for x in split.x.split(BATCH):
        x = as_input(x).to(model.device)
        bound = model.elbo(x, num_samples=ELBO_SAMPLES[kind], generator=draws)
        terms = bound._asdict()
        if importance_samples:
            terms["log_likelihood"] = model.log_likelihood(
                x, num_samples=importance_samples, generator=weighted_draws
            )
        if kind == "images":
            constant = 0.5 * x[0].numel() * math.log(2 * math.pi)
            terms["half_squared_error"] = -terms["reconstruction"] - constant
            terms["mse"] = (model.reconstruct(x) - x).square().flatten(1).mean(1)
        parts.append(terms)
    examples = _joined(parts)
    if kind == "points":
        examples["gap"] = gaussian_log_prob(dataset, split.x) - examples["elbo"]
    figures = {name: value.mean().item() for name, value in examples.items()}
    if kind == "points":
        figures["gap_se"] = standard_error(examples["gap"])
    else:
        figures["psnr"] = -10 * math.log10(figures["mse"])
    return figures, examples


def _measure_codes(model: VQVAE, split: Split, train: Split | None) -> Measured:
    num_codes, parts, codes = model.config.num_codes, [], []
    # Every example has one wrong label, always the same one.
    classes = max(2, len(split.classes))
    offset = torch.randint(1, classes, (len(split),), generator=torch.Generator().manual_seed(2))
    wrong = (split.labels + offset) % classes
    for x, true, other in zip(
        split.x.split(BATCH), split.labels.split(BATCH), wrong.split(BATCH), strict=True
    ):
        x = as_input(x).to(model.device)
        found = model.encode(x)
        y = model.decode(found)
        nats = -model.code_log_prob(found)
        terms = {
            "mse": (y - x).square().flatten(1).mean(1),
            "ssim": ssim(y, x),
            "nats_per_image": nats,
            "bits_per_code": _bits(nats, found),
        }
        if model.prior.num_labels > 1:
            for name, labels in (("conditional", true), ("wrong_label", other)):
                given = -model.code_log_prob(found, labels.to(model.device))
                terms[f"{name}_bits_per_code"] = _bits(given, found)
        parts.append(terms)
        codes.append(found.cpu())
    examples, grid = _joined(parts), torch.cat(codes)
    if train is not None:
        encoded = [model.encode(as_input(x).to(model.device)).cpu() for x in train.x.split(BATCH)]
        examples |= baseline_bits(torch.cat(encoded), grid, num_codes)
    figures = {name: value.mean().item() for name, value in examples.items()}
    p = grid.flatten().bincount(minlength=num_codes) / grid.numel()
    figures["psnr"] = -10 * math.log10(figures["mse"])
    figures["codes_used"] = float((p > 0).sum())
    figures["perplexity"] = (-torch.xlogy(p, p).sum()).exp().item()
    figures["uniform_bits_per_code"] = math.log2(num_codes)
    return figures, examples | {"codes": grid.to(torch.int16)}


def baseline_bits(train: Tensor, codes: Tensor, num_codes: int) -> dict[str, Tensor]:
    """Return the bits per code (N,) of two models that count codes in a training set.

    The unigram model knows how often each code occurs. The first-order Markov model has
    p(code | left neighbour), in the first column p(code | code above), and the unigram at the
    first code.

    Arguments:
        train: Codes (M, H, W).
        codes: Codes (N, H, W).
        num_codes: Size K of the codebook.
    """

    def log_table(*given: Tensor) -> Tensor:
        index = torch.zeros_like(given[0])
        for code in given:
            index = index * num_codes + code
        counts = index.flatten().bincount(minlength=num_codes ** len(given)).double()
        counts = (counts + PSEUDO_COUNT).view(-1, num_codes)
        return (counts / counts.sum(1, keepdim=True)).log2()

    unigram = log_table(train)[0]
    left = log_table(train[:, :, :-1], train[:, :, 1:])
    above = log_table(train[:, :-1, 0], train[:, 1:, 0])
    markov = torch.cat(
        [
            unigram[codes[:, 0, 0]][:, None],
            above[codes[:, :-1, 0], codes[:, 1:, 0]],
            left[codes[:, :, :-1], codes[:, :, 1:]].flatten(1),
        ],
        1,
    )
    return {
        "unigram_bits_per_code": -unigram[codes].flatten(1).mean(1),
        "markov_bits_per_code": -markov.mean(1),
    }


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of images (N, C, H, W) in [0, 1], (N,).

    Gaussian window of 11 x 11 with standard deviation 1.5, K1 0.01, K2 0.03, at every pixel of
    images reflected at their border: the defaults of torchmetrics.

    References:
        Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al.
        2004), https://doi.org/10.1109/TIP.2003.819861
    """
    channels = x.shape[1]
    window = torch.exp(-0.5 * (torch.arange(-5, 6, device=x.device, dtype=x.dtype) / 1.5) ** 2)
    window = (window / window.sum()).expand(channels, 1, 1, 11)

    def mean(values: Tensor) -> Tensor:
        values = F.pad(values, (5, 5, 5, 5), mode="reflect")
        rows = F.conv2d(values, window, groups=channels)
        return F.conv2d(rows, window.transpose(2, 3), groups=channels)

    mx, my = mean(x), mean(y)
    vx, vy = (mean(x * x) - mx * mx).clamp_min(0), (mean(y * y) - my * my).clamp_min(0)
    covariance = mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mx * my + c1) * (2 * covariance + c2)
    return (similarity / ((mx * mx + my * my + c1) * (vx + vy + c2))).flatten(1).mean(1)


def standard_error(x: Tensor) -> float:
    """Standard error of the mean of x (N,)."""
    return (x.std() / math.sqrt(len(x))).item()


def _bits(nats: Tensor, codes: Tensor) -> Tensor:
    return nats / codes[0].numel() / math.log(2)


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([p[name].double().cpu() for p in parts]) for name in parts[0]}
