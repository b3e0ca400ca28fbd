"""How images that a model makes compare with real ones, and the classifiers that judge them."""

from dataclasses import replace

import pytest
import torch
from support.factories import make_tiny
from support.runs import noise

from lvmzoo.registry import DATASETS
from training import samples
from training.data import as_input
from training.families import family_of
from training.samples import (
    Classifier,
    measure_samples,
    read_classifier_recipe,
    trained_classifier,
)

NAMES = sorted(path.stem for path in samples.RECIPES.glob("*.toml"))


def sides():
    """Noise whose left half is dark in the second class."""
    data = noise(48, ("bright", "dark"))
    labels = torch.arange(48) % 2
    data.x[labels == 1, :, :, :16] //= 4
    return replace(data, labels=labels)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe that is soon through, in place of those of the data sets."""
    monkeypatch.setattr(samples, "RECIPES", tmp_path)
    path = tmp_path / "sides.toml"
    path.write_text("epochs = 6\nwidth = 2\nbatch_size = 8\naugment = ['shift']\n")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_every_classifier_recipe_is_valid_and_of_a_data_set(name):
    assert read_classifier_recipe(name).epochs >= 1
    assert DATASETS[name].shape[1:] == (32, 32)


def test_a_classifier_learns_and_is_trained_once_for_a_recipe_and_data(
    recipe, tmp_path, monkeypatch
):
    data, folder = sides(), tmp_path / "kept"
    before = torch.get_rng_state()
    first = trained_classifier("sides", data, folder)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        assert (first(as_input(data.x)).argmax(1) == data.labels).float().mean() > 0.9
    with monkeypatch.context() as patch:
        patch.setattr(samples, "fit_classifier", None)
        again = trained_classifier("sides", data, folder)
    assert not again.training
    pairs = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    anew = trained_classifier("sides", data, tmp_path / "elsewhere")
    assert torch.equal(anew.head.weight, first.head.weight)  # of the same seed
    trained_classifier("sides", data.take(slice(0, 40)), folder)
    recipe.write_text("epochs = 1\nwidth = 2\n")
    trained_classifier("sides", data, folder)
    assert len([*folder.iterdir()]) == 3


@pytest.fixture
def judge() -> Classifier:
    torch.manual_seed(0)
    return Classifier(1, 10, 2).eval()


def digits(n, seed=0):
    data = noise(n, tuple("0123456789"), seed)
    return replace(data, x=data.x[:, :1])


@pytest.mark.parametrize("kind", ["VAE", "VLAE", "VQVAE", "gated VQVAE"])
def test_every_kind_of_image_is_made_from_fixed_seeds(kind, judge):
    model = make_tiny(kind)
    more = [f"samples given the class, guidance {w}" for w in (0, 1, 2, 4)] * ("gated" in kind)
    size = model.image_shape[1]
    real, train = (replace(s, x=s.x[:, :, :size, :size]) for s in (digits(12), digits(12, seed=1)))
    result = measure_samples(model, judge, real, train)
    titles = [k.title for k in result.kinds]
    assert titles == ["training images", "reconstructions", "samples", *more]
    known = family_of(type(model).__name__).sample_metrics
    for found in result.kinds:
        labelled = found.title not in ("training images", "samples")
        assert found.metrics.keys() == known.keys() - (set() if labelled else {"recognised"})
    assert measure_samples(model, judge, real, train) == result
