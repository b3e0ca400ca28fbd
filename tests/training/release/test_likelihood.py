import json

import pytest
import torch

from lvmzoo import list_models, model_info, registry
from lvmzoo.sets import scores
from training.data import Split
from training.release import cards, likelihood, records

ENTRIES = [n for n in list_models(pretrained=True) if model_info(n).dataset in likelihood.COMPARED]


@pytest.mark.parametrize("name", ENTRIES)
def test_what_the_scores_of_an_entry_say_was_measured_on_the_weights_it_has(name):
    weights = {component: file.sha256 for component, file in model_info(name).files.items()}
    stored = json.loads((registry.WEIGHTS / scores.TEST_SCORES).read_text(encoding="utf-8"))[name]
    found = records.read_record(name).likelihood
    assert found.weights == stored["weights"] == weights
    assert found.score == stored["score"]


def test_auroc_is_the_share_of_pairs_in_order():
    generator = torch.Generator().manual_seed(0)
    own, other = (torch.randint(20, (n,), generator=generator).double() for n in (50, 70))
    above = (own[:, None] > other).double() + 0.5 * (own[:, None] == other).double()
    assert likelihood.auroc(own, other) == pytest.approx(above.mean().item(), abs=1e-4)
    assert likelihood.auroc(own + 100, other) == 1
    assert likelihood.auroc(own - 100, other) == 0


@pytest.fixture
def zoo_of_cards(index, tmp_path, monkeypatch):
    folder = tmp_path / "cards"
    folder.mkdir()
    for path in records.CARDS.glob("vae_svhn*"):
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(records, "CARDS", folder)
    scores._read.cache_clear()
    yield folder
    scores._read.cache_clear()


def test_percentiles_record_and_card_are_written(zoo_of_cards, tmp_path, monkeypatch):
    def read(dataset, split, data):
        assert split == "test"
        shape = (1, 32, 32) if dataset == "mnist" else (3, 32, 32)
        generator = torch.Generator().manual_seed(len(dataset))
        x = torch.randint(256, (40, *shape), generator=generator, dtype=torch.uint8)
        return Split(x // {"mnist": 8}.get(dataset, 1), torch.zeros(40).long(), (), "made up")

    monkeypatch.setattr(likelihood, "load_split", read)
    info = model_info("vae_svhn")
    areas = likelihood.record(info, tmp_path, examples=30)
    assert set(areas) == {"mnist", "cifar10"}
    stored = json.loads((registry.WEIGHTS / scores.TEST_SCORES).read_text())["vae_svhn"]
    assert stored["weights"] == {"model": info.files["model"].sha256}
    assert (stored["score"], len(stored["percentiles"])) == ("elbo", 101)
    assert stored["percentiles"] == sorted(stored["percentiles"])
    text = (zoo_of_cards / "vae_svhn.md").read_text()
    assert f"| MNIST | {areas['mnist']:.3f}" in text
    assert "one of 30 of its own test images has a higher elbo" in text
    # Of other weights than those on record nothing is said.
    record = records.read_record("vae_svhn")
    record.likelihood.weights["model"] = "0" * 64
    assert "other data | area" not in cards.render(info, record)
