"""VQ-VAEs: an autoencoder, then a prior over its codes."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lvmzoo import save_images
from lvmzoo.checkpoint import fingerprint
from lvmzoo.models.vqvae import VQVAE
from lvmzoo.registry import ModelInfo
from training.augment import draw_noise, generator_for
from training.data import Rows, Split, as_input, batch_size, make_rows, resident, sha256
from training.families import config_of
from training.families.base import (
    Family,
    Measured,
    Metric,
    Objective,
    SampleSet,
    joined,
    means,
    upload,
)
from training.families.images import (
    PICTURES,
    QUALITY,
    SAMPLES,
    columns_of,
    draw_images,
    image_sets,
)
from training.metrics import code_baselines, perplexity, psnr, squared_error, ssim
from training.recipe import Recipe, within

# Images whose features dead codes are moved to, and by whose codes they are found dead.
REVIVAL_IMAGES = 256
ADAPT_ROUNDS = 10  # of k-means over features of as many images
GUIDANCE = 2.0  # of the samples that the card shows
GUIDANCES = (0.0, 1.0, GUIDANCE, 4.0)  # of those that are compared with real images


@dataclass(frozen=True)
class AutoencoderRecipe(Recipe):
    """How the autoencoder of a VQ-VAE is trained."""

    # Steps between revivals of dead codes, in the first half of the run; 0 revives none.
    revive_every: int = within(0, 10**9, 0)


@dataclass(frozen=True)
class PriorRecipe(Recipe):
    """How the prior of a VQ-VAE is trained."""

    # Share of the examples that are shown without their label.
    label_dropout: float = within(0, 1, 0.0)
    dropout: float = within(0, 1 - 1e-9, 0.0)  # share of what a layer adds that is left out
    # Copies of the training set, each image augmented anew, that are encoded before the first step;
    # 0 augments and encodes each batch when it is due. Matters where there is endless augmentation.
    copies: int = within(0, 1000, 0)


class _AutoencoderObjective(Objective):
    """The autoencoder of a VQ-VAE."""

    component = "autoencoder"
    Recipe = AutoencoderRecipe

    @torch.no_grad()
    def adapt(self, generator: torch.Generator) -> None:
        """Move codes to the mean of the features that are nearest to them, by k-means."""
        quantizer = self.model.autoencoder.quantizer
        features = self._features(generator)
        for _ in range(ADAPT_ROUNDS):
            quantizer.revive(features, generator)
            codes = quantizer.nearest(features)
            sums = torch.zeros_like(quantizer.codebook).index_add_(0, codes, features)
            counts = codes.bincount(minlength=len(sums))[:, None]
            quantizer.codebook.copy_(torch.where(counts > 0, sums / counts, quantizer.codebook))

    @torch.no_grad()
    def before_step(self, step: int, total_steps: int, generator: torch.Generator) -> None:
        """Move dead codes to features of random images, in the first half of the run.

        A code is dead if none of those images uses it, so that there is no count to keep.
        """
        super().before_step(step, total_steps, generator)
        every = self.recipe.revive_every
        if not every or step % every or step > total_steps // 2:
            return
        self.model.autoencoder.quantizer.revive(self._features(generator), generator)

    def _features(self, generator: torch.Generator) -> Tensor:
        """Return features (M, D) of random images, of fewer where the grid is larger."""
        grid = self.model.config.grid
        count = max(1, REVIVAL_IMAGES * 8 * 8 // (grid[0] * grid[1]))
        index = torch.randint(len(self.x), (count,), generator=generator)
        noise = upload(draw_noise(len(index), generator), self.model.device)
        size = min(128, batch_size(self.x.shape))
        parts = zip(index.split(size), noise.split(size), strict=True)
        features = [self.model.autoencoder.features(self.images(*part)) for part in parts]
        return torch.cat(features).permute(0, 2, 3, 1).flatten(0, 2)


class _PriorObjective(Objective):
    """The prior of a VQ-VAE, on codes of its finished autoencoder.

    The training set is encoded before the first step, into files that a resumed run finds: once as
    it is, once more flipped if that is the augmentation, and as often as the recipe's `copies`
    under any other. Without copies, in a run of few steps, or once nothing is augmented any more,
    images are encoded when their batch is due. A split may also hold codes (N, h, w) already.
    """

    component = "prior"
    Recipe = PriorRecipe

    def __init__(
        self,
        model: Any,
        split: Split,
        recipe: PriorRecipe,
        *,
        scratch: Path | None = None,
        deadline: float = math.inf,
    ) -> None:
        super().__init__(model, split, recipe)
        model.prior.dropout = recipe.dropout
        self.codes: list[Tensor | Rows] = []
        if len(split.x.shape) == 3:
            self.codes.append(self.x)
        elif scratch is not None:
            weights = fingerprint(model.autoencoder.state_dict())
            key = hashlib.sha256(f"{weights} {sha256(split)}".encode())
            for copy in range({"none": 1, "flip": 2}.get(recipe.augment, recipe.copies)):
                folder = scratch / f"codes-{recipe.augment}-{copy}-{key.hexdigest()[:16]}"
                codes = self._encode_all(folder, copy, deadline)
                self.codes.append(resident(codes, model.device))
        self.labels = split.labels.to(self.index_device)

    @property
    def index_device(self) -> torch.device:
        return self.codes[0].device if self.codes else self.x.device

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return draw_noise(n, generator), torch.rand(n, generator=generator)

    def batch(self, index: Tensor, *noise: Tensor) -> dict[str, Any]:
        image_noise, drop = noise
        if not self.codes or self.augmentation != self.recipe.augment:
            codes = _encode(self.model, self.images(index, image_noise))
        else:
            copies = torch.stack([self.rows(codes, index) for codes in self.codes])
            # Of two copies, the flipped one where `augment` would flip.
            which = (image_noise[:, 0] * len(copies)).long()
            codes = copies[which, torch.arange(len(which), device=which.device)].long()
        no_label = self.model.prior.num_labels
        if not no_label:
            return {"codes": codes, "labels": None}
        labels = self.rows(self.labels, index)
        return {
            "codes": codes,
            "labels": torch.where(drop < self.recipe.label_dropout, no_label, labels),
        }

    def validation_batch(self, model: Any, x: Tensor, generator: torch.Generator) -> dict[str, Any]:
        return {"codes": _encode(model, x)}

    def before_step(self, step: int, total_steps: int, generator: torch.Generator) -> None:
        """Seed dropout by the step, so that a resumed run repeats it."""
        super().before_step(step, total_steps, generator)
        if self.recipe.dropout:
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))

    def _encode_all(self, folder: Path, copy: int, deadline: float) -> Rows:
        config, kind = self.model.config, self.recipe.augment

        def encode(start: int, stop: int) -> tuple[np.ndarray, None]:
            noise = draw_noise(stop - start, generator_for(copy, "", start))
            if kind == "flip":
                noise.fill_(copy)  # all or none
            x = self.images(torch.arange(start, stop), noise.to(self.model.device))
            return _encode(self.model, x).cpu().numpy(), None

        shape, dtype = (len(self.x), *config.grid), _smallest_dtype(config.num_codes)
        return make_rows(folder, shape, dtype, encode, batch_size(self.x.shape), deadline)[0]


@torch.no_grad()
def _encode(model: VQVAE, x: Tensor) -> Tensor:
    if x.ndim == 3:  # codes
        return x.long()
    # In float32, whatever the recipe's precision: these must be the codes that users see.
    with torch.autocast(x.device.type, enabled=False):
        return model.autoencoder.encode(x)


def _smallest_dtype(count: int) -> str:
    """Return the smallest dtype that holds codes below `count`."""
    return "uint8" if count <= 2**8 else "int16" if count <= 2**15 else "int32"


class _VQVAE(Family):
    objectives = (_AutoencoderObjective, _PriorObjective)
    metrics: ClassVar = {
        **QUALITY,
        "ssim": Metric("SSIM of reconstructions", "1 is perfect"),
        "codes_used": Metric("codes in use", "by the whole split", digits=0),
        "perplexity": Metric("perplexity of the codes", "higher uses the codebook more evenly"),
        "nats_per_image": Metric("-log p(codes)", "nats per image, lower is better"),
        "bits_per_code": Metric("bits per code", "without labels; lower is better"),
        "markov_bits_per_code": Metric("bits per code of a first-order Markov model", "baseline"),
        "unigram_bits_per_code": Metric("bits per code of a unigram model", "baseline"),
        "uniform_bits_per_code": Metric("bits per code of the uniform model", "baseline"),
        "conditional_bits_per_code": Metric(
            "bits per code, given the label", "compares with other conditional figures only"
        ),
        "wrong_label_bits_per_code": Metric(
            "bits per code, given a wrong label", "above the one before if the labels are used"
        ),
    }
    sample_metrics: ClassVar = SAMPLES
    pictures: ClassVar = {
        "samples": "Samples",
        "classes": "Samples of each class, a row each, in the order of the classes",
        "guided": (
            f"The same with guidance {GUIDANCE:g}, a sensible default: it trades variety for "
            "samples that are more clearly of their class, the more so the larger it is"
        ),
        "completions": (
            "Completions: test images, their reconstructions, and eight drawings of the lower half "
            "of the codes given the upper half"
        ),
        **PICTURES,
        "codebook": "How often each code occurs in the split, beside the most frequent one, sorted",
    }
    limits = (
        "The autoencoder keeps {codes} codes of {bits} bits of each picture and loses fine "
        "texture. The prior models codes, not pixels: bits per code compare only among priors on "
        "the codes of the same autoencoder. A completion is an exact draw where the known codes "
        "come first in raster order; elsewhere it is drawn with particles and gets closer to one "
        "as they grow in number."
    )
    compared = "the same codes"
    counts_in_train = True

    @torch.inference_mode()
    def measure(
        self, model: VQVAE, split: Split, *, full: bool, train: Split | None = None
    ) -> Measured:
        """Measure; see `Family.measure`. Nothing is costly but what needs the training set."""
        parts, codes = [], []
        size = batch_size(split.x.shape)
        right, wrong = _labels(model, split)
        for start, x in zip(range(0, len(split), size), split.x.split(size), strict=True):
            x = as_input(x).to(model.device)
            found = model.encode(x)
            y = model.decode(found)
            nats = -model.code_log_prob(found)
            terms = {"mse": squared_error(y, x), "ssim": ssim(y, x), "nats_per_image": nats}
            terms["bits_per_code"] = _bits(nats, found)
            for name, labels in (("conditional", right), ("wrong_label", wrong)):
                if labels is not None:
                    given = labels[start : start + size].to(model.device)
                    nats = -model.code_log_prob(found, given)
                    terms[f"{name}_bits_per_code"] = _bits(nats, found)
            parts.append(terms)
            codes.append(found.cpu())
        examples, grid, k = joined(parts), torch.cat(codes), model.config.num_codes
        if train is not None:
            encoded = (model.encode(as_input(x).to(model.device)) for x in train.x.split(size))
            examples |= code_baselines((found.cpu() for found in encoded), grid, k)
        figures = means(examples)
        used, figures["perplexity"] = perplexity(grid, k)
        figures |= {"codes_used": float(used), "uniform_bits_per_code": math.log2(k)}
        figures["psnr"] = psnr(figures["mse"])
        return figures, examples | {"codes": grid.short() if k <= 2**15 else grid.int()}

    def sample_sets(self, model: VQVAE, real: Split) -> Iterator[SampleSet]:
        """Yield reconstructions, samples, and samples of the classes of the real images."""
        yield from image_sets(model, real)
        labels, _ = _labels(model, real)
        if labels is None:
            return
        for w in GUIDANCES:
            generator = torch.Generator().manual_seed(0)
            parts = [
                model.sample(len(part), labels=part, guidance=w, generator=generator)
                for part in labels.to(model.device).split(batch_size(real.x.shape))
            ]
            yield SampleSet(
                f"samples given the class, guidance {w:g}", torch.cat(parts), real.labels
            )

    @torch.inference_mode()
    def draw(self, model: Any, split: Split, examples: Mapping[str, Tensor], stem: str) -> None:
        generator = torch.Generator().manual_seed(0)
        columns = columns_of(model)
        x = as_input(split.x[: 6 * columns]).to(model.device)
        draw_images(model, x, generator, stem)
        _draw_prior(model, x[:columns], generator, stem)
        counts = examples["codes"].flatten().long().bincount(minlength=model.config.num_codes)
        save_images(_bars(counts.sort(descending=True).values), f"{stem}_codebook.png", gap=8)

    def sizes(self, config: Any) -> dict[str, str]:
        codes, bits = config.grid[0] * config.grid[1], math.log2(config.num_codes)
        return {"codes": f"{codes:,}", "bits": f"{bits:.3g}"}

    def summary(self, info: ModelInfo) -> str:
        config = config_of(info)
        codes = f"{config.grid[0]}x{config.grid[1]} codes of {config.num_codes}"
        summary = info.summary.replace("8x8 codes of 128", codes)
        return summary if info.classes else summary.replace("class-conditional ", "")

    def usage(self, info: ModelInfo) -> str:
        height, width = config_of(info).grid
        conditional = info.config.get("prior") == "gated_pixelcnn" and info.classes
        labels = f", labels={min(3, len(info.classes) - 1)}" if conditional else ""
        shape = (2, 8, *(info.image_shape or ()))
        return (
            'x = lvmzoo.load_images(["a.png", "b.png"], model)  # any size and mode\n'
            f"codes = model.encode(x)                    # {(2, height, width)} int64\n"
            "y = model.decode(codes)                    # in [0, 1]\n"
            f"{f'model.code_log_prob(codes{labels})':42} # nats\n"
            f"model.sample(64{labels}{', guidance=2' if labels else ', top_p=0.95'})\n"
            f"top = torch.arange({height})[:, None].expand({height}, {width}) < {height // 2}\n"
            f"model.complete(x, top, n=8)                # {shape}\n"
        )

    def headline(self, metrics: Mapping[str, float]) -> str:
        return (
            f"PSNR {metrics['psnr']:.2f} dB, {metrics['bits_per_code']:.3f} bits per code "
            f"(Markov {metrics['markov_bits_per_code']:.3f})"
        )

    def loss_tolerance(self, component: str, step: int) -> float:
        """Return how far the loss of a step may be from the recorded one, relatively.

        With oneDNN's convolutions and with torch's own, losses of an autoencoder (measured with
        batches of 8) part: 2e-4 at step 6, 5e-2 at step 18, for a code that is nearest by a hair
        is another code then. One other code among a prior's 2048 targets is 5e-4.
        """
        return 0.2 if component == "autoencoder" and step > 6 else 1e-3


def _labels(model: VQVAE, split: Split) -> tuple[Tensor | None, Tensor | None]:
    """Return the label of each example, and a wrong one that is always the same.

    None if the prior takes no labels, or does not know the classes of these examples.
    """
    known = model.config.classes
    if model.prior.num_labels < 2 or not split.classes or not {*split.classes} <= {*known}:
        return None, None
    labels = torch.tensor([known.index(c) for c in split.classes])[split.labels]
    generator = torch.Generator().manual_seed(2)
    offset = torch.randint(1, len(known), (len(split),), generator=generator)
    return labels, (labels + offset) % len(known)


def _bits(nats: Tensor, codes: Tensor) -> Tensor:
    return nats / codes[0].numel() / math.log(2)


def _bars(heights: Tensor, height: int = 120, width: int = 4) -> Tensor:
    """Return a chart of black bars as an image (1, 1, H, W)."""
    rows = torch.arange(height, 0, -1)[:, None] / height
    bars = (rows > heights / heights.max()).float()
    return bars.repeat_interleave(width, 1)[None, None]


def _draw_prior(model: VQVAE, x: Tensor, generator: torch.Generator, stem: str) -> None:
    classes, columns = model.prior.num_labels, columns_of(model)
    labels = torch.arange(classes).repeat_interleave(columns).to(model.device)
    if classes:
        samples = model.sample(len(labels), labels=labels, generator=generator)
        save_images(samples, f"{stem}_classes.png", columns=columns)
    known = torch.zeros(model.config.grid, dtype=torch.bool, device=model.device)
    known[: len(known) // 2] = True
    completed = model.complete(x, known, n=max(1, columns - 2), generator=generator)
    rows = torch.cat([x[:, None], model.reconstruct(x)[:, None], completed], 1)
    save_images(rows.flatten(0, 1), f"{stem}_completions.png", columns=columns)
    if classes:
        guided = model.sample(len(labels), labels=labels, guidance=GUIDANCE, generator=generator)
        save_images(guided, f"{stem}_guided.png", columns=columns)


FAMILY = _VQVAE()
