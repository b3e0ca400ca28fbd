"""Making entries again: only what is not up to date, in as many calls as it takes."""

import hashlib
import shutil
from itertools import pairwise

import pytest
from click.testing import CliRunner
from support.runs import noise, recipe_of, small_info

import lvmzoo
import training.data
import training.train
from lvmzoo import CheckpointError, list_models, registry
from lvmzoo.registry import model_info
from training import loop
from training.data import DataError
from training.evaluate import evaluate
from training.release import check, records, reproduce
from training.run import is_begun, read_record

POINTS = "vae2d_gaussian1"


def run_command(shop, *arguments):
    options = ["--runs", str(shop.runs), "--data", str(shop.data), "--device", "cpu"]
    return CliRunner().invoke(reproduce.main, [*arguments, *options])


def up_to_date(shop, name=POINTS, variants=()):
    return check.up_to_date(check.bundled_run(model_info(name), shop.data, variants))


def test_an_entry_is_reproduced_and_checked(shop, monkeypatch):
    result = run_command(shop, POINTS)
    assert result.exit_code == 0, result.output
    path = records.CARDS / f"{POINTS}.json"
    record = records.read_record(POINTS)
    assert len(record["run"]["first_losses"]) == 20
    assert lvmzoo.from_pretrained(POINTS).origin.sha256 == record["test"]["weights"]
    assert run_command(shop, POINTS, "--check").output == f"{POINTS}: agrees with its record\n"
    assert f"[`{POINTS}`](model_cards/{POINTS}.md)" in (records.ROOT / "README.md").read_text()

    monkeypatch.setattr(loop, "fit", None)  # what is up to date is not trained again
    before = path.read_bytes()
    reproduce.reproduce(model_info(POINTS), shop)
    assert path.read_bytes() == before


def test_an_entry_is_up_to_date_without_a_run(shop, monkeypatch):
    reproduce.reproduce(model_info(POINTS), shop)
    shutil.rmtree(shop.runs)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "fit", None)
        assert run_command(shop, POINTS).output == f"{POINTS}: complete\n"
    assert not shop.runs.exists()
    # An evaluation of the bundled weights does not begin a run.
    info, data = model_info(POINTS), training.data.load_split("gaussian1", "test", shop.data)
    evaluate(info, None, data, "test", shop.runs / POINTS / "evaluation", full=False)
    assert not is_begun(shop.plan(info).out)
    record = records.read_record(POINTS)
    assert up_to_date(shop)
    for change in ({"data": "0"}, {"recipe": {}}):
        records.write_record(POINTS, record | {"run": record["run"] | change})
        assert not up_to_date(shop)


def test_a_short_recipe_is_followed_until_there_is_time_for_the_whole(shop, recipes):
    recipes.set(POINTS, short={"epochs": 1})
    result = run_command(shop, POINTS, "--short")
    assert result.exit_code == 0, result.output
    card = records.CARDS / f"{POINTS}.md"
    assert "short of its recipe: 1 epoch of 2" in card.read_text()
    assert f"python -m training.train {POINTS} --short\n" in card.read_text()
    assert run_command(shop, POINTS, "--check").output == f"{POINTS}: agrees with its record\n"

    assert up_to_date(shop, variants=["short"])
    assert not up_to_date(shop)
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


def test_an_entry_with_a_plain_recipe_is_compared_with_it(shop, recipes, monkeypatch):
    recipes.set(POINTS, baseline={"lr": 1e-3, "schedule": "constant", "ema_decay": 0.0})
    result = run_command(shop, POINTS)
    assert result.exit_code == 0, result.output
    record, plain = (read_record(shop.runs / f"{POINTS}{end}") for end in ("", ".baseline"))
    assert plain["variants"] == ["baseline"]
    assert plain["recipe"]["epochs"] == record["recipe"]["epochs"] == 2
    figures = records.read_record(POINTS)["baseline"]["validation"]["metrics"]
    text = (records.CARDS / f"{POINTS}.md").read_text()
    assert "Beside the plain recipe" in text
    assert f"{figures['elbo']:.4f} |" in text

    # For figures that are new, the plain recipe's run on record will do, while it is its run.
    shutil.rmtree(shop.runs)
    whole = records.read_record(POINTS)
    test = whole["test"] | {"known_metrics": whole["test"]["known_metrics"][1:]}
    records.write_record(POINTS, whole | {"test": test})
    with monkeypatch.context() as patch:
        patch.setattr(loop, "fit", None)
        assert run_command(shop, POINTS).exit_code == 0
    assert records.read_record(POINTS) == whole
    recipes.set(POINTS, baseline={"lr": 5e-4, "schedule": "constant", "ema_decay": 0.0})
    records.write_record(POINTS, whole | {"test": test})
    shutil.rmtree(shop.runs)
    assert run_command(shop, POINTS).exit_code == 0
    assert records.read_record(POINTS)["baseline"]["run"]["recipe"]["lr"] == 5e-4


def test_when_the_time_is_up_it_says_how_far_it_is(shop):
    entry = shop.plan(model_info(POINTS))
    entry.out.mkdir(parents=True)
    options = ["--set", "epochs=2", "--set", "batch_size=1000", "--device", "cpu"]
    arguments = [POINTS, "--out", str(entry.out), "--time-limit", "0s", "--resume", *options]
    training.train.main(arguments, standalone_mode=False)
    result = run_command(shop, "vae2d_gaussian2", POINTS, "--time-limit", "0s")
    assert result.exit_code == 0
    lines = f"{POINTS}: begun, at step 1 of 20\nvae2d_gaussian2: not begun\n"
    assert lines in result.output
    assert result.output.endswith("the time is up; the same command goes on\n")


@pytest.fixture
def noisy(shop, recipes, monkeypatch, few_revival_images):
    """Twelve images of noise in place of SVHN, four in a batch."""

    class Noise:
        def load(self, data, split, root):
            return noise(12, data.classes)

    readers = {**training.data.READERS, "svhn": Noise()}
    monkeypatch.setattr(training.data, "READERS", readers)

    def small_batches(table):
        for part in ("autoencoder", "prior"):
            if isinstance(table.get(part), dict):
                table[part]["batch_size"] = 4

    recipes.edit_all(small_batches)


def make(name, shop):
    """Make a small VQ-VAE; return the record of its run."""
    reproduce.reproduce(small_info(name), shop)
    return read_record(shop.runs / name)


def test_a_vqvae_is_trained_in_its_components_and_shared(shop, noisy):
    with pytest.raises(CheckpointError, match="train vqvae_svhn first"):
        make("vqvae_gated_svhn", shop)
    assert not shop.runs.exists()
    out, info = shop.runs / "vqvae_svhn", small_info("vqvae_svhn")
    assert shop.plan(info).progress == "autoencoder not begun, prior not begun"
    record = make("vqvae_svhn", shop)
    other = make("vqvae_gated_svhn", shop)
    assert len(record["first_losses"]) == len(other["first_losses"]) == 6
    assert record["first_losses"] != record["parts"]["autoencoder"]["first_losses"]
    assert other["parts"]["autoencoder"] == record["parts"]["autoencoder"]
    beside = records.read_record("vqvae_gated_svhn")["comparison"]
    assert (beside["entry"], beside["epochs"]) == ("vqvae_svhn", 2)
    assert set(beside["terms"]) == {"bits_per_code", "nats_per_image"}
    assert shop.plan(info).progress == "measured"
    shutil.rmtree(out / "evaluation")
    assert shop.plan(info).progress == "trained"
    (out / "run.json").unlink()
    (out / "prior/run.json").unlink()
    assert shop.plan(info).progress == "autoencoder trained, prior begun, at step 6 of 6"
    assert make("vqvae_svhn", shop)["first_losses"] == record["first_losses"]


def test_of_bundled_components_only_what_has_changed_is_trained_again(
    shop, noisy, recipes, monkeypatch
):
    name = "vqvae_svhn"
    out, record = shop.runs / name, make(name, shop)
    prior = (out / "prior.safetensors").read_bytes()
    bundled = model_info(name).files["prior"]
    assert hashlib.sha256(prior).hexdigest() == bundled.sha256
    assert (registry.WEIGHTS / bundled.name).read_bytes() == prior
    shutil.rmtree(shop.runs)
    whole = records.read_record(name)
    test = whole["test"] | {"known_metrics": whole["test"]["known_metrics"][1:]}
    records.write_record(name, whole | {"test": test})
    with monkeypatch.context() as patch:
        patch.setattr(loop, "fit", None)  # only figures and card are made anew
        assert make(name, shop) == record
    assert records.read_record(name) == whole
    assert (out / "prior.safetensors").read_bytes() == prior

    shutil.rmtree(shop.runs)
    recipes.edit(name, lambda table: table["prior"].update(lr=0.01))
    again = make(name, shop)
    assert not (out / "autoencoder/log.jsonl").exists()
    assert again["parts"] == record["parts"]
    assert again["given"] == record["given"]
    assert again["recipe"]["lr"] == 0.01
    assert (out / "prior.safetensors").read_bytes() != prior


def test_paired_differences(tmp_path):
    split, info = noise(20, model_info("vae_cifar10").classes), model_info("vae_cifar10")
    measured = []
    for name in ("a", "b"):
        lvmzoo.create_model("vae_cifar10").save_pretrained(tmp_path / name)
        out = tmp_path / name / "evaluation"
        result = evaluate(info, tmp_path / name, split, "test", out, full=False)
        measured.append(result["metrics"])
    terms = reproduce.compare(tmp_path / "a", tmp_path / "b")
    one, other = measured
    assert terms["elbo"]["difference"] == pytest.approx(one["elbo"] - other["elbo"])
    assert terms["elbo"]["other"] == pytest.approx(other["elbo"])
    assert terms["elbo"]["standard_error"] > 0
    assert reproduce.compare(tmp_path / "a", tmp_path / "a") == {}


def test_entries_come_after_those_they_need():
    names = [info.name for info in reproduce.in_order(list_models())]
    assert sorted(names) == list_models()
    for name in names:
        recipe = recipe_of(name)
        needed = [*recipe.shared.values(), recipe.compare_with]
        assert all(names.index(other) < names.index(name) for other in needed if other)
    datasets = [model_info(name).dataset for name in names]
    assert sum(a != b for a, b in pairwise(datasets)) == 5


def test_absent_data_are_skipped_only_where_everything_is_checked(monkeypatch):
    def absent(info, data):
        raise DataError("no data")

    monkeypatch.setattr(reproduce, "check", absent)
    result = CliRunner().invoke(reproduce.main, ["vae_mnist", "--check"])
    assert result.exit_code == 1
    assert "Error: no data" in result.output
    result = CliRunner().invoke(reproduce.main, ["--all", "--check"])
    assert result.exit_code == 0
    assert "vae_mnist: skipped, no data\n" in result.output
