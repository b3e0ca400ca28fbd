"""Whether an entry agrees with its record; each thing that does not is found."""

import json
import shutil
from dataclasses import asdict, replace

import pytest
from click.testing import CliRunner
from support.runs import images_run, log_of

from lvmzoo.registry import model_info
from training.families import family_of
from training.records import from_json
from training.release import cards, check, records
from training.release.records import Comparison, EntryRecord, Term
from training.release.reproduce import main, reproduce
from training.train import fit

POINTS, OTHER = "vae2d_gaussian1", "vae2d_gaussian2"


def test_first_losses_are_those_of_the_run_and_leave_nothing_behind(tmp_path):
    run = images_run(tmp_path / "run", precision="float32")
    losses = check.first_losses(run)
    assert list(run.out.iterdir()) == []
    assert len(losses) == run.total_steps == 6
    fit(run)
    for start, line in zip((0, 3), log_of(run.out), strict=True):
        mean = sum(losses[start : start + 3]) / 3
        assert mean == pytest.approx(line["train"]["loss"], rel=1e-6)


def run_check(space):
    options = ["--data", str(space.data), "--device", "cpu"]
    return CliRunner().invoke(main, [POINTS, "--check", *options])


def up_to_date(space):
    return check.up_to_date(model_info(POINTS), space.data)


AGREES = f"{POINTS}: agrees with its record\n"


@pytest.fixture
def made(space, monkeypatch):
    """The record of an entry that was just made; it is not trained again for a check."""
    reproduce(model_info(POINTS), space)
    monkeypatch.setattr(type(family_of("VAE2D")), "retrained", None)
    return records.read_record(POINTS)


def write(record):
    records.write_record(POINTS, record)
    cards.write_card(POINTS)


def edited(record, path, value):
    """Return a record with another value at a path, which a function of the old one may give."""
    place = copy = json.loads(json.dumps(asdict(record)))
    *outer, last = path
    for key in outer:
        place = place[key]
    place[last] = value(place[last]) if callable(value) else value
    return from_json(EntryRecord, copy)


# Where the record is changed, to what, what is then found, and whether it is still up to date.
FIRST = ("test", "first", "metrics")
CHANGES = [
    (("run", "first_losses", -1), lambda loss: loss * 1.01, "the loss at step 20 is", True),
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


def test_what_does_not_agree_is_found(space, made, recipes):
    assert run_check(space).output == AGREES
    assert up_to_date(space)
    for path, value, found, current in CHANGES:
        write(edited(made, path, value))
        result = run_check(space)
        assert result.exit_code == 1
        assert found in result.output
        assert result.output.count(";") == 0, result.output  # and nothing else
        assert "Error: 1 of 1 entries do not agree" in result.output
        assert up_to_date(space) == current, path
    write(made)
    with (records.CARDS / f"{POINTS}.md").open("a") as card:
        card.write("It is the best.\n")
    assert "the card is not what its record gives" in run_check(space).output
    assert up_to_date(space)
    recipes[POINTS] = lambda table: table.update(lr=0.01)
    assert "the recipe's lr is 0.01, the run's 0.002" in run_check(space).output
    assert not up_to_date(space)


def test_an_entry_that_is_soon_trained_is_trained_again(space):
    reproduce(model_info(POINTS), space)
    assert run_check(space).output == AGREES
    record = records.read_record(POINTS)
    write(edited(record, ("test", "metrics", "gap"), lambda gap: gap + 0.1))
    assert f"{POINTS}: trained again, the gap is " in run_check(space).output


def test_a_card_that_compares_with_figures_of_yesterday_is_out_of_date(space, made):
    reproduce(model_info(OTHER), space)
    elbo = records.read_record(OTHER).test.metrics["elbo"]
    for name, other, found in (
        ("elbo", elbo, ""),
        ("elbo", elbo - 0.1, "whose elbo was"),
        ("old", 1.0, "whose old was 1; that is nan now"),
    ):
        write(replace(made, comparison=Comparison(OTHER, 2, {name: Term(other, 0.1, 0.1)})))
        assert up_to_date(space) == (not found)
        assert (found or "agrees with its record") in run_check(space).output
    # Its files stand for the run; what is made anew is figures and card.
    shutil.rmtree(space.runs)
    reproduce(model_info(POINTS), space)
    assert not (space.runs / POINTS / "log.jsonl").exists()
    assert records.read_record(POINTS) == made
