"""Cards: what is on record of the zoo, word for word."""

import hashlib

import pytest
from huggingface_hub import ModelCard
from support.runs import recipe_of

from lvmzoo import list_models, model_info, registry
from training.recipe import train_command, with_defaults
from training.release import cards, records
from training.run import records_of

PRETRAINED = list_models(pretrained=True)


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_card_is_what_its_record_gives(name):
    text = (records.CARDS / f"{name}.md").read_text()
    assert text == cards.render(model_info(name), records.read_record(name))


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_card_has_valid_metadata_with_the_measured_figures(name):
    card = ModelCard.load(records.CARDS / f"{name}.md", ignore_metadata_errors=False)
    measured = records.read_record(name)["test"]["metrics"]
    results = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert results == pytest.approx(measured, abs=1e-6)
    assert card.data.license == "mit"
    assert card.data.model_name == name


@pytest.mark.parametrize("name", PRETRAINED)
def test_index_record_and_file_agree(name):
    info, record = model_info(name), records.read_record(name)
    for component, file in info.files.items():
        data = (registry.WEIGHTS / file.name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file.sha256
        assert record["test"]["weights"][component] == file.sha256
        assert record["validation"]["weights"][component] == file.sha256
        assert len(data) == file.size <= 16 * 2**20
    assert info.metrics == pytest.approx(record["test"]["metrics"], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_recipe_is_the_one_that_made_the_weights(name):
    record = records.read_record(name)
    variants, settings = record["run"]["variants"], record["run"]["settings"]
    assert settings == []
    text = (records.CARDS / f"{name}.md").read_text()
    recipes = recipe_of(name, variants=variants).components
    for component, run in records_of(record["run"]).items():
        if run["entry"] == name:
            recipe = recipes[component]
            assert vars(recipe) == with_defaults(type(recipe), run["recipe"])
    command = f"python -m training.train {name}{' --short' * bool(variants)}\n"
    assert f"```\n{command}```" in text
    assert command == f"{train_command(name, variants, settings)}\n"
    assert ("short of its recipe" in text) == bool(variants)


@pytest.mark.parametrize("name", PRETRAINED)
def test_every_picture_of_a_card_is_there(name):
    text = (records.CARDS / f"{name}.md").read_text()
    pictures = [line.split("(")[1].rstrip(")") for line in text.splitlines() if "![" in line]
    assert pictures
    assert all((records.CARDS / picture).exists() for picture in pictures)


def test_a_card_shows_samples_beside_real_images():
    name = "vqvae_gated_svhn"
    record = records.read_record(name)
    record["test"].pop("samples", None)
    assert "Fréchet" not in cards.render(model_info(name), record)
    figures = {"frechet": 12.345, "precision": 0.5, "recall": 0.25, "density": 1.125, "coverage": 1}
    kinds = [
        {"title": "training images", "metrics": figures},
        {"title": "samples of a class", "metrics": figures | {"recognised": 0.7777}},
    ]
    record["test"]["samples"] = {"images": 1999, "accuracy": 0.9344, "kinds": kinds}
    text = cards.render(model_info(name), record)
    assert "1,999 images of each kind" in text
    assert "`training/recipes/classifiers/svhn.toml`) that reads 93.4 % of the split right" in text
    assert "\n| training images | 12.345 | 0.500 | 0.250 | 1.125 | 1.000 | \u2013 |\n" in text
    assert "\n| samples of a class | 12.345 | 0.500 | 0.250 | 1.125 | 1.000 | 0.778 |\n\n" in text


COMPARED = [n for n in PRETRAINED if "baseline" in records.read_record(n)]


@pytest.mark.parametrize("name", COMPARED)
def test_the_recipe_beats_the_plain_one_on_validation(name):
    record = records.read_record(name)
    ours = record["validation"]["metrics"]["elbo"]
    assert ours > record["baseline"]["validation"]["metrics"]["elbo"]


def test_all_weights_together_stay_small():
    sizes = [path.stat().st_size for path in registry.WEIGHTS.glob("*.safetensors")]
    assert sum(sizes) <= 80 * 2**20


def test_no_weights_lie_about_that_the_index_does_not_name():
    named = {file.name for name in PRETRAINED for file in model_info(name).files.values()}
    assert {path.name for path in registry.WEIGHTS.glob("*.safetensors")} == named


def test_the_readme_has_the_current_table():
    assert cards.table() in (records.ROOT / "README.md").read_text()
