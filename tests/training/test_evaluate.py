"""The command `training.evaluate`, and what it takes in."""

import json

import pytest
from click.testing import CliRunner
from support.runs import noise

import lvmzoo
from training import evaluate, samples
from training.families.variational import VariationalFamily
from training.records import Evaluation, read_record
from training.release import records

POINTS = lvmzoo.list_models("vae2d_*", pretrained=True)


def command(*arguments):
    result = CliRunner().invoke(evaluate.main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", POINTS)
def test_the_command_measures_what_is_recorded(tmp_path, name):
    result = command(name, "--out", tmp_path)
    recorded = records.read_record(name).test
    assert result["weights"] == recorded.weights
    assert result["metrics"] == pytest.approx(recorded.metrics, abs=1e-4)
    assert result["known_metrics"] == sorted(result["metrics"])
    assert result["first"]["examples"] == 1000
    assert (tmp_path / f"{name}_samples.png").stat().st_size > 1000


@pytest.mark.parametrize("name", POINTS)
def test_the_gap_is_small_and_no_bug(name):
    metrics = lvmzoo.model_info(name).metrics
    assert -3 * metrics["gap_se"] <= metrics["gap"] <= 0.05


@pytest.fixture
def quick_classifier(tmp_path, monkeypatch):
    """A classifier of SVHN that is soon trained."""
    (tmp_path / "svhn.toml").write_text("epochs = 1\nwidth = 2\nbatch_size = 8\n")
    monkeypatch.setattr(samples, "RECIPES", tmp_path)


@pytest.mark.usefixtures("quick_classifier")
def test_samples_are_among_what_is_costly(tmp_path, monkeypatch):
    monkeypatch.setattr(VariationalFamily, "importance_samples", 1)
    info = lvmzoo.model_info("vae_svhn")
    data = noise(20, info.classes)
    lvmzoo.create_model(info.name).save_pretrained(tmp_path / "run")
    arguments = info, tmp_path / "run", data, "test", tmp_path / "run/evaluation"
    kept = tmp_path / "classifiers"

    quick = evaluate.evaluate(*arguments, full=False, train=data, classifiers=kept)
    assert not kept.exists()
    assert quick.samples is None
    assert "frechet" not in quick.known_metrics
    assert evaluate.evaluate(*arguments, train=data).samples is None

    result = evaluate.evaluate(*arguments, train=data, classifiers=kept)
    assert [path.name[:5] for path in kept.iterdir()] == ["svhn-"]
    assert result.samples.images == 20
    assert "frechet" in result.known_metrics
    assert quick.first == result.first
    assert read_record(Evaluation, tmp_path / "run/evaluation/metrics.test.json") == result
