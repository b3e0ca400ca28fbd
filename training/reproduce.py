"""Make entries again, from recipe to card: `python -m training.reproduce NAME...`.

Each step is skipped where its result is up to date, so the command can be called again and again.
With --check nothing is made: recipe, files and figures are compared with what was recorded.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lvmzoo import list_models
from lvmzoo.checkpoint import read_component
from lvmzoo.models import model_class
from lvmzoo.registry import ModelInfo, model_info
from training import cards, train
from training.bundle import bundle
from training.data import load_split
from training.evaluate import evaluate, load_weights
from training.figures import IMPORTANCE_SAMPLES, measure, standard_error
from training.options import data_option, failing_cleanly
from training.recipe import card_notes, has_baseline, read_recipe
from training.trainer import Run

__all__ = ["check", "reproduce"]

# The same file and data give the same figures up to the order of floating-point sums.
TOLERANCE = 1e-4


def reproduce(info: ModelInfo, data: Path, runs: Path, device: str) -> None:
    """Train, evaluate and bundle an entry, with its plain recipe where the card compares."""
    if model_class(info.model_class).COMPONENTS != ("model",):
        raise click.ClickException(
            f"{info.name}: the evaluation of a {info.model_class} is not there yet; "
            f"train it with `python -m training.train {info.name}`"
        )
    run = _trained(info, data, runs / info.name, device, baseline=False)
    plain = None
    if has_baseline(info.name):
        plain = _trained(info, data, runs / f"{info.name}.baseline", device, baseline=True)
        _evaluated(info, data, plain, "validation")
    _evaluated(info, data, run, "validation")
    _evaluated(info, data, run, "test")  # last, so that the pictures are of the test split
    other = card_notes(info.name).compare_with
    comparison = None
    if other:
        _evaluated(model_info(other), data, runs / other, "test")
        comparison = compare(run, runs / other, other)
    bundle(info, run, plain, comparison)


def compare(run: Path, other_run: Path, other: str) -> dict[str, Any]:
    """Compare two evaluated runs on the test split, example by example.

    Returns:
        For each term the other's mean, and the mean difference with its standard error.
    """
    ours, theirs = (
        read_component(folder / "evaluation/examples.test.safetensors").tensors
        for folder in (run, other_run)
    )
    terms = {}
    for name in sorted(ours.keys() & theirs.keys()):
        difference = ours[name] - theirs[name]
        if not difference.any():
            continue  # of parts that both share
        terms[name] = {
            "other": theirs[name].mean().item(),
            "difference": difference.mean().item(),
            "standard_error": standard_error(difference),
        }
    return {"entry": other, "epochs": train.read_run(other_run)["recipe"]["epochs"], "terms": terms}


def _trained(info: ModelInfo, data: Path, out: Path, device: str, *, baseline: bool) -> Path:
    recipe = read_recipe(info.name, baseline=baseline)
    splits = train.load_training_data(info, recipe, data, None)
    run = Run(info, recipe, *splits, out, device)
    if (out / train.RECORD).exists():
        done = train.read_run(out)
        if all(done[key] == value for key, value in run.identity.items() if key != "config"):
            return out
        raise click.ClickException(f"{out} holds a run of another recipe or data; move it away")
    train.prepare_out(out, resume=True, overwrite=False)
    train.fit(run)
    return out


def _evaluated(info: ModelInfo, data: Path, run: Path, split: str) -> None:
    folder = run / "evaluation"
    if not (folder / f"metrics.{split}.json").exists():
        examples = load_split(info.dataset, split, data)
        # Choices need the ELBO only; the costly bound is for the test split.
        samples = IMPORTANCE_SAMPLES if split == "test" else 0
        result = evaluate(info, run, examples, split, folder, importance_samples=samples)
        key = "elbo" if "elbo" in result["metrics"] else "bits_per_code"
        print(f"{run} {split}: {key} {result['metrics'][key]:.4f}")


def check(info: ModelInfo, data: Path) -> Iterator[str]:
    """Yield what of an entry does not agree with its record: recipe, files, figures."""
    record = cards.read_record(info.name)
    recipe = asdict(read_recipe(info.name))
    for key, value in recipe.items():
        if record["run"]["recipe"].get(key) != value:
            yield f"the recipe's {key} is {value}, the run's {record['run']['recipe'].get(key)}"
    model = load_weights(info, None)  # checks every hash of the index
    if {c: f.sha256 for c, f in info.files.items()} != record["test"]["weights"]:
        yield "the figures were measured on other files than those of the index"
    for split in ("validation", "test"):
        examples = load_split(info.dataset, split, data)
        figures, _ = measure(model, examples, info.dataset, importance_samples=0)
        for key in figures:
            value = record[split]["metrics"][key]
            if not math.isclose(figures[key], value, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                yield f"{split} {key} is {figures[key]:.6g}, recorded {value:.6g}"
    if (cards.CARDS / f"{info.name}.md").read_text() != cards.render(info, record):
        yield "the card is not what its record gives"


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every entry.")
@click.option("--check", "checking", is_flag=True, help="Compare with the record; make nothing.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--runs", type=click.Path(path_type=Path), default="runs", show_default=True)
@data_option
@failing_cleanly
def main(
    names: tuple[str, ...], everything: bool, checking: bool, device: str, runs: Path, data: Path
) -> None:
    """Make the entries NAMES again, or check them."""
    if everything == bool(names):
        raise click.UsageError("give entries, or --all")
    infos = [model_info(name) for name in (list_models() if everything else names)]
    failures = 0
    for info in infos:
        if not checking:
            reproduce(info, data, runs, device)
            continue
        if not info.pretrained:
            print(f"{info.name}: skipped, it has no weights yet")
            continue
        found = list(check(info, data))
        failures += bool(found)
        print(f"{info.name}: {'; '.join(found) or 'agrees with its record'}")
    if failures:
        raise click.ClickException(f"{failures} of {len(infos)} entries do not agree")


if __name__ == "__main__":
    main()
