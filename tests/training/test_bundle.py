"""Bundling the two entries that share an autoencoder, at their real size, trained for two steps."""

import shutil

import pytest
import torch

import lvmzoo
from lvmzoo import registry
from lvmzoo.registry import model_info
from training import cards, objectives, pictures, train
from training.bundle import bundle
from training.data import Split
from training.evaluate import evaluate
from training.recipe import read_recipe
from training.reproduce import compare
from training.trainer import Run

pytestmark = pytest.mark.slow

PLAIN, GATED = "vqvae_svhn", "vqvae_gated_svhn"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs of both entries with their evaluations, and of the plain one from another seed."""
    patch = pytest.MonkeyPatch()
    patch.setattr(objectives, "REVIVAL_IMAGES", 2)
    patch.setattr(pictures, "COLUMNS", 2)
    runs = tmp_path_factory.mktemp("runs")
    for name, folder, seed in ((PLAIN, PLAIN, 0), (GATED, GATED, 0), (PLAIN, "other", 1)):
        fit(name, runs / folder, seed)
    patch.undo()
    return runs


def noise():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (8, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Split(x, torch.arange(8), model_info(PLAIN).classes, "noise")


def fit(name, out, seed):
    data, info = noise(), model_info(name)
    settings = ["epochs=1", "batch_size=4", "augment=none", f"seed={seed}"]
    out.mkdir()
    run = Run(info, read_recipe(name, settings), data, data, out, "cpu", 1e9)
    assert train.fit_entry(run, settings)
    for split in ("validation", "test"):
        evaluate(info, out, data, split, out / "evaluation", train=data, pictures=split == "test")


@pytest.fixture
def empty(monkeypatch, tmp_path):
    """An empty zoo and a README with its table."""
    weights, model_cards = tmp_path / "weights", tmp_path / "model_cards"
    for folder in (weights, model_cards):
        folder.mkdir()
    (tmp_path / "README.md").write_text(f"before {cards.START}\n{cards.END} after\n")
    monkeypatch.setattr(registry, "WEIGHTS", weights)
    monkeypatch.setattr(cards, "ROOT", tmp_path)
    monkeypatch.setattr(cards, "CARDS", model_cards)
    return tmp_path


def test_two_entries_share_one_file(trained, empty):
    bundle(model_info(PLAIN), trained / PLAIN, None, None)
    beside = compare(trained / GATED, trained / PLAIN, PLAIN, 1)
    assert set(beside["terms"]) == {"bits_per_code", "nats_per_image"}
    bundle(model_info(GATED), trained / GATED, None, beside)
    names = {path.name for path in (empty / "weights").glob("*.safetensors")}
    assert names == {
        f"{PLAIN}.autoencoder.safetensors",
        f"{PLAIN}.prior.safetensors",
        f"{GATED}.prior.safetensors",
    }
    plain, gated = (lvmzoo.create_model(name, pretrained=True) for name in (PLAIN, GATED))
    codes = plain.encode(noise().x / 255)
    assert torch.equal(codes, gated.encode(noise().x / 255))
    assert not torch.equal(plain.code_log_prob(codes), gated.code_log_prob(codes))
    assert model_info(GATED).files["autoencoder"] == model_info(PLAIN).files["autoencoder"]
    text = (empty / "model_cards" / f"{GATED}.md").read_text()
    assert f"The autoencoder is that of `{PLAIN}`" in text
    assert "**This prior is short of its recipe: 1 epoch of 60.**" in text
    assert f"({GATED}_classes.png)" in text
    assert f"Beside `{PLAIN}` (the same codes, 1 epoch)" in text
    text = (empty / "model_cards" / f"{PLAIN}.md").read_text()
    assert "**This autoencoder is short of its recipe: 1 epoch of 200.**" in text
    table = (empty / "README.md").read_text()
    assert f"[`{GATED}`](model_cards/{GATED}.md)" in table
    assert table.startswith("before")
    assert table.endswith("after\n")


def test_an_entry_whose_autoencoder_is_replaced_has_no_weights_any_more(trained, empty, capsys):
    bundle(model_info(PLAIN), trained / PLAIN, None, None)
    bundle(model_info(GATED), trained / GATED, None, None)
    bundle(model_info(PLAIN), trained / PLAIN, None, None)  # the same again changes nothing
    assert model_info(GATED).pretrained
    bundle(model_info(PLAIN), trained / "other", None, None)
    assert f"{GATED} has no weights any more" in capsys.readouterr().out
    assert not model_info(GATED).pretrained
    assert not (empty / "weights" / f"{GATED}.prior.safetensors").exists()
    with pytest.raises(ValueError, match=f"another autoencoder than {PLAIN}"):
        bundle(model_info(GATED), trained / GATED, None, None)


def test_the_shared_part_comes_first(trained, empty):
    with pytest.raises(ValueError, match=f"bundle {PLAIN} first|another autoencoder"):
        bundle(model_info(GATED), trained / GATED, None, None)
    assert not list((empty / "weights").iterdir())


def test_figures_of_other_bytes_are_refused(trained, empty, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained / PLAIN, run)
    other = (trained / "other" / "prior.safetensors").read_bytes()
    (run / "prior.safetensors").write_bytes(other)
    with pytest.raises(ValueError, match="measured on other weights"):
        bundle(model_info(PLAIN), run, None, None)
