"""Recipes: the files, their baseline and settings, and the command that trains by them."""

from dataclasses import asdict

import pytest
from support.runs import recipe_of

from lvmzoo import CheckpointError, list_models
from lvmzoo.loading import model_class
from lvmzoo.registry import model_info
from training.families.vqvae import AutoencoderRecipe, PriorRecipe
from training.recipe import Recipe, RecipeError, parse_settings, read_table, with_defaults


@pytest.mark.parametrize("name", list_models())
def test_every_entry_has_a_valid_recipe(name):
    whole = recipe_of(name)
    assert whole.compare_with in ("", *list_models())
    components = model_class(model_info(name).model_class).COMPONENTS
    assert {*whole.components, *whole.shared} == {*components}
    if whole.has_baseline:
        plain = recipe_of(name, baseline=True).components["model"]
        assert plain.epochs == whole.components["model"].epochs
        assert (plain.lr, plain.schedule, plain.ema_decay) == (1e-3, "constant", 0.0)


def test_a_recorded_recipe_has_the_defaults_of_later_keys():
    recorded = asdict(recipe_of("vae_svhn").components["model"])
    del recorded["export"]
    assert with_defaults(Recipe, recorded)["export"] == "last"
    assert with_defaults(Recipe, recorded | {"export": "best"})["export"] == "best"
    assert with_defaults(PriorRecipe, recorded)["label_dropout"] == 0.0


def test_settings_are_read_as_toml_else_as_text():
    found = parse_settings(["a=1", "b.c=0.5", "d=true", "e=flip"])
    assert found == {"a": 1, "b.c": 0.5, "d": True, "e": "flip"}
    recipe = recipe_of("vae_cifar10", ("epochs=2", "lr=0.1")).components["model"]
    assert (recipe.epochs, recipe.lr) == (2, 0.1)


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("vae_cifar10", "epochs", "key=value"),
        ("vae_cifar10", "epoch=2", "unknown key 'epoch'"),
        ("vae_cifar10", "epochs=many", "epochs must be int"),
        ("vae_cifar10", "epochs=-1", "epochs must be from 0"),
        ("vae_cifar10", "lr=-1", "lr must be from"),
        ("vae_cifar10", "augment_share=2", "augment_share must be from"),
        ("vae_cifar10", "precision=fp8", "precision must be one of auto, float32, bf16"),
        ("vae_cifar10", "deterministic=1", "deterministic must be bool"),
        ("vqvae_gated_svhn", "autoencoder.epochs=3", "trains no such component"),
        ("vae_svhn", "prior.epochs=3", "trains no such component"),
        ("vqvae_svhn", "prior.revive_every=3", "unknown key 'revive_every'"),
        ("vqvae_svhn", "prior.dropout=1", "dropout must be from"),
    ],
)
def test_bad_settings_are_refused(name, setting, message):
    with pytest.raises((RecipeError, CheckpointError), match=message):
        recipe_of(name, (setting,))


def test_a_missing_file_or_table_is_refused():
    with pytest.raises(RecipeError, match="vae_x has no recipe"):
        read_table("vae_x")
    with pytest.raises(RecipeError, match=r"vae2d_gaussian1.toml has no table \[baseline\]"):
        recipe_of("vae2d_gaussian1", baseline=True)


def test_recipes_of_components():
    one, other = recipe_of("vqvae_svhn", ("epochs=3", "autoencoder.lr=0.5")).components.values()
    assert isinstance(one, AutoencoderRecipe)
    assert (one.epochs, one.lr) == (3, 0.5)
    assert (other.epochs, other.lr) == (3, 1e-3)
    shared = recipe_of("vqvae_gated_cifar10")
    assert shared.shared == {"autoencoder": "vqvae_cifar10"}
    assert [type(r) for r in shared.components.values()] == [PriorRecipe]


def test_alone_an_entry_trains_what_it_shares():
    alone = recipe_of("vqvae_gated_cifar10", ("autoencoder.epochs=3",), alone=True)
    assert [*alone.components] == ["autoencoder", "prior"]
    assert alone.shared == {}
    other = recipe_of("vqvae_cifar10", ("autoencoder.epochs=3",))
    assert alone.components["autoencoder"] == other.components["autoencoder"]
    assert alone.components["prior"] == recipe_of("vqvae_gated_cifar10").components["prior"]
