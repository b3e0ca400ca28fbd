"""Classifiers that judge samples: their recipes, their training, and where they are kept."""

from dataclasses import replace

import pytest
import torch
from support.runs import noise

from lvmzoo import CheckpointError
from lvmzoo.registry import DATASETS
from training import classifier
from training.classifier import Classifier, ClassifierRecipe, read_classifier_recipe, trained
from training.data import as_input

NAMES = sorted(path.stem for path in classifier.RECIPES.glob("*.toml"))


def sides():
    """Noise whose left half is bright in the second class."""
    data = noise(48, ("dark", "bright"))
    labels = torch.arange(48) % 2
    data.x[labels == 1, :, :, :16] //= 4
    return replace(data, labels=labels)


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """A recipe that is soon through, in place of those of the data sets."""
    monkeypatch.setattr(classifier, "RECIPES", tmp_path)
    path = tmp_path / "sides.toml"
    path.write_text("epochs = 6\nwidth = 2\nbatch_size = 8\naugment = ['shift']\n")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_valid_and_of_a_data_set(name):
    assert read_classifier_recipe(name).epochs >= 1
    assert DATASETS[name].shape[1:] == (32, 32)
    assert classifier.has_recipe(name)


def test_only_data_sets_with_a_recipe_have_a_classifier():
    assert NAMES
    assert not classifier.has_recipe("gaussian1")


def test_a_recipe_with_a_mistake_is_refused(quick):
    quick.write_text("epochs = 1\naugment = ['mirror']\n")
    with pytest.raises(CheckpointError, match=r"classifiers/sides.toml: augment must be of none"):
        read_classifier_recipe("sides")
    quick.write_text("epochs = 0\n")
    with pytest.raises(CheckpointError, match="epochs must be"):
        read_classifier_recipe("sides")


def test_logits_are_of_the_features():
    model = Classifier(3, 10, 4).eval()
    x = as_input(noise(5).x)
    with torch.no_grad():
        assert model.features(x).shape == (5, 16)
        assert torch.equal(model(x), model.head(model.features(x)))


@pytest.mark.usefixtures("quick")
def test_a_classifier_learns_to_tell_the_classes_apart(tmp_path):
    data = sides()
    before = torch.get_rng_state()
    model = trained("sides", data, tmp_path / "kept")
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    with torch.no_grad():
        assert (model(as_input(data.x)).argmax(1) == data.labels).float().mean() > 0.9


def test_a_classifier_is_trained_once_by_the_same_recipe_on_the_same_data(
    quick, tmp_path, monkeypatch
):
    data, folder = sides(), tmp_path / "kept"
    first = trained("sides", data, folder).state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(classifier, "fit", None)
        again = trained("sides", data, folder).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    trained("sides", data.take(slice(0, 40)), folder)
    assert len(list(folder.iterdir())) == 2
    quick.write_text("epochs = 1\nwidth = 2\n")
    trained("sides", data, folder)
    assert len(list(folder.iterdir())) == 3


def test_the_same_seed_makes_the_same_classifier(tmp_path):
    data, recipe = sides(), ClassifierRecipe(1, width=2, batch_size=16, augment=("shift-colour",))
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        model = Classifier(3, 2, 2)
        classifier.fit(model, data, recipe)
        found.append(model.eval()(as_input(data.x)))
    assert torch.equal(*found)
