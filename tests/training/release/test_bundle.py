"""Bundling the two entries that share an autoencoder, at their real size, trained for two steps."""

import shutil
from dataclasses import replace

import pytest
import torch
from support.runs import NEVER, noise, recipe_of

import lvmzoo
from lvmzoo.registry import model_info
from training.data import Split
from training.evaluate import evaluate
from training.families import images, vqvae
from training.loop import fit_entry
from training.release.bundle import bundle
from training.release.reproduce import compare
from training.run import EntryRun, Options

pytestmark = pytest.mark.slow

PLAIN, GATED = "vqvae_svhn", "vqvae_gated_svhn"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs of both entries with their evaluations, and of the plain one from another seed."""
    patch = pytest.MonkeyPatch()
    patch.setattr(vqvae, "REVIVAL_IMAGES", 2)
    patch.setattr(images, "COLUMNS", 2)
    runs = tmp_path_factory.mktemp("runs")
    planned = {
        name: fit(name, runs / folder / name, seed)
        for name, folder, seed in ((PLAIN, "own", 0), (GATED, "own", 0))
    }
    planned["other"] = fit(PLAIN, runs / "other" / PLAIN, 1)
    patch.undo()
    return planned


def data():
    return Split(noise(8).x, torch.arange(8), model_info(PLAIN).classes, "noise")


def fit(name, out, seed):
    split, info = data(), model_info(name)
    settings = ("epochs=1", "batch_size=4", "augment=none", f"seed={seed}")
    out.mkdir(parents=True)
    options = Options("cpu", checkpoint_every=NEVER)
    entry = EntryRun.plan(info, recipe_of(name, settings), (split, split), out, options)
    assert fit_entry(entry)
    for part in ("validation", "test"):
        evaluate(info, out, split, part, out / "evaluation", train=split, full=part == "test")
    return entry


def test_two_entries_share_one_file(trained, empty):
    bundle(trained[PLAIN], None, None)
    beside = {"entry": PLAIN, "epochs": 1}
    beside["terms"] = compare(trained[GATED].out, trained[PLAIN].out)
    assert set(beside["terms"]) == {"bits_per_code", "nats_per_image"}
    bundle(trained[GATED], None, beside)
    names = {path.name for path in (empty / "weights").glob("*.safetensors")}
    assert names == {
        f"{PLAIN}.autoencoder.safetensors",
        f"{PLAIN}.prior.safetensors",
        f"{GATED}.prior.safetensors",
    }
    plain, gated = (lvmzoo.create_model(name, pretrained=True) for name in (PLAIN, GATED))
    codes = plain.encode(data().x / 255)
    assert torch.equal(codes, gated.encode(data().x / 255))
    assert not torch.equal(plain.code_log_prob(codes), gated.code_log_prob(codes))
    assert model_info(GATED).files["autoencoder"] == model_info(PLAIN).files["autoencoder"]
    text = (empty / "model_cards" / f"{GATED}.md").read_text()
    assert f"The autoencoder is that of `{PLAIN}`" in text
    whole = recipe_of(GATED).components["prior"].epochs
    assert f"**This prior is short of its recipe: 1 epoch of {whole}.**" in text
    assert f"({GATED}_classes.png)" in text
    assert f"Beside `{PLAIN}` (the same codes, 1 epoch)" in text
    text = (empty / "model_cards" / f"{PLAIN}.md").read_text()
    whole = recipe_of(PLAIN).components["autoencoder"].epochs
    assert f"**This autoencoder is short of its recipe: 1 epoch of {whole}.**" in text
    table = (empty / "README.md").read_text()
    assert f"[`{GATED}`](model_cards/{GATED}.md)" in table
    assert table.startswith("before")
    assert table.endswith("after\n")


def test_an_entry_whose_autoencoder_is_replaced_has_no_weights_any_more(trained, empty, capsys):
    bundle(trained[PLAIN], None, None)
    bundle(trained[GATED], None, None)
    bundle(trained[PLAIN], None, None)  # the same again changes nothing
    assert model_info(GATED).pretrained
    bundle(trained["other"], None, None)
    assert f"{GATED} has no weights any more" in capsys.readouterr().out
    assert not model_info(GATED).pretrained
    assert not (empty / "weights" / f"{GATED}.prior.safetensors").exists()
    with pytest.raises(ValueError, match=f"another autoencoder than {PLAIN}"):
        bundle(trained[GATED], None, None)


def test_the_shared_part_comes_first(trained, empty):
    with pytest.raises(ValueError, match=f"bundle {PLAIN} first|another autoencoder"):
        bundle(trained[GATED], None, None)
    assert not list((empty / "weights").iterdir())


def test_figures_of_other_bytes_are_refused(trained, empty, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained[PLAIN].out, folder)
    other = (trained["other"].out / "prior.safetensors").read_bytes()
    (folder / "prior.safetensors").write_bytes(other)
    with pytest.raises(ValueError, match="measured on other weights"):
        bundle(replace(trained[PLAIN], out=folder), None, None)
