import pytest

from lvmzoo import CheckpointError, list_models
from lvmzoo.models import model_class
from lvmzoo.registry import model_info
from training import recipe as recipes
from training.recipe import (
    card_notes,
    has_variant,
    read_recipe,
    shared_components,
    train_command,
    with_defaults,
)


def own_components(name):
    components = model_class(model_info(name).model_class).COMPONENTS
    return [c for c in components if c not in shared_components(name)]


@pytest.mark.parametrize("name", list_models())
def test_every_entry_has_a_valid_recipe(name):
    whole = read_recipe(name)
    assert card_notes(name).compare_with in ("", *list_models())
    if has_variant(name, "baseline"):
        plain = read_recipe(name, variants=["baseline"])
        assert plain.epochs == whole.epochs
        assert (plain.lr, plain.schedule, plain.ema_decay) == (1e-3, "constant", 0.0)
    if has_variant(name, "short"):
        for component in own_components(name):
            short = read_recipe(name, variants=["short"], component=component)
            assert short.epochs < read_recipe(name, component=component).epochs


@pytest.fixture
def with_short(monkeypatch):
    """Give recipes a table [short], whether or not they have one."""
    read = recipes._read

    def give(table):
        monkeypatch.setattr(recipes, "_read", lambda name: read(name) | {"short": table})

    return give


def test_the_plain_recipe_of_a_short_run_is_as_short(with_short):
    with_short({"epochs": 3})
    variants = ("short", "baseline")
    both = read_recipe("vae_mnist", variants=variants)
    assert both.epochs == 3
    assert both.schedule == read_recipe("vae_mnist", variants=["baseline"]).schedule
    command = train_command("vae_mnist", {"model": vars(both)})
    assert command == "python -m training.train vae_mnist --short --baseline"


def test_a_variant_that_a_recipe_lacks_is_refused():
    with pytest.raises(CheckpointError, match=r"vae2d_gaussian1.toml has no table \[short\]"):
        read_recipe("vae2d_gaussian1", variants=["short"])


def test_the_command_trains_by_the_recorded_recipe():
    recipe = read_recipe("vae_svhn", ["epochs=3", "lr=0.01"])
    command = train_command("vae_svhn", {"model": vars(recipe)}, "my pictures")
    begin = "python -m training.train vae_svhn --images 'my pictures' "
    assert command.startswith(begin)
    words = command.removeprefix(begin).split()
    assert words[::2] == ["--set"] * 2
    assert read_recipe("vae_svhn", words[1::2]) == recipe


def test_the_command_for_two_components_has_the_changes_of_both(with_short):
    with_short({"autoencoder": {"epochs": 3}, "prior": {"epochs": 3}})
    name = "vqvae_svhn"
    recorded = {
        component: vars(read_recipe(name, settings, variants=["short"], component=component))
        for component, settings in (("autoencoder", ["lr=0.5"]), ("prior", []))
    }
    command = f"python -m training.train {name} --short --set autoencoder.lr=0.5"
    assert train_command(name, recorded) == command


def test_a_recorded_recipe_has_the_defaults_of_later_keys():
    recorded = vars(read_recipe("vae_svhn")).copy()
    del recorded["export"]
    assert with_defaults("model", recorded)["export"] == "last"
    assert with_defaults("model", recorded | {"export": "best"})["export"] == "best"


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
        ("export=first", "export must be one of last, best"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(CheckpointError, match=message):
        read_recipe("vae_cifar10", [setting])


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(ValueError, match="key=value"):
        read_recipe("vae_cifar10", ["epochs"])
