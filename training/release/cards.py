"""Model cards and the README's table: what is measured, put into words. Generated, never edited."""

import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lvmzoo.registry import DATASETS, DataSet, ModelInfo, list_models, model_info
from training.families import config_of, family_of, recipe_of
from training.metrics import NEIGHBOURS
from training.recipe import EntryRecipe, train_command, with_defaults
from training.release import records
from training.run import component_of, records_of

TEMPLATE = Path(__file__).with_name("card.md.j2")


def write_card(name: str) -> None:
    """Write model_cards/NAME.md from the entry's record, files and pictures."""
    text = render(model_info(name), records.read_record(name))
    (records.CARDS / f"{name}.md").write_text(text, encoding="utf-8")


def render(info: ModelInfo, record: dict[str, Any], pictures: Path | None = None) -> str:
    """Return a card as Markdown with Hugging Face metadata.

    Arguments:
        info: An entry, or the like of it for a run on one's own pictures.
        record: What was recorded of the run, and its figures.
        pictures: Folder that holds the pictures; by default that of the cards.
    """
    family, run, test = family_of(info.model_class), record["run"], record["test"]
    own = run.get("own_pictures", False)
    data = _data_set(info, own)
    metrics, recipe = family.metrics, _recipe(run)
    runs = [part for component, part in records_of(run).items() if component not in recipe.shared]
    folder = pictures or records.CARDS
    files = {kind: f"{test['entry']}_{kind}.png" for kind in family.pictures}
    ours, plain = record["validation"]["metrics"] if "validation" in record else {}, {}
    if "baseline" in record:
        plain = record["baseline"]["validation"]["metrics"]
    terms = record.get("comparison", {}).get("terms", {})
    card = ModelCard.from_template(
        _metadata(info, record, data, own),
        template_path=str(TEMPLATE),
        quote=shlex.quote,
        epochs=_epochs,
        duration=_duration,
        info=info,
        own=own,
        entry=info.name in list_models(),
        data=data,
        data_text=family.data_text(info),
        family=family,
        usage=family.usage(info),
        summary=family.summary(info),
        limits=family.limits.format(**family.sizes(config_of(info))),
        run=run,
        test=test,
        figures=[(m, test["metrics"][k]) for k, m in metrics.items() if k in test["metrics"]],
        samples=test.get("samples"),
        sample_metrics=family.sample_metrics,
        neighbours=NEIGHBOURS,
        baseline=record.get("baseline"),
        plain_figures=[(m, ours[k], plain[k]) for k, m in metrics.items() if k in plain],
        comparison=record.get("comparison"),
        compared_figures=[
            (m, test["metrics"][k], terms[k]) for k, m in metrics.items() if k in terms
        ],
        shared=recipe.shared,
        runs=[_run(part, recipe.components[component_of(part)], own) for part in runs],
        command=train_command(
            run["entry"],
            run["variants"],
            run["settings"],
            info.dataset if own else "",
            run.get("options", ()),
        ),
        likelihood=_likelihood(record),
        pictures=[(family.pictures[k], f) for k, f in files.items() if (folder / f).exists()],
    )
    return f"{card.content.rstrip()}\n"


def _recipe(record: dict[str, Any]) -> EntryRecipe:
    """Return the whole recipe of a recorded run, which may have shared no component."""
    recipe, made = recipe_of(model_info(record["entry"])), records_of(record)
    own = [c for c in recipe.shared if c in made and made[c]["entry"] == record["entry"]]
    return recipe_of(model_info(record["entry"]), alone=True) if own else recipe


def _likelihood(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return how well scores tell other data apart, unless that was measured on other weights."""
    found = record.get("likelihood")
    if found is None or found["weights"] != record["test"]["weights"]:
        return None
    areas = [(DATASETS[name].title, area) for name, area in sorted(found["auroc"].items())]
    return {**found, "areas": areas}


def _run(record: dict[str, Any], whole: Any, own: bool) -> dict[str, Any]:
    """Return what the card says of one component's run, whose whole recipe is `whole`."""
    recipe = with_defaults(type(whole), record["recipe"])
    optional = {"component": "", "exported_epoch": 0, "begun_from": None}
    # A run on one's own pictures is as long as its owner wanted.
    return {**optional, **record, "recipe": recipe, "whole_epochs": 0 if own else whole.epochs}


def _data_set(info: ModelInfo, own: bool) -> DataSet:
    if not own:
        return DATASETS[info.dataset]
    name, shape, licence = info.dataset, info.image_shape or (), "that of the pictures"
    return DataSet(name, name, shape, licence, "own pictures", info.classes)


def _metadata(info: ModelInfo, record: dict[str, Any], data: DataSet, own: bool) -> ModelCardData:
    task = "unconditional-image-generation" if info.image_shape else "other"
    metrics = family_of(info.model_class).metrics
    results = [
        EvalResult(
            task_type=task,
            dataset_type="own-pictures" if own else info.dataset,
            dataset_name=f"{data.title} ({record['test']['data_source']})",
            dataset_split="test",
            metric_type=key,
            metric_name=metric.label.replace("\\|", "|"),
            metric_value=round(record["test"]["metrics"][key], 6),
        )
        for key, metric in metrics.items()
        if key in record["test"]["metrics"]
    ]
    # Nothing is claimed that nobody has chosen: no licence of a run of one's own, and no data set
    # on the Hub of one's own pictures.
    return ModelCardData(
        license=info.licence.lower() if info.name in list_models() else None,
        library_name="lvmzoo",
        pipeline_tag=task if info.image_shape else None,
        tags=["lvmzoo", info.model_class.lower(), "pytorch"],
        datasets=[info.dataset] if info.image_shape and not own else None,
        model_name=info.name,
        eval_results=results,
    )


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count > 1)}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def table() -> str:
    """Return the README's table of entries."""
    head = (
        "| entry | data | parameters | measured on the test split | trained |",
        "| --- | --- | ---: | --- | --- |",
    )
    return "\n".join([*head, *map(_row, list_models())])


def _row(name: str) -> str:
    info = model_info(name)
    data = DATASETS[info.dataset].title
    if not info.pretrained:
        return f"| `{name}` | {data} | | | no weights yet |"
    run = records.read_record(name)["run"]
    own = [part for part in records_of(run).values() if part["entry"] == name]
    trained = "; ".join(
        f"{part['component'] + ' ' if 'component' in part else ''}"
        f"{_epochs(part['recipe']['epochs'])}, {_duration(part['seconds'])}"
        for part in own
    )
    figures = family_of(info.model_class).headline(info.metrics)
    card = f"[`{name}`](model_cards/{name}.md)"
    return f"| {card} | {data} | {info.parameters:,} | {figures} | {trained} |"


def update_readme() -> None:
    """Put the current table between the marks in the README."""
    records.put_between(records.ROOT / "README.md", "table", table())
