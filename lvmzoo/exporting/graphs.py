"""What is exported of each class of model: functions of tensors, with names for their ends."""

from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lvmzoo.models.base import ZooModel
from lvmzoo.models.flow import MaskedAutoregressiveFlow, MaskedLinear
from lvmzoo.models.pixelcnn import CodePrior, GatedPixelCNN, MaskedConv2d, PixelCNN
from lvmzoo.models.vae import VariationalModel
from lvmzoo.models.vae2d import VAE2D
from lvmzoo.models.vlae import VLAE
from lvmzoo.models.vqvae import VQVAE, Autoencoder
from lvmzoo.sampling import GatedSteps, PixelCNNSteps, with_none

__all__ = ["Graph", "excess", "facts_of", "graphs_of"]


class Graph(NamedTuple):
    """One function of a model, as a file of its own.

    Arguments:
        function: Takes the inputs by their names, returns a tensor for each output.
        inputs: Examples; their first dimension is the batch, which may have any size.
        outputs: Names of what the function returns.
        excess: Where an output is a choice (integers): how much worse than the best the choices
            in the last argument are, relative to the size of what is compared. It takes the
            inputs first.
    """

    function: Callable[..., tuple[Tensor, ...]]
    inputs: Mapping[str, Tensor]
    outputs: tuple[str, ...]
    excess: Callable[..., Tensor] | None = None


@singledispatch
def graphs_of(model: ZooModel, x: Tensor) -> dict[str, Graph]:
    """Return the graphs of a model by their names.

    Arguments:
        model: The model.
        x: Examples of its input, (N, ...).
    """
    raise TypeError(f"a {type(model).__name__} has no graphs to export")


@singledispatch
def facts_of(model: ZooModel) -> dict[str, Any]:
    """Return what one must know of a model's graphs beside the shapes of their tensors."""
    raise TypeError(f"a {type(model).__name__} has no graphs to export")


# Variational models: encode, decode; of a VLAE also the prior.


@graphs_of.register
def _(model: VariationalModel, x: Tensor) -> dict[str, Graph]:
    data = "points" if model.image_shape is None else "images"
    return {
        "encode": Graph(
            lambda **inputs: model._infer(model._scale(inputs[data])),
            {data: x},
            ("mean", "log_std"),
        ),
        "decode": Graph(
            lambda latents: (model._unscale(model._decoder_mean(latents)),),
            {"latents": model.encode(x)},
            (data,),
        ),
    }


@graphs_of.register
def _(model: VAE2D, x: Tensor) -> dict[str, Graph]:
    # With the noise of the points.
    decode = Graph(
        lambda latents: model._observe(latents), {"latents": model.encode(x)}, ("mean", "log_std")
    )
    return graphs_of.dispatch(VariationalModel)(model, x) | {"decode": decode}


@graphs_of.register
def _(model: VLAE, x: Tensor) -> dict[str, Graph]:
    # From N(0, I) to latents.
    prior = Graph(
        lambda noise: (inverse_in_passes(model.prior, noise),),
        {"noise": model.prior(model.encode(x))[0]},
        ("latents",),
    )
    return graphs_of.dispatch(VariationalModel)(model, x) | {"prior": prior}


@facts_of.register
def _(model: VariationalModel) -> dict[str, Any]:
    return {"latent_dim": model.config.latent_dim}


def inverse_in_passes(flow: MaskedAutoregressiveFlow, eps: Tensor) -> Tensor:
    """Return `flow.inverse(eps)`; weights are masked once, so that a graph holds them once."""
    *hidden, last = (
        (layer.masked_weight(), layer.bias) for layer in flow.net if isinstance(layer, MaskedLinear)
    )
    z = torch.zeros_like(eps)
    for i in range(flow.dim):
        x = z
        for weight, bias in hidden:
            x = F.silu(F.linear(x, weight, bias))
        mu, s = F.linear(x, *last).chunk(2, 1)
        found = (eps - mu) * (-flow.log_sigma(s)).exp()
        z = F.pad(found[:, : i + 1], (0, flow.dim - 1 - i))
    return z


# VQ-VAEs: encode, quantize, decode; of the prior all logits at once, or by rows and columns.


@graphs_of.register
def _(model: VQVAE, x: Tensor) -> dict[str, Graph]:
    autoencoder = model.autoencoder
    features = autoencoder.features(x)
    codes = autoencoder.nearest(features)

    def encode(images: Tensor) -> tuple[Tensor, Tensor]:
        features = autoencoder.features(images)
        return autoencoder.nearest(features), features

    return {
        "encode": Graph(
            encode,
            {"images": x},
            ("codes", "features"),
            lambda images, codes: excess(autoencoder, autoencoder.features(images), codes),
        ),
        "quantize": Graph(
            lambda features: (autoencoder.nearest(features),),
            {"features": features},
            ("codes",),
            lambda features, codes: excess(autoencoder, features, codes),
        ),
        "decode": Graph(lambda codes: (autoencoder.decode(codes),), {"codes": codes}, ("images",)),
        **_prior_graphs(model.prior, codes),
    }


@facts_of.register
def _(model: VQVAE) -> dict[str, Any]:
    prior = _exportable(model.prior)
    state = [len(prior.layers), prior.channels]
    rows, columns = _sizes(prior)
    sampling = {
        "outside": prior.num_codes,
        "no_label": prior.num_labels or None,
        "above": rows,
        "left_codes": columns,
        "rows": [*state, prior.grid[1]],
        "left": state,
    }
    codes = {"num_codes": model.config.num_codes, "grid": list(model.config.grid)}
    return {"codes": codes, "sampling": sampling}


def excess(autoencoder: Autoencoder, features: Tensor, codes: Tensor) -> Tensor:
    """Return how much farther codes are than the nearest, (N, h, w), in float64.

    Distances are squared, and relative to the squares that `nearest` compares them by, so that
    1e-7 is a rounding error of float32.
    """
    rows = features.permute(0, 2, 3, 1).double()
    codebook = autoencoder.quantizer.codebook.double()
    distances = torch.cdist(rows.flatten(1, 2), codebook).square()
    found = distances.gather(2, codes.flatten(1)[..., None]).squeeze(2)
    beyond: Tensor = (found - distances.amin(2)).view(codes.shape)
    return beyond / (rows.square().sum(3) + codebook.square().sum(1).amax())


def _exportable(prior: CodePrior) -> PixelCNN | GatedPixelCNN:
    if not isinstance(prior, (PixelCNN, GatedPixelCNN)):
        raise TypeError(f"a prior of class {type(prior).__name__} has no graphs to export")
    return prior


def _sizes(prior: PixelCNN | GatedPixelCNN) -> tuple[int, int]:
    """Return how many rows of codes `row` takes in, and how many codes `column`."""
    if isinstance(prior, GatedPixelCNN):
        return 2, 1
    return prior.first.reach + 1, prior.first.reach


def _prior_graphs(prior: CodePrior, codes: Tensor) -> dict[str, Graph]:
    """Return the graphs of a prior; code K stands for what lies outside the grid.

    logits: codes (n, H, W), labels (n,) -> (n, K, H, W)
    row: codes (n, rows, W) above, rows (n, L, C, W), labels -> base (W, n, F), next_rows
    column: codes (n, columns) to the left, base (n, F), left (n, L, C) -> logits (n, K), next_left

    `rows` is what the call for the row above returned, zeros before the first; so is `left`, of the
    column to the left. A prior without labels takes none.
    """
    prior = _exportable(prior)
    n, width = len(codes), prior.grid[1]
    steps = _GatedGraphs(prior) if isinstance(prior, GatedPixelCNN) else _PixelCNNGraphs(prior)
    labels = {}
    if prior.num_labels:
        labels = {"labels": torch.arange(n, device=codes.device) % (prior.num_labels + 1)}
    rows, columns = _sizes(prior)
    above = F.pad(codes[:, :rows], (0, 0, max(0, rows - codes.shape[1]), 0), value=prior.num_codes)
    left = F.pad(codes[:, 0, :columns], (max(0, columns - width), 0), value=prior.num_codes)
    state = prior.weight.new_zeros(n, len(prior.layers), prior.channels, width)
    base, next_rows = steps.row(above, state, **labels)
    return {
        "logits": Graph(
            lambda codes, labels=None: (prior.logits(codes, labels),),
            {"codes": codes} | labels,
            ("logits",),
        ),
        "row": Graph(steps.row, {"codes": above, "rows": state} | labels, ("base", "next_rows")),
        "column": Graph(
            steps.column,
            {"codes": left, "base": base[0], "left": next_rows[..., 0]},
            ("logits", "next_left"),
        ),
    }


class _Graphs:
    """The steps of `lvmzoo.sampling` with single tensors; kernels are laid out in the graph."""

    def __init__(self, prior: Any) -> None:
        self.prior = prior

    def _column(
        self, steps: Any, codes: Tensor, base: list[Tensor], left: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits, kept = steps.column(list(codes.unbind(1)), base, list(left.unbind(1)))
        return logits, torch.stack(kept, 1)


class _GatedGraphs(_Graphs):
    def row(self, codes: Tensor, rows: Tensor, labels: Tensor | None = None) -> Any:
        steps, n = GatedSteps(self.prior), codes.shape[0]  # len would fix the size
        biases = steps.start(n, labels)[: 2 * len(steps.layers)]
        two_above, above = codes.permute(1, 2, 0)  # (W, n)
        embedded = F.pad(F.embedding(two_above, steps.embedding), (0, 0, 0, 0, 1, 1))
        padded = F.pad(rows.permute(1, 3, 0, 2), (0, 0, 0, 0, 1, 1)).unbind()  # L of (W + 2, n, C)
        base, state = steps.row(above, [*biases, embedded, *padded])
        # Above the first row there is nothing.
        nothing, _ = steps.row(None, [*biases, embedded])
        inside = (above < self.prior.num_codes)[..., None]
        first = torch.where(inside, torch.cat(base, 2), torch.cat(nothing, 2))
        below = torch.stack([x[1:-1] for x in state[2 * len(steps.layers) + 1 :]])  # (L, W, n, C)
        return first, (below * inside).permute(2, 0, 3, 1)

    def column(self, codes: Tensor, base: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        steps = GatedSteps(self.prior)
        return self._column(steps, codes, list(base.chunk(len(steps.layers), 1)), left)


class _PixelCNNGraphs(_Graphs):
    def row(self, codes: Tensor, rows: Tensor) -> Any:
        # What `sampling` has of the columns of the row above is computed again, all at once, so
        # that a graph needs nothing of them.
        first, table = self.prior.first, with_none(self.prior.embedding)
        inside = (codes[:, -1:, None] < self.prior.num_codes).to(table.dtype)  # (n, 1, 1, W)
        e = F.embedding(codes, table).permute(0, 3, 1, 2)  # (n, E, rows, W)
        x = F.conv2d(e, first.masked_weight(), first.bias, padding=(0, first.reach))
        base, inputs = [_from_above(first, e[:, :, 1:])], []
        for layer, two_above in zip(self.prior.layers, rows.unbind(1), strict=True):
            y = layer.narrow(x.relu()).relu() * inside  # (n, C, 1, W)
            inputs.append(y.squeeze(2))
            base.append(_from_above(layer.masked, y))
            both = torch.stack([two_above, inputs[-1]], 2)
            y = F.conv2d(both, layer.masked.masked_weight(), layer.masked.bias, padding=(0, 1))
            x = x + layer.widen(y.relu())
        return torch.cat(base, 1).squeeze(2).permute(2, 0, 1), torch.stack(inputs, 1)

    def column(self, codes: Tensor, base: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        steps = PixelCNNSteps(self.prior)
        c = self.prior.channels
        first, rest = base.split((2 * c, len(steps.layers) * c), 1)
        return self._column(steps, codes, [first, *rest.chunk(len(steps.layers), 1)], left)


def _from_above(conv: MaskedConv2d, x: Tensor) -> Tensor:
    """Return what the rows x above a row give to it, with the bias, (n, ..., 1, W)."""
    return F.conv2d(x, conv.weight[:, :, :-1], conv.bias, padding=(0, conv.reach))
