"""Whether an entry agrees with its record; each thing that does not is found."""

import json
import shutil

import pytest
from click.testing import CliRunner
from support.runs import images_run, log_of, vqvae_run

from lvmzoo import registry
from lvmzoo.registry import model_info
from training.families import family_of
from training.families.base import Metric
from training.loop import fit, fit_entry
from training.release import cards, check, records
from training.release.reproduce import main, reproduce

POINTS, OTHER = "vae2d_gaussian1", "vae2d_gaussian2"


def test_first_losses_are_those_of_the_run_and_leave_nothing_behind(tmp_path):
    run = images_run(tmp_path / "run", precision="float32")
    losses = check.first_losses(run)
    assert list(run.out.iterdir()) == []
    assert len(losses) == run.total_steps == 6
    fit(run)
    lines = log_of(run.out)
    assert sum(losses[:3]) / 3 == pytest.approx(lines[0]["train"]["loss"], rel=1e-6)
    assert sum(losses[3:]) / 3 == pytest.approx(lines[1]["train"]["loss"], rel=1e-6)


@pytest.mark.usefixtures("few_revival_images")
def test_first_losses_of_a_prior_encode_only_what_they_need(tmp_path):
    entry = vqvae_run(tmp_path / "vqvae_svhn", settings=("augment=flip", "precision=float32"))
    assert fit_entry(entry)
    autoencoder, prior = entry.runs
    assert autoencoder.component == "autoencoder"
    losses = check.first_losses(prior)
    (first, _) = log_of(prior.out)
    assert sum(losses[:3]) / 3 == pytest.approx(first["train"]["loss"], rel=1e-6)


def run_check(shop, name=POINTS):
    options = ["--data", str(shop.data), "--device", "cpu"]
    return CliRunner().invoke(main, [name, "--check", *options])


def edited(record, path, value):
    """Return a record with another value at a path, which a function of the old one may give."""
    place = copy = json.loads(json.dumps(record))
    *outer, last = path
    for key in outer:
        place = place[key]
    place[last] = value(place[last]) if callable(value) else value
    return copy


@pytest.fixture
def made(shop, monkeypatch):
    """The record of an entry that was just made; it is not trained again for a check."""
    reproduce(model_info(POINTS), shop)
    monkeypatch.setattr(type(family_of("VAE2D")), "retrained", None)
    return records.read_record(POINTS)


def up_to_date(shop, variants=()):
    return check.up_to_date(check.bundled_run(model_info(POINTS), shop.data, variants))


LAST = ("run", "first_losses", -1)
FIRST = ("test", "first", "metrics")


# Where the record is changed, to what, what is then found, and whether it is still up to date.
CHANGES = [
    (LAST, lambda loss: loss * 1.01, "the loss at step 20 is", True),
    (("run", "data"), "0" * 64, "the training data are not the run's", False),
    (("run", "recipe", "lr"), 0.5, "the recipe's lr is 0.002, the run's 0.5", False),
    (("run", "given"), {"encoder": "0"}, "was on other components than those", False),
    (("test", "data"), "0" * 64, "the test data are not those that were measured on", True),
    (("test", "weights"), {"model": "0"}, "measured on other files than those", True),
    ((*FIRST, "kl"), lambda kl: kl + 0.01, "test kl is", True),
    ((*FIRST, "new"), 1.0, "test new is no longer measured", True),
    (FIRST, lambda v: {k: v[k] for k in v if k != "kl"}, "test kl is not on record", True),
    (
        ("test", "known_metrics"),
        lambda names: [n for n in names if n != "gap"],
        "gap was not known when it was measured: reproduce it again",
        False,
    ),
]


def test_what_does_not_agree_is_found(shop, made):
    assert run_check(shop).output == f"{POINTS}: agrees with its record\n"
    assert up_to_date(shop)
    for path, value, found, current in CHANGES:
        records.write_record(POINTS, edited(made, path, value))
        cards.write_card(POINTS)
        result = run_check(shop)
        assert result.exit_code == 1
        assert found in result.output
        assert result.output.count(";") == 0, result.output  # and nothing else
        assert "Error: 1 of 1 entries do not agree" in result.output
        assert up_to_date(shop) == current, path


def test_samples_that_are_not_on_record_are_measured_the_next_time(shop, made, monkeypatch):
    family = type(family_of("VAE2D"))
    monkeypatch.setattr(family, "sample_metrics", {"frechet": Metric("", "")})
    assert run_check(shop).output == f"{POINTS}: agrees with its record\n"
    assert not up_to_date(shop)
    reproduce(model_info(POINTS), shop)
    assert "frechet" in records.read_record(POINTS)["test"]["known_metrics"]
    assert up_to_date(shop)


def test_a_card_that_was_edited_is_found(shop, made):
    with (records.CARDS / f"{POINTS}.md").open("a") as card:
        card.write("It is the best.\n")
    result = run_check(shop)
    assert result.exit_code == 1
    assert "the card is not what its record gives" in result.output
    assert up_to_date(shop)


def test_an_entry_that_is_soon_trained_is_trained_again(shop):
    reproduce(model_info(POINTS), shop)
    assert run_check(shop).output == f"{POINTS}: agrees with its record\n"
    record = records.read_record(POINTS)
    records.write_record(POINTS, edited(record, ("test", "metrics", "gap"), lambda gap: gap + 0.1))
    cards.write_card(POINTS)
    assert f"{POINTS}: trained again, the gap is " in run_check(shop).output


def test_a_changed_recipe_is_found(shop, made, recipes):
    recipes.set(POINTS, lr=0.01)
    assert "the recipe's lr is 0.01, the run's 0.002" in run_check(shop).output
    assert not up_to_date(shop)


def test_a_recipe_with_a_short_table_is_that_of_the_whole(shop, made, recipes):
    recipes.set(POINTS, short={"epochs": 1})
    assert up_to_date(shop)
    assert not up_to_date(shop, ("short",))
    assert run_check(shop).output == f"{POINTS}: agrees with its record\n"


def test_a_card_that_compares_with_figures_of_yesterday_is_out_of_date(shop, made):
    reproduce(model_info(OTHER), shop)
    elbo = records.read_record(OTHER)["test"]["metrics"]["elbo"]
    for name, other, found in (
        ("elbo", elbo, ""),
        ("elbo", elbo - 0.1, "whose elbo was"),
        ("old", 1.0, "whose old was 1; that is nan now"),
    ):
        term = {"other": other, "difference": 0.1, "standard_error": 0.1}
        beside = {"entry": OTHER, "epochs": 2, "terms": {name: term}}
        records.write_record(POINTS, made | {"comparison": beside})
        cards.write_card(POINTS)
        assert up_to_date(shop) == (not found)
        assert (found or "agrees with its record") in run_check(shop).output

    # Its files stand for the run; what is made anew is figures and card.
    shutil.rmtree(shop.runs)
    reproduce(model_info(POINTS), shop)
    assert not (shop.runs / POINTS / "log.jsonl").exists()
    assert records.read_record(POINTS) == made


def test_weights_that_were_changed_are_not_measured(shop, made):
    path = registry.WEIGHTS / f"{POINTS}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    result = run_check(shop)
    assert result.exit_code == 1
    assert "SHA-256" in result.output
