"""Figures of image VAEs against their definitions."""

import math

import pytest
import torch
from support.runs import noise
from torchmetrics.functional.image import peak_signal_noise_ratio

import lvmzoo
from training.evaluate import measure
from training.families.variational import VariationalFamily


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return lvmzoo.create_model("vae_cifar10").eval()


def test_image_figures_agree_with_their_definitions(model):
    split = noise(20, model.config.classes)
    found, examples = measure(model, split)
    x = split.x.float() / 255
    with torch.no_grad():
        y = model.reconstruct(x)
    assert found["psnr"] == pytest.approx(
        peak_signal_noise_ratio(y, x, data_range=1.0).item(), abs=1e-4
    )
    assert found["mse"] == pytest.approx((y - x).square().mean().item())
    assert found["elbo"] == pytest.approx(found["reconstruction"] - found["kl"], rel=1e-6)
    constant = 0.5 * 3072 * math.log(2 * math.pi)
    assert found["half_squared_error"] == pytest.approx(-found["reconstruction"] - constant)
    assert found["log_likelihood"] >= found["elbo"] - 0.5  # other draws
    assert examples["elbo"].shape == (20,)


@pytest.mark.parametrize("name", ["vae_cifar10", "vlae_cifar10"])
def test_leaving_out_the_costly_figure_changes_no_other(name, monkeypatch):
    monkeypatch.setattr(VariationalFamily, "importance_samples", 2)
    torch.manual_seed(0)
    model = lvmzoo.create_model(name).eval()
    whole, _ = measure(model, noise(20, model.config.classes))
    quick, _ = measure(model, noise(20, model.config.classes), full=False)
    assert whole.pop("log_likelihood")
    assert whole == quick
