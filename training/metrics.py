"""Metrics that need no model: of pictures, of features, of codes, and the error of a mean."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

PSEUDO_COUNT = 0.1  # of the baselines that count codes
NEIGHBOURS = 5  # of a feature; what is nearer than the last of them counts as alike


def code_baselines(train: Iterable[Tensor], codes: Tensor, num_codes: int) -> dict[str, Tensor]:
    """Return the bits per code (N,) of two models that count codes in a training set.

    The unigram model knows how often each code occurs. The first-order Markov model has
    p(code | left neighbour), in the first column p(code | code above), and the unigram at the
    first code. Only pairs that occur are counted, so memory does not grow with the square of
    `num_codes`.

    Arguments:
        train: Codes of the training set, in parts (M, H, W).
        codes: Those that are measured (N, H, W).
        num_codes: How many codes there are.
    """
    unigram = left = above = csr_array((num_codes, num_codes))
    for part in train:
        unigram = _count(unigram, torch.zeros_like(part), part)
        left = _count(left, part[:, :, :-1], part[:, :, 1:])
        above = _count(above, part[:, :-1, 0], part[:, 1:, 0])
    alone = _pair_bits(unigram, torch.zeros_like(codes), codes)
    first = _pair_bits(above, codes[:, :-1, 0], codes[:, 1:, 0])
    rest = _pair_bits(left, codes[:, :, :-1], codes[:, :, 1:]).flatten(1)
    return {
        "unigram_bits_per_code": alone.flatten(1).mean(1),
        "markov_bits_per_code": torch.cat([alone[:, :1, 0], first, rest], 1).mean(1),
    }


def _count(counts: csr_array, first: Tensor, second: Tensor) -> csr_array:
    """Return counts of pairs of codes, (K, K), with these pairs added."""
    pairs = first.flatten().numpy(), second.flatten().numpy()
    return counts + csr_array((np.ones(first.numel()), pairs), counts.shape)


def _pair_bits(counts: csr_array, first: Tensor, second: Tensor) -> Tensor:
    """Return -log2 p(second | first), smoothed, of pairs of codes of any shape."""
    pairs = tuple(x.flatten().numpy().copy() for x in (first, second))
    seen = torch.from_numpy(counts[pairs])
    totals = torch.from_numpy(counts.sum(1))[first]
    p: Tensor = (seen.view(first.shape) + PSEUDO_COUNT) / (totals + PSEUDO_COUNT * counts.shape[0])
    return -p.log2()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of images (N, C, H, W) in [0, 1], (N,).

    References:
        Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al.
        2004), https://doi.org/10.1109/TIP.2003.819861
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    found = structural_similarity_index_measure(x, y, data_range=1.0, reduction="none")
    assert isinstance(found, Tensor)
    return found


def standard_error(x: Tensor) -> float:
    """Standard error of the mean of x (N,)."""
    return (x.std() / math.sqrt(len(x))).item()


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of each image (N, C, H, W), (N,)."""
    return (x - y).square().flatten(1).mean(1)


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1] whose pooled squared error is `mse`.

    Of images that are the same it is 100.
    """
    return -10 * math.log10(max(mse, 1e-10))


def mean_picture_psnr(train: Iterable[Tensor], images: Iterable[Tensor]) -> float:
    """Return the PSNR in dB of the mean of training images, for every image of a split.

    Arguments:
        train: Images (N, C, H, W) in [0, 1], in parts.
        images: Those of the split, likewise.
    """
    total, count = torch.zeros(()), 0
    for x in train:
        total, count = total + x.double().sum(0), count + len(x)
    errors = torch.cat([squared_error(x.double(), total / count) for x in images])
    return psnr(errors.mean().item())


def perplexity(codes: Tensor, num_codes: int) -> tuple[int, float]:
    """Return how many of the codes occur, and exp of the entropy of how often."""
    p = codes.flatten().bincount(minlength=num_codes) / codes.numel()
    return int((p > 0).sum()), (-torch.xlogy(p, p).sum()).exp().item()


def frechet_distance(real: Tensor, made: Tensor) -> float:
    """Fréchet distance of the normal distributions with the moments of features (N, D), (M, D).

    References:
        GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel
        et al. 2017), https://arxiv.org/abs/1706.08500
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    given = nn.Identity()  # they are features already
    given.num_features = real.shape[1]  # type: ignore[assignment]
    distance = FrechetInceptionDistance(given).to(real.device)
    distance.update(real.double(), real=True)
    distance.update(made.double(), real=False)
    found: float = distance.compute().item()
    return found


def overlap(real: Tensor, made: Tensor) -> dict[str, float]:
    """Return precision, recall, density and coverage of features (N, D), (M, D); N, M > 5.

    A feature's neighbourhood reaches to the fifth nearest one of its own kind.

    References:
        Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi et al.
        2019), https://arxiv.org/abs/1904.06991; Reliable Fidelity and Diversity Metrics for
        Generative Models (Naeem et al. 2020), https://arxiv.org/abs/2002.09797
    """
    real, made = real.double(), made.double()
    distances = torch.cdist(real, made)
    among_real = distances < _reach(real)[:, None]
    among_made = distances < _reach(made)
    return {
        "precision": among_real.any(0).double().mean().item(),
        "recall": among_made.any(1).double().mean().item(),
        "density": among_real.double().sum(0).mean().item() / NEIGHBOURS,
        "coverage": among_real.any(1).double().mean().item(),
    }


def _reach(features: Tensor) -> Tensor:
    # The nearest one is itself.
    return torch.cdist(features, features).kthvalue(NEIGHBOURS + 1).values
