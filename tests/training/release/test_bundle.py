"""Bundling the two entries that share an autoencoder, at their real size, trained for two steps."""

from dataclasses import replace

import pytest
import torch
from support.runs import NEVER, noise, recipe_of

import lvmzoo
from lvmzoo.registry import model_info
from training.data import Split
from training.evaluate import evaluate
from training.families import images, vqvae
from training.release.bundle import bundle
from training.release.records import Comparison, EntryRecord
from training.release.reproduce import paired_terms
from training.run import EntryRun, Options
from training.train import fit_entry

pytestmark = pytest.mark.slow

PLAIN, GATED = "vqvae_svhn", "vqvae_gated_svhn"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs of both entries with their records, and of the plain one from another seed."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vqvae, "REVIVAL_IMAGES", 2)
        patch.setattr(images, "COLUMNS", 2)
        made = {name: make(name, runs / "own" / name, 0) for name in (PLAIN, GATED)}
        made["other"] = make(PLAIN, runs / "other" / PLAIN, 1)
    return made


def data():
    return Split(noise(8).x, torch.arange(8), model_info(PLAIN).classes, "noise")


def make(name, out, seed):
    split, info = data(), model_info(name)
    recipe = recipe_of(name, ("epochs=1", "batch_size=4", "augment=none", f"seed={seed}"))
    options = Options("cpu", checkpoint_every=NEVER)
    entry = EntryRun.plan(info, recipe, (split, split), out, options)
    assert fit_entry(entry)
    validation, test = (
        evaluate(info, out, split, part, out / "evaluation", train=split, full=part == "test")
        for part in ("validation", "test")
    )
    return entry, EntryRecord(entry.assemble(), test, validation)


def test_two_entries_share_one_file(trained, empty):
    bundle(*trained[PLAIN])
    entry, record = trained[GATED]
    terms = paired_terms(entry.out, trained[PLAIN][0].out)
    assert set(terms) == {"bits_per_code", "nats_per_image"}
    bundle(entry, replace(record, comparison=Comparison(PLAIN, 1, terms)))
    names = {path.name for path in (empty / "weights").glob("*.safetensors")}
    parts = (f"{PLAIN}.autoencoder", f"{PLAIN}.prior", f"{GATED}.prior")
    assert names == {f"{part}.safetensors" for part in parts}
    plain, gated = (lvmzoo.create_model(name, pretrained=True) for name in (PLAIN, GATED))
    codes = plain.encode(data().x / 255)
    assert torch.equal(codes, gated.encode(data().x / 255))
    assert not torch.equal(plain.code_log_prob(codes), gated.code_log_prob(codes))
    assert model_info(GATED).files["autoencoder"] == model_info(PLAIN).files["autoencoder"]
    text = (empty / "model_cards" / f"{GATED}.md").read_text()
    whole = recipe_of(GATED).components["prior"].epochs
    for sentence in (
        f"The autoencoder is that of `{PLAIN}`",
        f"**This prior is short of its recipe: 1 epoch of {whole}.**",
        f"({GATED}_classes.png)",
        f"Compared with `{PLAIN}` (the same codes, 1 epoch)",
    ):
        assert sentence in text
    table = (empty / "README.md").read_text()
    assert f"[`{GATED}`](model_cards/{GATED}.md)" in table
    assert (table[:6], table[-6:]) == ("before", "after\n")


def test_an_entry_whose_autoencoder_is_replaced_has_no_weights_any_more(trained, empty, capsys):
    bundle(*trained[PLAIN])
    bundle(*trained[GATED])
    bundle(*trained[PLAIN])  # the same again changes nothing
    assert model_info(GATED).pretrained
    bundle(*trained["other"])
    assert f"{GATED} has no weights any more" in capsys.readouterr().out
    assert not model_info(GATED).pretrained
    assert not (empty / "weights" / f"{GATED}.prior.safetensors").exists()
    with pytest.raises(ValueError, match=f"another autoencoder than {PLAIN}"):
        bundle(*trained[GATED])
