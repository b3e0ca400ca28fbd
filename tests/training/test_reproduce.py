import hashlib
import json
import shutil
import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_train_vqvae import make

import lvmzoo
from lvmzoo import CheckpointError, list_models, registry
from lvmzoo.registry import model_info
from training import cards, check, recipe, reproduce, train
from training.data import DataError
from training.trainer import Run

POINTS = "vae2d_gaussian1"


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A zoo without weights, and recipes that are soon through."""
    for module, name in ((registry, "WEIGHTS"), (cards, "CARDS")):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(module, name, tmp_path / name)
    monkeypatch.setattr(cards, "update_readme", lambda: None)
    monkeypatch.setattr(recipe, "_read", short)
    return reproduce.Workshop(tmp_path, tmp_path / "runs", "cpu")


def short(name):
    table = tomllib.loads(recipe.recipe_path(name).read_text())
    for part in [table, *(table[c] for c in recipe.KINDS if isinstance(table.get(c), dict))]:
        part |= {k: v for k, v in {"epochs": 2, "revive_every": 1}.items() if k in part}
    if table.get("batch_size") == 250:
        table["batch_size"] = 1000
    return table


def run_command(shop, *arguments):
    options = ["--runs", str(shop.runs), "--data", str(shop.data), "--device", "cpu"]
    return CliRunner().invoke(reproduce.main, [*arguments, *options])


def test_an_entry_is_reproduced_checked_and_its_code_accepted(shop, monkeypatch):
    result = run_command(shop, POINTS)
    assert result.exit_code == 0, result.output
    path = cards.CARDS / f"{POINTS}.json"
    record = json.loads(path.read_text())
    assert len(record["run"]["first_losses"]) == 20
    assert lvmzoo.from_pretrained(POINTS).origin.sha256 == record["test"]["weights"]
    assert run_command(shop, POINTS, "--check").output == f"{POINTS}: agrees with its record\n"

    monkeypatch.setattr(train, "fit", None)  # what is up to date is not trained again
    before = path.read_bytes()
    reproduce.reproduce(model_info(POINTS), shop)
    assert path.read_bytes() == before


def test_an_entry_is_up_to_date_without_a_run(shop, monkeypatch):
    reproduce.reproduce(model_info(POINTS), shop)
    shutil.rmtree(shop.runs)
    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", None)
        assert run_command(shop, POINTS).output == f"{POINTS}: complete\n"
    assert not shop.runs.exists()
    reproduce._evaluated(model_info(POINTS), shop, shop.runs / POINTS, "test")  # bundled weights
    assert not reproduce._begun(shop.runs / POINTS)
    path = cards.CARDS / f"{POINTS}.json"
    record = json.loads(path.read_text())
    for change in ({"code": "0"}, {"data": "0"}, {"recipe": {}}):
        path.write_text(json.dumps(record | {"run": record["run"] | change}))
        assert not check.up_to_date(model_info(POINTS), shop.data)


def test_a_short_recipe_is_followed_until_there_is_time_for_the_whole(shop, monkeypatch):
    monkeypatch.setattr(recipe, "_read", lambda name: short(name) | {"short": {"epochs": 1}})
    result = run_command(shop, POINTS, "--short")
    assert result.exit_code == 0, result.output
    card = cards.CARDS / f"{POINTS}.md"
    assert "short of its recipe: 1 epoch of 2" in card.read_text()
    assert f"python -m training.train {POINTS} --short\n" in card.read_text()
    assert run_command(shop, POINTS, "--check").output == f"{POINTS}: agrees with its record\n"

    assert check.up_to_date(model_info(POINTS), shop.data, ["short"])
    result = run_command(shop, POINTS)
    assert result.exit_code == 1
    assert "recipe (epochs) differs" in result.output
    shutil.rmtree(shop.runs)
    assert run_command(shop, POINTS).exit_code == 0
    assert "short of its recipe" not in card.read_text()
    assert run_command(shop, POINTS, "--check").output == f"{POINTS}: agrees with its record\n"
    for option in (["--short"], ["--compile"], ["--time-limit", "1s"]):
        result = run_command(shop, POINTS, "--check", *option)
        assert result.exit_code == 2
        assert f"{option[0]} is for making entries, not for checking them" in result.output


def test_what_does_not_agree_is_found_and_not_accepted(shop, monkeypatch):
    reproduce.reproduce(model_info(POINTS), shop)
    path = cards.CARDS / f"{POINTS}.json"
    good = json.loads(path.read_text())
    monkeypatch.setattr(check, "_retrained", lambda *args: iter(()))

    def recorded(**change):
        path.write_text(json.dumps(good | {"run": good["run"] | change}))

    recorded(code="0")
    result = run_command(shop, POINTS, "--check")
    assert result.exit_code == 1
    assert "the code of the model is not the run's" in result.output
    assert run_command(shop, POINTS, "--accept-code").exit_code == 0
    assert json.loads(path.read_text()) == good

    losses = good["run"]["first_losses"]
    recorded(code="0", first_losses=[*losses[:-1], losses[-1] * 1.01])
    before = path.read_bytes()
    for option in ("--check", "--accept-code"):
        result = run_command(shop, POINTS, option)
        assert result.exit_code == 1
        assert "the loss at step 20 is" in result.output
    recorded(data="0" * 64)
    assert "training data are not the run's" in run_command(shop, POINTS, "--check").output
    assert before != path.read_bytes()

    run = shop.runs / POINTS / "run.json"
    run.write_text(json.dumps(json.loads(run.read_text()) | {"code": "0"}))
    result = run_command(shop, POINTS)
    assert result.exit_code == 1
    assert "the code of the model has changed since it was trained" in result.output


def test_when_the_time_is_up_it_says_how_far_it_is(shop):
    out = shop.runs / POINTS
    splits = train.load_training_data(model_info(POINTS), recipe.read_recipe(POINTS), out, None)
    out.mkdir(parents=True)
    run = Run(model_info(POINTS), recipe.read_recipe(POINTS), *splits, out, "cpu", deadline=0.0)
    assert not train.fit(run)
    result = run_command(shop, "vae2d_gaussian2", POINTS, "--time-limit", "0s")
    assert result.exit_code == 0
    assert f"{POINTS}: at step 1\nvae2d_gaussian2: not begun\n" in result.output


@pytest.fixture
def small_vqvae(shop, monkeypatch):
    """VQ-VAEs that are small, on twelve images of noise."""

    def info_of(name):
        return make(shop.data / "unused", name)[0].info

    data = make(shop.data / "unused")[0].train
    monkeypatch.setattr(train, "load_training_data", lambda *args: (data, data))
    tables = recipe._read

    def tiny(name):
        table = tables(name)
        for part in recipe.KINDS:
            if isinstance(table.get(part), dict):
                table[part] |= {"batch_size": 4}
        return table

    monkeypatch.setattr(recipe, "_read", tiny)
    return info_of


def test_a_vqvae_is_trained_in_its_components_and_shared(shop, small_vqvae):
    gated = small_vqvae("vqvae_gated_svhn")
    with pytest.raises(CheckpointError, match="train vqvae_svhn first"):
        reproduce._trained(gated, shop)
    assert not shop.runs.exists()
    assert reproduce.progress(shop.runs / "vqvae_svhn") == "not begun"
    out = reproduce._trained(small_vqvae("vqvae_svhn"), shop)
    beside = reproduce._trained(gated, shop)
    record, other = (train.read_run(folder) for folder in (out, beside))
    assert len(record["first_losses"]) == len(other["first_losses"]) == 6
    assert record["first_losses"] != record["parts"]["autoencoder"]["first_losses"]
    assert other["parts"]["autoencoder"] == record["parts"]["autoencoder"]
    assert record["code"] == other["code"]
    assert reproduce.progress(out) == "trained"
    (out / "run.json").unlink()
    (out / "prior/run.json").unlink()
    assert reproduce.progress(out) == "autoencoder finished, prior at step 6"
    assert reproduce._trained(small_vqvae("vqvae_svhn"), shop) == out
    assert train.read_run(out)["first_losses"] == record["first_losses"]


def test_of_bundled_components_only_what_has_changed_is_trained_again(
    shop, small_vqvae, monkeypatch
):
    info = small_vqvae("vqvae_svhn")
    out = reproduce._trained(info, shop)
    record = train.read_run(out)
    (cards.CARDS / "vqvae_svhn.json").write_text(json.dumps({"run": record}))
    files = {}
    for component in ("autoencoder", "prior"):
        data = (out / f"{component}.safetensors").read_bytes()
        name, digest = f"vqvae_svhn.{component}.safetensors", hashlib.sha256(data).hexdigest()
        files[component] = registry.WeightsFile(name, digest, len(data), "float16")
        (registry.WEIGHTS / name).write_bytes(data)
    info = replace(info, files=files)
    shutil.rmtree(shop.runs)
    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", None)
        assert train.read_run(reproduce._trained(info, shop)) == record
    assert (out / "prior.safetensors").read_bytes() == data

    shutil.rmtree(shop.runs)
    tables = recipe._read

    def changed(name):
        table = tables(name)
        table["prior"]["lr"] = 0.01
        return table

    monkeypatch.setattr(recipe, "_read", changed)
    again = train.read_run(reproduce._trained(info, shop))
    assert not (out / "autoencoder/log.jsonl").exists()
    assert again["parts"] == record["parts"]
    assert again["given"] == record["given"]
    assert again["recipe"]["lr"] == 0.01
    assert check.made_by("vqvae_svhn", {"run": again}) == ()
    again["parts"]["autoencoder"]["recipe"]["epochs"] = 1  # the prior's is whole
    assert check.made_by("vqvae_svhn", {"run": again}) == ("short",)
    assert (out / "prior.safetensors").read_bytes() != data


def test_a_card_that_compares_with_figures_of_yesterday_is_out_of_date(shop):
    for name in (POINTS, "vae2d_gaussian2"):
        reproduce.reproduce(model_info(name), shop)
    path = cards.CARDS / f"{POINTS}.json"
    record = json.loads(path.read_text())
    elbo = cards.read_record("vae2d_gaussian2")["test"]["metrics"]["elbo"]
    for other, found in ((elbo, ""), (elbo - 0.1, "whose elbo was")):
        term = {"other": other, "difference": 0.1, "standard_error": 0.1}
        beside = {"entry": "vae2d_gaussian2", "epochs": 2, "terms": {"elbo": term}}
        path.write_text(json.dumps(record | {"comparison": beside}))
        cards.write_card(POINTS)
        assert check.up_to_date(model_info(POINTS), shop.data) == (not found)
        output = run_command(shop, POINTS, "--check").output
        assert (found or "agrees with its record") in output

    # Its files stand for the run; what is made anew is figures and card.
    shutil.rmtree(shop.runs)
    result = run_command(shop, POINTS)
    assert result.exit_code == 0, result.output
    assert not (shop.runs / POINTS / "log.jsonl").exists()
    assert json.loads(path.read_text()) == record


def test_entries_come_after_those_they_need():
    names = [info.name for info in reproduce.in_order(list_models())]
    assert sorted(names) == list_models()
    for name in names:
        needed = [*recipe.shared_components(name).values(), recipe.card_notes(name).compare_with]
        assert all(names.index(other) < names.index(name) for other in needed if other)
    datasets = [model_info(name).dataset for name in names]
    assert sum(a != b for a, b in pairwise(datasets)) == 4


def test_absent_data_are_skipped_only_where_everything_is_checked(monkeypatch):
    def absent(info, data):
        raise DataError("no data")

    infos = [model_info("vae_mnist")]
    with pytest.raises(DataError):
        reproduce._verify_all(infos, Path(), absent, skip=False)
    reproduce._verify_all(infos, Path(), absent, skip=True)
