"""Make entries again, from recipe to card: `python -m training.reproduce NAME...`.

Each step is skipped where its result is up to date, so the command can be called again and again,
and a run whose time was up goes on. With --check nothing is made: code, recipe, data, files and
figures are compared with what was recorded.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lvmzoo import list_models
from lvmzoo.checkpoint import CheckpointError, read_component
from lvmzoo.files import write_json
from lvmzoo.loading import model_class
from lvmzoo.models.vqvae import VQVAE
from lvmzoo.registry import ModelInfo, model_info
from training import cards, parts, state, train
from training.bundle import bundle, read_json
from training.check import accept_code, check, made_now, up_to_date
from training.data import DataError, load_split
from training.evaluate import evaluate
from training.figures import IMPORTANCE_SAMPLES, standard_error
from training.fingerprint import code_sha256, first_losses
from training.options import compile_option, data_option, failing_cleanly, time_limit_option
from training.recipe import KINDS, card_notes, has_variant, read_recipe, shared_components
from training.trainer import Run

__all__ = ["Workshop", "in_order", "reproduce"]


class TimeUpError(Exception):
    """The time limit has passed between two steps, or in one that can be resumed."""


@dataclass(frozen=True)
class Workshop:
    """Where and until when entries are made.

    Arguments:
        data: Folder of the data sets.
        runs: Folder of the runs.
        device: As for `Run`.
        deadline: In seconds of `time.monotonic`.
        short: Whether the short recipe is followed where there is one.
        compile: As for `Run`.
    """

    data: Path
    runs: Path
    device: str = "auto"
    deadline: float = math.inf
    short: bool = False
    compile: bool = False

    def variants(self, info: ModelInfo) -> tuple[str, ...]:
        """The variants of an entry's recipe that are followed; see `read_recipe`."""
        return ("short",) if self.short and has_variant(info.name, "short") else ()

    def check_time(self) -> None:
        """See that there is time left.

        Raises:
            TimeUpError: There is none.
        """
        if time.monotonic() >= self.deadline:
            raise TimeUpError


def in_order(names: list[str]) -> list[ModelInfo]:
    """Return entries so that each follows those it needs, and data sets are read one by one."""

    def key(info: ModelInfo) -> tuple[str, bool, str]:
        needs = bool(shared_components(info.name) or card_notes(info.name).compare_with)
        return info.dataset, needs, info.name

    return sorted(map(model_info, names), key=key)


def reproduce(info: ModelInfo, shop: Workshop) -> None:
    """Train, evaluate and bundle an entry, with its plain recipe where the card compares.

    An entry that has no run, but files made by recipe, data and code as they are, is left alone;
    where that holds for one of its components, that one is not trained again.

    Raises:
        TimeUpError: It is not complete; called again, this goes on.
        CheckpointError: The folder of a run holds another run, or one by other code.
    """
    if not _begun(shop.runs / info.name) and up_to_date(info, shop.data, shop.variants(info)):
        return
    run = _trained(info, shop)
    plain = None
    if has_variant(info.name, "baseline"):
        plain = _trained(info, shop, baseline=True)
        _evaluated(info, shop, plain, "validation")
    _evaluated(info, shop, run, "validation")
    _evaluated(info, shop, run, "test")  # last, so that the pictures are of the test split
    other = card_notes(info.name).compare_with
    bundle(info, run, plain, _beside(run, other, shop) if other else None)


def _begun(run: Path) -> bool:
    """Whether a folder holds a run, and not only the evaluation of bundled weights."""
    return run.is_dir() and any(path.name != "evaluation" for path in run.iterdir())


def _beside(run: Path, other: str, shop: Workshop) -> dict[str, Any]:
    """Compare a run with that of another entry, or with its bundled weights if there is none."""
    beside, info = shop.runs / other, model_info(other)
    if not (beside / train.RECORD).exists() and (_begun(beside) or not info.pretrained):
        raise CheckpointError(f"{run.name} is compared with {other}: reproduce that first")
    _evaluated(info, shop, beside, "test")
    record = train.read_run(beside) if _begun(beside) else cards.read_record(other)["run"]
    return compare(run, beside, other, record["recipe"]["epochs"])


def compare(run: Path, other_run: Path, other: str, epochs: int) -> dict[str, Any]:
    """Compare two evaluated runs on the test split, example by example.

    Arguments:
        run: A folder with an evaluation.
        other_run: Another.
        other: The entry that `other_run` evaluates.
        epochs: How long that was trained, for the card.

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
    return {"entry": other, "epochs": epochs, "terms": terms}


def _trained(info: ModelInfo, shop: Workshop, *, baseline: bool = False) -> Path:
    """Return the folder of a finished run of the entry as recipe, data and code now are."""
    shop.check_time()
    out = shop.runs / (f"{info.name}.baseline" if baseline else info.name)
    variants = (*shop.variants(info), *["baseline"] * baseline)
    recipe = read_recipe(info.name, variants=variants)
    splits = train.load_training_data(info, recipe, shop.data, None)
    run = Run(info, recipe, *splits, out, shop.device, deadline=shop.deadline, compile=shop.compile)
    runs = train.runs_of(run, variants=variants)
    for part in runs:
        _check_code(part)
    train.prepare_out(out, resume=True, overwrite=False)
    if not baseline:
        _take_bundled(info, runs)
    if not train.fit_entry(run, variants=variants):
        raise TimeUpError
    if not baseline:
        _record_first_losses(out, runs)
    return out


def _take_bundled(info: ModelInfo, runs: list[Run]) -> None:
    """Let bundled components that these runs would only make again stand for the first runs."""
    if not info.pretrained:
        return
    recorded = parts.records_of(cards.read_record(info.name)["run"])
    for run in runs:
        if _begun(run.out) or not made_now(run, recorded[run.component]):
            return
        parts.take_bundled(info, run.component, recorded[run.component], run.out)


def _check_code(run: Run) -> None:
    record = run.out / train.RECORD
    code = read_json(record).get("code") if record.exists() else None
    if code not in (None, code_sha256(run.info.model_class)):
        raise CheckpointError(
            f"{run.out} is not up to date: the code of the model has changed since it was "
            "trained; move it away to train again"
        )


def _record_first_losses(out: Path, runs: list[Run]) -> None:
    for part in runs:
        record = train.read_run(part.out)
        if "first_losses" not in record:
            write_json(part.out / train.RECORD, record | {"first_losses": first_losses(part)})
    if runs[-1].out != out:
        train.put_together(out, runs)


def _evaluated(info: ModelInfo, shop: Workshop, run: Path, split: str) -> None:
    """Measure a run, or bundled weights, on a split, unless these files' figures are there."""
    shop.check_time()
    folder = run / "evaluation"
    components = model_class(info.model_class).COMPONENTS
    own = _begun(run)
    files = {c: file.sha256 for c, file in info.files.items()}
    if own:
        files = parts.sha256_of({c: run / f"{c}.safetensors" for c in components})
    done = folder / f"metrics.{split}.json"
    if done.exists() and read_json(done)["weights"] == files:
        return
    examples = load_split(info.dataset, split, shop.data)
    # Choices are made by the ELBO or the bits per code; what costs more is for the test split.
    final = split == "test"
    counted = final and model_class(info.model_class) is VQVAE
    result = evaluate(
        info,
        run if own else None,
        examples,
        split,
        folder,
        importance_samples=IMPORTANCE_SAMPLES if final else 0,
        train=load_split(info.dataset, "train", shop.data) if counted else None,
        pictures=final,
    )
    metrics = result["metrics"]
    print(f"{run} {split}: {', '.join(f'{k} {v:.4f}' for k, v in metrics.items())}")


def progress(run: Path) -> str:
    """Say how far the run in a folder is."""
    if (run / train.RECORD).exists():
        return "trained"
    said = []
    for folder in [run / c for c in KINDS if (run / c).is_dir()] or [run]:
        name = "" if folder == run else f"{folder.name} "
        step = state.latest_step(folder) if folder.is_dir() else None
        if (folder / train.RECORD).exists():
            said.append(f"{name}finished")
        else:
            said.append(f"{name}not begun" if step is None else f"{name}at step {step}")
    return ", ".join(said)


def _reproduce_all(infos: list[ModelInfo], shop: Workshop) -> None:
    for i, info in enumerate(infos):
        try:
            reproduce(info, shop)
        except TimeUpError:
            for left in infos[i:]:
                print(f"{left.name}: {progress(shop.runs / left.name)}")
            print("the time is up; the same command goes on")
            return
        print(f"{info.name}: complete")


def _verify_all(
    infos: list[ModelInfo], data: Path, verify: Callable[[ModelInfo, Path], list[str]], skip: bool
) -> None:
    """Check entries; where `skip`, those whose data are not there are passed over, and named."""
    failures = 0
    for info in infos:
        if not info.pretrained:
            print(f"{info.name}: skipped, it has no weights yet")
            continue
        try:
            found = verify(info, data)
        except DataError as error:
            if not skip:
                raise
            print(f"{info.name}: skipped, {error}")
            continue
        failures += bool(found)
        print(f"{info.name}: {'; '.join(found) or 'agrees with its record'}", flush=True)
    if failures:
        raise click.ClickException(f"{failures} of {len(infos)} entries do not agree")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every entry.")
@click.option("--check", "checking", is_flag=True, help="Compare with the record; make nothing.")
@click.option(
    "--accept-code",
    "accepting",
    is_flag=True,
    help="Check, and if all but the code agrees with the record, record the code as it is.",
)
@click.option("--short", is_flag=True, help="By the short recipes that made the bundled weights.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--runs", type=click.Path(path_type=Path), default="runs", show_default=True)
@time_limit_option
@compile_option
@data_option
@failing_cleanly
def main(
    names: tuple[str, ...],
    everything: bool,
    checking: bool,
    accepting: bool,
    short: bool,
    device: str,
    runs: Path,
    deadline: float,
    compile: bool,
    data: Path,
) -> None:
    """Make the entries NAMES again, or check them."""
    if everything == bool(names):
        raise click.UsageError("give entries, or --all")
    if checking and accepting:
        raise click.UsageError("--check and --accept-code exclude each other")
    making = {"--time-limit": math.isfinite(deadline), "--short": short, "--compile": compile}
    for option, given in making.items():
        if given and (checking or accepting):
            raise click.UsageError(f"{option} is for making entries, not for checking them")
    infos = in_order(list_models() if everything else list(names))
    if checking or accepting:
        _verify_all(infos, data, accept_code if accepting else check, everything)
    else:
        _reproduce_all(infos, Workshop(data, runs, device, deadline, short, compile))


if __name__ == "__main__":
    main()
