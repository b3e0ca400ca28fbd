"""Making entries again: only what is not up to date, in as many calls as it takes."""

import hashlib
import shutil
from dataclasses import replace
from itertools import pairwise

import pytest
from click.testing import CliRunner
from support.runs import noise, recipe_of, small_info

import lvmzoo
import training.data
from lvmzoo import CheckpointError, list_models, registry
from lvmzoo.registry import model_info
from training import train
from training.data import DataError
from training.evaluate import evaluate
from training.release import records, reproduce
from training.run import is_begun, read_run

POINTS = "vae2d_gaussian1"


def run_command(space, *arguments):
    options = ["--runs", str(space.runs), "--data", str(space.data), "--device", "cpu"]
    return CliRunner().invoke(reproduce.main, [*arguments, *options])


def works(space, *arguments):
    result = run_command(space, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def without_a_metric(name):
    """Let the record of an entry lack a figure that its family knows; return what it was."""
    record = records.read_record(name)
    test = replace(record.test, known_metrics=record.test.known_metrics[1:])
    records.write_record(name, replace(record, test=test))
    return record


def test_an_entry_is_reproduced_and_checked(space, monkeypatch):
    works(space, POINTS)
    path, record = records.CARDS / f"{POINTS}.json", records.read_record(POINTS)
    assert len(record.run.first_losses) == 20
    assert lvmzoo.from_pretrained(POINTS).origin.sha256 == record.test.weights
    assert works(space, POINTS, "--check") == f"{POINTS}: agrees with its record\n"
    assert f"[`{POINTS}`](model_cards/{POINTS}.md)" in (records.ROOT / "README.md").read_text()

    monkeypatch.setattr(train, "fit", None)  # what is up to date is not trained again
    before = path.read_bytes()
    reproduce.reproduce(model_info(POINTS), space)
    assert path.read_bytes() == before
    shutil.rmtree(space.runs)
    assert works(space, POINTS) == f"{POINTS}: complete\n"
    assert not space.runs.exists()
    # An evaluation of the bundled weights does not begin a run.
    info, data = model_info(POINTS), training.data.load_split("gaussian1", "test", space.data)
    evaluate(info, None, data, "test", space.runs / POINTS / "evaluation", full=False)
    assert not is_begun(space.plan(info).out)


def test_an_entry_with_a_plain_recipe_is_compared_with_it(space, recipes, monkeypatch):
    plain = {"lr": 1e-3, "schedule": "constant", "ema_decay": 0.0}
    recipes[POINTS] = lambda table: table.update(baseline=plain)
    works(space, POINTS)
    runs = [read_run(space.runs / f"{POINTS}{end}") for end in ("", ".baseline")]
    assert [run.variants for run in runs] == [[], ["baseline"]]
    assert [run.recipe["epochs"] for run in runs] == [2, 2]
    figures = records.read_record(POINTS).baseline.validation.metrics
    text = (records.CARDS / f"{POINTS}.md").read_text()
    assert "Compared with the plain recipe" in text
    assert f"{figures['elbo']:.4f} |" in text

    # For figures that are new, the plain recipe's run on record will do, while it is its run.
    shutil.rmtree(space.runs)
    whole = without_a_metric(POINTS)
    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", None)
        works(space, POINTS)
    assert records.read_record(POINTS) == whole
    plain["lr"] = 5e-4
    without_a_metric(POINTS)
    shutil.rmtree(space.runs)
    works(space, POINTS)
    assert records.read_record(POINTS).baseline.run.recipe["lr"] == 5e-4


def test_when_the_time_is_up_it_says_how_far_it_is(space):
    options = ["--set", "epochs=2", "--set", "batch_size=1000", "--device", "cpu"]
    arguments = [POINTS, "--out", str(space.runs / POINTS), "--time-limit", "0s", *options]
    train.main(arguments, standalone_mode=False)
    output = works(space, "vae2d_gaussian2", POINTS, "--time-limit", "0s")
    left = f"{POINTS}, vae2d_gaussian2"
    assert output.endswith(f"the time is up; the same command goes on with {left}\n")


@pytest.fixture
def noisy(space, recipes, monkeypatch, few_revival_images):
    """Twelve images of noise in place of SVHN, four in a batch."""

    class Noise:
        def load(self, data, split, root):
            return noise(12, data.classes)

    readers = {**training.data.READERS, "svhn": Noise()}
    monkeypatch.setattr(training.data, "READERS", readers)
    shorten = recipes["*"]

    def small_batches(table):
        shorten(table)
        for part in ("autoencoder", "prior"):
            if isinstance(table.get(part), dict):
                table[part]["batch_size"] = 4

    recipes["*"] = small_batches


def make(name, space):
    """Make a small VQ-VAE; return the record of its run."""
    reproduce.reproduce(small_info(name), space)
    return read_run(space.runs / name)


def test_a_vqvae_is_trained_in_its_components_and_shared(space, noisy):
    with pytest.raises(CheckpointError, match="train vqvae_svhn first"):
        make("vqvae_gated_svhn", space)
    assert not space.runs.exists()
    plain, gated = make("vqvae_svhn", space), make("vqvae_gated_svhn", space)
    assert len(plain.first_losses) == len(gated.first_losses) == 6
    assert plain.first_losses != plain.parts["autoencoder"].first_losses
    assert gated.parts["autoencoder"] == plain.parts["autoencoder"]
    comparison = records.read_record("vqvae_gated_svhn").comparison
    assert (comparison.entry, comparison.epochs) == ("vqvae_svhn", 2)
    assert set(comparison.terms) == {"bits_per_code", "nats_per_image"}
    # A component whose run is gone is trained again.
    (space.runs / "vqvae_svhn/run.json").unlink()
    (space.runs / "vqvae_svhn/prior/run.json").unlink()
    assert make("vqvae_svhn", space).first_losses == plain.first_losses


def test_of_bundled_components_only_what_has_changed_is_trained_again(
    space, noisy, recipes, monkeypatch
):
    name = "vqvae_svhn"
    out, record = space.runs / name, make(name, space)
    prior, bundled = (out / "prior.safetensors").read_bytes(), model_info(name).files["prior"]
    assert hashlib.sha256(prior).hexdigest() == bundled.sha256
    assert (registry.WEIGHTS / bundled.name).read_bytes() == prior
    shutil.rmtree(space.runs)
    whole = without_a_metric(name)
    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", None)  # only figures and card are made anew
        assert make(name, space) == record
    assert records.read_record(name) == whole
    assert (out / "prior.safetensors").read_bytes() == prior

    shutil.rmtree(space.runs)
    recipes[name] = lambda table: table["prior"].update(lr=0.01)
    again = make(name, space)
    assert not (out / "autoencoder/log.jsonl").exists()
    assert (again.parts, again.given) == (record.parts, record.given)
    assert again.recipe["lr"] == 0.01
    assert (out / "prior.safetensors").read_bytes() != prior


def test_paired_differences(tmp_path):
    info = model_info("vae_cifar10")
    split, measured = noise(20, info.classes), []
    for name in ("a", "b"):
        lvmzoo.create_model("vae_cifar10").save_pretrained(tmp_path / name)
        out = tmp_path / name / "evaluation"
        measured.append(evaluate(info, tmp_path / name, split, "test", out, full=False).metrics)
    term = reproduce.paired_terms(tmp_path / "a", tmp_path / "b")["elbo"]
    one, other = (metrics["elbo"] for metrics in measured)
    assert (term.difference, term.other) == pytest.approx((one - other, other))
    assert term.standard_error > 0
    assert reproduce.paired_terms(tmp_path / "a", tmp_path / "a") == {}


def test_entries_come_after_those_they_need():
    names = [info.name for info in reproduce.in_order(list_models())]
    assert sorted(names) == list_models()
    for name in names:
        recipe = recipe_of(name)
        others = [*recipe.shared.values(), recipe.compare_with]
        assert all(names.index(other) < names.index(name) for other in others if other)
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
