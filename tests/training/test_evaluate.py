import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torchmetrics.functional.image import peak_signal_noise_ratio

import lvmzoo
from training import cards, evaluate, figures, reproduce
from training.data import Split, load_split

POINTS = lvmzoo.list_models("vae2d_*", pretrained=True)


def image_split(n=20):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Split(x, torch.zeros(n).long(), (), "noise")


def command(*arguments):
    result = CliRunner().invoke(evaluate.main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", POINTS)
def test_the_command_measures_what_is_recorded(tmp_path, name):
    result = command(name, "--out", tmp_path)
    recorded = cards.read_record(name)["test"]
    assert result["weights"] == recorded["weights"]
    assert result["metrics"] == pytest.approx(recorded["metrics"], abs=1e-4)
    assert (tmp_path / f"{name}_samples.png").stat().st_size > 1000


@pytest.mark.parametrize("name", POINTS)
def test_the_gap_is_small_and_no_bug(name):
    metrics = lvmzoo.model_info(name).metrics
    assert -3 * metrics["gap_se"] <= metrics["gap"] <= 0.05


def test_fresh_weights_are_clearly_worse(tmp_path):
    torch.manual_seed(0)
    lvmzoo.create_model("vae2d_gaussian1").save_pretrained(tmp_path / "fresh")
    result = command("vae2d_gaussian1", "--weights", tmp_path / "fresh", "--out", tmp_path)
    assert result["metrics"]["gap"] > 1


def test_image_figures_agree_with_their_definitions():
    torch.manual_seed(0)
    model = lvmzoo.create_model("vae_cifar10").eval()
    split = image_split()
    found, examples = figures.measure(model, split, "cifar10")
    x = split.x.float() / 255
    with torch.no_grad():
        y = model.reconstruct(x)
    assert found["psnr"] == pytest.approx(
        peak_signal_noise_ratio(y, x, data_range=1.0).item(), abs=1e-4
    )
    assert found["elbo"] == pytest.approx(found["reconstruction"] - found["kl"], rel=1e-6)
    constant = 0.5 * 3 * 32 * 32 * math.log(2 * math.pi)
    assert found["half_squared_error"] == pytest.approx(-found["reconstruction"] - constant)
    assert found["log_likelihood"] >= found["elbo"] - 0.5  # other draws
    assert examples["elbo"].shape == (20,)


def test_leaving_out_the_costly_figure_changes_no_other():
    torch.manual_seed(0)
    model = lvmzoo.create_model("vae_cifar10").eval()
    whole, _ = figures.measure(model, image_split(), "cifar10", importance_samples=2)
    quick, _ = figures.measure(model, image_split(), "cifar10", importance_samples=0)
    assert whole.pop("log_likelihood")
    assert whole == quick


def test_the_true_model_has_no_gap():
    # For Gaussian 2 the decoder N(W z + b, I) with W W^T = Sigma - I is the true density.
    split = load_split("gaussian2", "test", Path())
    model = lvmzoo.VAE2D(lvmzoo.VAE2D.Config(hidden=1)).eval()
    s = math.sqrt(0.5)
    direction = torch.tensor([-s, s])
    scale = math.sqrt(24)

    def infer(x):
        along = (x - torch.tensor([-1.0, 2.0])) @ direction
        mean = torch.stack([along * scale / 25, torch.zeros_like(along)], 1)
        return mean, torch.tensor([-0.5 * math.log(25), 0.0]).expand_as(mean)

    def observe(z):
        mean = torch.tensor([-1.0, 2.0]) + z[:, :1] * scale * direction
        return mean, torch.zeros_like(mean)

    model._infer, model._observe = infer, observe
    found, _ = figures.measure(model, split, "gaussian2")
    assert abs(found["gap"]) < 3 * found["gap_se"] + 1e-6


def test_another_class_of_weights_is_refused(tmp_path):
    lvmzoo.create_model("vae2d_gaussian1").save_pretrained(tmp_path / "points")
    arguments = ["vae_cifar10", "--weights", str(tmp_path / "points"), "--data", str(tmp_path)]
    split = image_split()
    with pytest.raises(ValueError, match="holds a VAE2D, not a VAE"):
        evaluate.evaluate(
            lvmzoo.model_info("vae_cifar10"), tmp_path / "points", split, "test", tmp_path
        )
    assert CliRunner().invoke(evaluate.main, arguments).exit_code != 0


def test_paired_differences(tmp_path):
    torch.manual_seed(0)
    split = image_split()
    for name in ("a", "b"):
        lvmzoo.create_model("vae_cifar10").save_pretrained(tmp_path / name)
        evaluate.evaluate(
            lvmzoo.model_info("vae_cifar10"),
            tmp_path / name,
            split,
            "test",
            tmp_path / name / "evaluation",
        )
    found = reproduce.compare(tmp_path / "a", tmp_path / "b", "vae_cifar10", 3)
    figures = [
        json.loads((tmp_path / name / "evaluation/metrics.test.json").read_text())["metrics"]
        for name in ("a", "b")
    ]
    term = found["terms"]["elbo"]
    assert term["difference"] == pytest.approx(figures[0]["elbo"] - figures[1]["elbo"])
    assert term["standard_error"] > 0
    assert found["epochs"] == 3
