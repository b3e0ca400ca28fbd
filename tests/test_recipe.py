import tomllib

import pytest

from lvmzoo import CheckpointError, list_models
from training import recipe
from training.recipe import card_notes, has_baseline, read_recipe


@pytest.mark.parametrize("name", list_models())
def test_every_entry_has_a_valid_recipe(name):
    own = read_recipe(name)
    notes = card_notes(name)
    for component, epochs in notes.full_length.items():
        assert epochs > read_recipe(name, component=component).epochs
    assert notes.compare_with in ("", *list_models())
    if has_baseline(name):
        plain = read_recipe(name, baseline=True)
        assert plain.epochs == own.epochs
        assert (plain.lr, plain.schedule, plain.ema_decay) == (1e-3, "constant", 0.0)


def test_a_full_length_is_a_number_of_epochs(monkeypatch):
    text = '[card.full_length]\nmodel = "long"\n'
    monkeypatch.setattr(recipe, "_read", lambda name: tomllib.loads(text))
    with pytest.raises(CheckpointError, match="full_length must be dict"):
        card_notes("vae_cifar10")


def test_settings_change_one_run():
    changed = read_recipe("vae_cifar10", ["epochs=2", "lr=0.1", "schedule=constant"])
    assert (changed.epochs, changed.lr, changed.schedule) == (2, 0.1, "constant")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epoch=2", "unknown key 'epoch'"),
        ("epochs=many", "epochs must be int"),
        ("epochs=0", "epochs must be from 1"),
        ("lr=-1", "lr must lie"),
        ("precision=fp8", "precision must be one of float32, bf16"),
        ("deterministic=1", "deterministic must be bool"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(CheckpointError, match=message):
        read_recipe("vae_cifar10", [setting])


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(ValueError, match="key=value"):
        read_recipe("vae_cifar10", ["epochs"])
