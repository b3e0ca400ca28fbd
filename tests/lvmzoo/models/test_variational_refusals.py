"""What variational models refuse, before any work."""

import math

import pytest
import torch
from support.factories import make_tiny


def images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


BAD_IMAGES = [
    ([1, 2], TypeError, r"images must be a torch\.Tensor of shape \(N, 1, 32, 32\), not list"),
    (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), TypeError, "uint8; divide uint8 images by 255"),
    (torch.zeros(2, 1, 32, 32, dtype=torch.int64), TypeError, r"not torch\.int64; call \.float"),
    (images(1, 32, 32), ValueError, r"not \(1, 32, 32\); add a batch dimension with x\[None\]"),
    (images(2, 1, 1, 32, 32), ValueError, r"shape \(N, 1, 32, 32\), not \(2, 1, 1, 32, 32\)"),
    (images(2, 3, 32, 32), ValueError, r"must have shape \(N, 1, 32, 32\), not \(2, 3, 32, 32\)"),
    (images(2, 1, 28, 28), ValueError, "lvmzoo.load_images"),
    (images(2, 32, 32, 1), ValueError, r"x\.permute\(0, 3, 1, 2\)"),
    (images(0, 1, 32, 32), ValueError, "is empty"),
    (images(2, 1, 32, 32) * 255, ValueError, r"must lie in \[0, 1\], .*; divide by 255"),
    (images(2, 1, 32, 32) - 0.5, ValueError, r"\[0, 1\], .*; scale or clamp"),
    (images(2, 1, 32, 32) * torch.nan, ValueError, "NaN or infinite"),
    (images(2, 1, 32, 32) + torch.inf, ValueError, "NaN or infinite"),
    (images(2, 1, 32, 32).to("meta"), ValueError, "on meta, the model on cpu"),
]
TAKE_IMAGES = ["encode", "posterior", "reconstruct", "elbo", "log_likelihood", "interpolate"]


@pytest.mark.parametrize(("x", "error", "message"), BAD_IMAGES)
@pytest.mark.parametrize("method", TAKE_IMAGES)
def test_bad_images(method, x, error, message, monkeypatch):
    model = make_tiny("VAE")
    monkeypatch.setattr(model, "_infer", lambda x: pytest.fail("worked before it refused"))
    arguments = [x, x] if method == "interpolate" else [x]
    if method == "interpolate":
        message = message.replace("images must", "x_a must")
    with pytest.raises(error, match=message) as caught:
        getattr(model, method)(*arguments)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("method", ["decode", "prior_log_prob"])
def test_bad_latents(model, method):
    dim = model.config.latent_dim
    call = getattr(model, method)
    for z, error, message in [
        (torch.zeros(3, dim + 1), ValueError, rf"latents must have shape \(N, {dim}\), not"),
        (torch.zeros(dim), ValueError, "add a batch dimension"),
        (torch.zeros(3, dim, dtype=torch.int64), TypeError, "floating point"),
        (torch.full((3, dim), torch.nan), ValueError, "NaN"),
        (None, TypeError, "not NoneType"),
    ]:
        with pytest.raises(error, match=message):
            call(z)


@pytest.mark.parametrize(
    ("n", "options", "error", "message"),
    [
        (0, {}, ValueError, "n must be at least 1, not 0"),
        (-3, {}, ValueError, "not -3"),
        (2.0, {}, TypeError, "n must be an int, not float"),
        (True, {}, TypeError, "n must be an int, not bool"),
        ("4", {}, TypeError, "n must be an int, not str"),
        (2, {"temperature": 0}, ValueError, "temperature must be finite and above 0, not 0"),
        (2, {"temperature": -1.0}, ValueError, "above 0"),
        (2, {"temperature": math.nan}, ValueError, "finite"),
        (2, {"temperature": math.inf}, ValueError, "finite"),
        (2, {"temperature": "hot"}, TypeError, "temperature must be a number, not str"),
        (2, {"labels": 3}, ValueError, "is unconditional: it takes no labels"),
        (2, {"generator": 0}, TypeError, r"generator must be a torch\.Generator or None, not int"),
    ],
)
def test_bad_requests_for_samples(model, n, options, error, message):
    with pytest.raises(error, match=message):
        model.sample(n, **options)


def test_bad_counts_and_pairs(model, x):
    for call in (model.elbo, model.log_likelihood):
        for bad in (0, -1):
            with pytest.raises(ValueError, match="num_samples must be at least 1"):
                call(x, num_samples=bad)
        with pytest.raises(TypeError, match="num_samples must be an int"):
            call(x, num_samples=1.5)
    for steps in (1, 0, -2):
        with pytest.raises(ValueError, match="steps must be at least 2"):
            model.interpolate(x, x, steps)
    with pytest.raises(ValueError, match=r"x_a has shape .*, x_b"):
        model.interpolate(x, x[:2])
