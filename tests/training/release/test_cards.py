"""Cards: what is on record of the zoo, word for word."""

import hashlib
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from support.runs import recipe_of

from lvmzoo import list_models, model_info, registry
from training.recipe import with_defaults
from training.release import cards, records

PRETRAINED = list_models(pretrained=True)
EACH = pytest.mark.parametrize("name", PRETRAINED)


@EACH
def test_a_card_is_what_its_record_gives(name):
    path, record = records.CARDS / f"{name}.md", records.read_record(name)
    assert path.read_text() == cards.render(model_info(name), record)
    card = ModelCard.load(path, ignore_metadata_errors=False)
    results = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert results == pytest.approx(record.test.metrics, abs=1e-6)
    assert (card.data.license, card.data.model_name) == ("mit", name)
    pictures = [line.split("(")[1].rstrip(")") for line in card.text.splitlines() if "![" in line]
    assert pictures
    assert all((records.CARDS / picture).exists() for picture in pictures)


@EACH
def test_index_record_and_file_agree(name):
    info, record = model_info(name), records.read_record(name)
    for component, file in info.files.items():
        data = (registry.WEIGHTS / file.name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file.sha256
        assert record.test.weights[component] == file.sha256
        assert record.validation.weights[component] == file.sha256
        assert len(data) == file.size <= 16 * 2**20
    assert info.metrics == pytest.approx(record.test.metrics, rel=1e-4, abs=1e-4)


@EACH
def test_the_recipe_is_the_one_that_made_the_weights(name):
    run = records.read_record(name).run
    assert (run.settings, run.variants) == ([], [])
    recipes = recipe_of(name).components
    for component, part in run.components.items():
        if part.entry == name:
            recipe = recipes[component]
            assert vars(recipe) == with_defaults(type(recipe), part.recipe)
    assert cards.train_command(run) == f"python -m training.train {name}"


def test_the_command_of_a_card_is_that_of_the_run():
    run = replace(
        records.read_record("vae_svhn").run,
        variants=["baseline"],
        settings=["epochs=3", "lr=0.01"],
        options=["--image-size", "64"],
        own_pictures=True,
        config={"dataset": "my pictures"},
    )
    assert cards.train_command(run) == (
        "python -m training.train vae_svhn --baseline --images 'my pictures' --image-size 64 "
        "--set epochs=3 --set lr=0.01"
    )


@pytest.mark.parametrize("name", [n for n in PRETRAINED if records.read_record(n).baseline])
def test_the_recipe_beats_the_plain_one_on_validation(name):
    record = records.read_record(name)
    plain = record.baseline.validation.metrics["elbo"]
    assert record.validation.metrics["elbo"] > plain


def test_the_weights_are_those_of_the_index_and_small():
    paths = [*registry.WEIGHTS.glob("*.safetensors")]
    named = {file.name for name in PRETRAINED for file in model_info(name).files.values()}
    assert {path.name for path in paths} == named
    assert sum(path.stat().st_size for path in paths) <= 80 * 2**20


def test_the_readme_has_the_current_table():
    assert cards.table() in (records.ROOT / "README.md").read_text()
