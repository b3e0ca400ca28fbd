"""Recipes: the files, their variants and settings, and the command that trains by them."""

import shlex
from dataclasses import asdict

import pytest
from support.runs import recipe_of

from lvmzoo import list_models
from lvmzoo.loading import model_class
from lvmzoo.registry import model_info
from training.families.vqvae import AutoencoderRecipe, PriorRecipe
from training.recipe import Recipe, RecipeError, parse_settings, train_command, with_defaults


@pytest.mark.parametrize("name", list_models())
def test_every_entry_has_a_valid_recipe(name):
    whole = recipe_of(name)
    assert whole.compare_with in ("", *list_models())
    components = model_class(model_info(name).model_class).COMPONENTS
    assert {*whole.components, *whole.shared} == {*components}
    if "baseline" in whole.offers:
        plain = recipe_of(name, variants=("baseline",)).components["model"]
        assert plain.epochs == whole.components["model"].epochs
        assert (plain.lr, plain.schedule, plain.ema_decay) == (1e-3, "constant", 0.0)
    if "short" in whole.offers:
        for component, short in recipe_of(name, variants=("short",)).components.items():
            assert short.epochs < whole.components[component].epochs


def test_the_plain_recipe_of_a_short_run_is_as_short(recipes):
    recipes.set("vae_mnist", short={"epochs": 3})
    entry = recipe_of("vae_mnist", variants=("short", "baseline"))
    both = entry.components["model"]
    assert both.epochs == 3
    plain = recipe_of("vae_mnist", variants=("baseline",)).components["model"]
    assert both.schedule == plain.schedule
    command = train_command("vae_mnist", entry.variants, entry.settings)
    assert command == "python -m training.train vae_mnist --short --baseline"


def test_a_variant_that_a_recipe_lacks_is_refused():
    with pytest.raises(RecipeError, match=r"vae2d_gaussian1.toml has no table \[short\]"):
        recipe_of("vae2d_gaussian1", variants=("short",))


def test_the_command_trains_by_the_recorded_recipe():
    entry = recipe_of("vae_svhn", ("epochs=3", "lr=0.01"))
    command = train_command("vae_svhn", entry.variants, entry.settings, "my pictures")
    begin = "python -m training.train vae_svhn --images 'my pictures' "
    assert command.startswith(begin)
    words = shlex.split(command.removeprefix(begin))
    assert words[::2] == ["--set"] * 2
    assert recipe_of("vae_svhn", tuple(words[1::2])) == entry


def test_the_command_for_two_components_has_the_changes_of_both(recipes):
    recipes.set("vqvae_svhn", short={"autoencoder": {"epochs": 3}, "prior": {"epochs": 3}})
    entry = recipe_of("vqvae_svhn", ("autoencoder.lr=0.5",), ("short",))
    assert entry.components["autoencoder"].lr == 0.5
    assert entry.components["prior"].lr == recipe_of("vqvae_svhn").components["prior"].lr
    assert {recipe.epochs for recipe in entry.components.values()} == {3}
    command = "python -m training.train vqvae_svhn --short --set autoencoder.lr=0.5"
    assert train_command("vqvae_svhn", entry.variants, entry.settings) == command


def test_a_recorded_recipe_has_the_defaults_of_later_keys():
    recorded = asdict(recipe_of("vae_svhn").components["model"])
    del recorded["export"]
    assert with_defaults(Recipe, recorded)["export"] == "last"
    assert with_defaults(Recipe, recorded | {"export": "best"})["export"] == "best"
    assert with_defaults(PriorRecipe, recorded)["label_dropout"] == 0.0


def test_settings_change_one_run():
    changed = recipe_of("vae_cifar10", ("epochs=2", "lr=0.1", "schedule=constant"))
    recipe = changed.components["model"]
    assert (recipe.epochs, recipe.lr, recipe.schedule) == (2, 0.1, "constant")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epoch=2", "unknown key 'epoch'"),
        ("epochs=many", "epochs must be int"),
        ("epochs=-1", "epochs must be from 0"),
        ("lr=-1", "lr must lie"),
        ("augment_share=2", "augment_share must be in"),
        ("precision=fp8", "precision must be one of auto, float32, bf16"),
        ("deterministic=1", "deterministic must be bool"),
        ("export=first", "export must be one of last, best"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(RecipeError, match=message):
        recipe_of("vae_cifar10", (setting,))


def test_a_setting_without_a_value_is_refused():
    with pytest.raises(RecipeError, match="key=value"):
        recipe_of("vae_cifar10", ("epochs",))


def test_settings_are_read_as_toml_else_as_text():
    assert parse_settings(["a=1", "b.c=0.5", "d=true", "e=flip"]) == {
        "a": 1,
        "b.c": 0.5,
        "d": True,
        "e": "flip",
    }


def test_recipes_of_components():
    autoencoder = recipe_of("vqvae_cifar10").components["autoencoder"]
    assert isinstance(autoencoder, AutoencoderRecipe)
    assert autoencoder.revive_every > 0
    gated = recipe_of("vqvae_gated_cifar10")
    assert list(gated.components) == ["prior"]
    prior = gated.components["prior"]
    assert isinstance(prior, PriorRecipe)
    assert 0 < prior.label_dropout < 1
    assert gated.shared == {"autoencoder": "vqvae_cifar10"}
    one, other = recipe_of("vqvae_svhn", ("epochs=3", "autoencoder.lr=0.5")).components.values()
    assert (one.epochs, one.lr) == (3, 0.5)
    assert (other.epochs, other.lr) == (3, 1e-3)


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("vqvae_gated_svhn", "autoencoder.epochs=3"),
        ("vqvae_svhn", "decoder.epochs=3"),
        ("vae_svhn", "prior.epochs=3"),
        ("vqvae_svhn", "prior.revive_every=3"),
    ],
)
def test_settings_of_absent_components_are_refused(name, setting):
    with pytest.raises(RecipeError):
        recipe_of(name, (setting,))


def test_an_entry_without_a_recipe_is_refused(recipes):
    (recipes.root / "vae_svhn.toml").unlink()
    with pytest.raises(RecipeError, match="vae_svhn has no recipe"):
        recipe_of("vae_svhn")
