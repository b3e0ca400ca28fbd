"""What a run is: its identity, the files it is given, how far it is."""

from dataclasses import replace

import pytest
from support.runs import noise, points_run, recipe_of, small_info, vqvae_run, with_options

from lvmzoo import CheckpointError, registry
from training import checkpoints
from training.data import sha256
from training.loop import fit, fit_entry
from training.run import EntryRun, OtherRunError, is_begun, read_record, records_of

pytestmark = pytest.mark.usefixtures("few_revival_images")


def test_a_run_from_before_a_key_of_the_recipe_goes_on(tmp_path):
    run = with_options(points_run(tmp_path / "run"), deadline=0.0)
    fit(run)
    facts = dict(checkpoints.load_latest(run.out).facts)
    del facts["recipe"]["export"]
    run.check_same(facts)
    other = replace(run, recipe=replace(run.recipe, export="best"))
    with pytest.raises(OtherRunError, match=r"recipe \(export\) differs"):
        other.check_same(facts)


def test_a_run_validated_on_other_data_is_another(tmp_path):
    run = points_run(tmp_path / "run")
    other = replace(run, validation=run.validation.take(slice(0, 100)))
    assert run.identity["validation_data"] == sha256(run.train)
    with pytest.raises(OtherRunError, match="its validation data differs"):
        other.check_same(run.identity)


def test_how_far_a_run_is(tmp_path):
    entry = vqvae_run(tmp_path / "run")
    assert not is_begun(entry.out)
    assert entry.progress == "autoencoder not begun, prior not begun"
    assert not fit_entry(vqvae_run(tmp_path / "run", deadline=0.0))
    assert is_begun(entry.out)
    assert entry.progress == "autoencoder begun, at step 1 of 6, prior not begun"
    assert fit_entry(entry)
    assert [run.progress for run in entry.runs] == ["trained", "trained"]
    assert entry.progress == "trained"
    assert points_run(tmp_path / "points").progress == "not begun"


def test_files_of_a_run_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path / "none")  # there is no bundled one
    name, data = "vqvae_gated_mnist", noise(4)
    with pytest.raises(CheckpointError, match="train vqvae_mnist first"):
        EntryRun.plan(small_info(name), recipe_of(name), (data, data), tmp_path / name)


def test_a_component_of_another_entry_is_that_of_its_run_or_the_bundled_one(tmp_path):
    name = "vqvae_gated_svhn"
    bundled = registry.model_info("vqvae_svhn").files["autoencoder"]
    entry = vqvae_run(tmp_path / name, name)
    assert entry.given == {"autoencoder": registry.WEIGHTS / bundled.name}
    plain = vqvae_run(tmp_path / "vqvae_svhn")
    assert fit_entry(plain)
    entry = vqvae_run(tmp_path / name, name)
    assert entry.given == {"autoencoder": plain.runs[0].file}
    assert [run.component for run in entry.runs] == ["prior"]
    assert entry.runs[0].given == entry.given


def test_a_run_is_planned_by_recipe_variants_and_settings(tmp_path, recipes):
    recipes.set("vqvae_svhn", short={"prior": {"epochs": 3}})
    recipe = recipe_of("vqvae_svhn", ("prior.lr=0.5",), ("short",))
    data = noise(4)
    entry = EntryRun.plan(small_info("vqvae_svhn"), recipe, (data, data), tmp_path / "run")
    assert [run.out.name for run in entry.runs] == ["autoencoder", "prior"]
    assert entry.runs[1].recipe.lr == 0.5
    assert entry.runs[1].given == {"autoencoder": entry.runs[0].file}
    for run in entry.runs:
        assert (run.variants, run.settings) == (("short",), ("prior.lr=0.5",))
    assert not entry.out.exists()  # nothing is written


def test_records_of_all_components():
    prior = {"component": "prior", "parts": {"autoencoder": {"component": "autoencoder"}}}
    assert list(records_of(prior)) == ["autoencoder", "prior"]
    assert records_of({"entry": "x"}) == {"model": {"entry": "x"}}


def test_an_autoencoder_goes_on_whatever_its_prior_is_to_be(tmp_path):
    first = vqvae_run(tmp_path / "run")
    for run in first.runs:
        run.out.mkdir()
    assert fit(first.runs[0])
    wider = {**first.info.config, "prior_channels": 8 + first.info.config["prior_channels"]}
    autoencoder, prior = (replace(run, info=replace(run.info, config=wider)) for run in first.runs)
    assert autoencoder.finished
    assert fit(prior)
    with pytest.raises(OtherRunError, match=r"its config \(prior_channels\) differs"):
        first.runs[1].check_same(read_record(prior.out))
    other = {**wider, "num_codes": 64}
    with pytest.raises(OtherRunError, match=r"its config \(num_codes\) differs"):
        replace(autoencoder, info=replace(first.info, config=other)).check_same(
            read_record(autoencoder.out)
        )
