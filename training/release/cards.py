"""Model cards and the README's table: figures in words. Generated, never edited."""

import shlex
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lvmzoo.registry import DATASETS, DataSet, ModelInfo, list_models, model_info
from training.families import config_of, family_of, recipe_of
from training.metrics import NEIGHBOURS
from training.recipe import EntryRecipe, with_defaults
from training.records import RunRecord
from training.release import records
from training.release.records import EntryRecord

TEMPLATE = Path(__file__).with_name("card.md.j2")


def write_card(name: str) -> None:
    """Write model_cards/NAME.md from the entry's record, files and pictures."""
    text = render(model_info(name), records.read_record(name))
    (records.CARDS / f"{name}.md").write_text(text, encoding="utf-8")


def render(info: ModelInfo, record: EntryRecord, pictures: Path | None = None) -> str:
    """Return a card as Markdown with Hugging Face metadata.

    Arguments:
        info: An entry, or the variant of one that a run on your own pictures has trained.
        record: The record of the run, and its figures.
        pictures: Folder that holds the pictures; by default that of the cards.
    """
    family, run, test = family_of(info.model_class), record.run, record.test
    data, recipe = _data_set(info, run.own_pictures), _recipe(run)
    runs = [
        (part, recipe.components[component])
        for component, part in run.components.items()
        if component not in recipe.shared
    ]
    folder = pictures or records.CARDS
    files = {kind: f"{test.entry}_{kind}.png" for kind in family.pictures}
    card = ModelCard.from_template(
        _metadata(info, record, data),
        template_path=str(TEMPLATE),
        quote=shlex.quote,
        epochs=_epochs,
        duration=_duration,
        info=info,
        own=run.own_pictures,
        entry=info.name in list_models(),
        data=data,
        family=family,
        limits=family.limits.format(**family.sizes(config_of(info))),
        record=record,
        run=run,
        test=test,
        neighbours=NEIGHBOURS,
        shared=recipe.shared,
        runs=[(part, with_defaults(type(whole), part.recipe), whole) for part, whole in runs],
        command=train_command(run),
        # Not of other weights than those that are here.
        likelihood=record.likelihood
        if record.likelihood and record.likelihood.weights == test.weights
        else None,
        datasets=DATASETS,
        pictures=[(family.pictures[k], f) for k, f in files.items() if (folder / f).exists()],
    )
    return f"{card.content.rstrip()}\n"


def train_command(run: RunRecord) -> str:
    """Return the command of a recorded run, without paths but the pictures' name."""
    words = [run.entry, *(f"--{variant}" for variant in run.variants)]
    words += ["--images", run.config["dataset"]] if run.own_pictures else []
    words += run.options
    words += [word for setting in run.settings for word in ("--set", setting)]
    return f"python -m training.train {shlex.join(words)}"


def _recipe(run: RunRecord) -> EntryRecipe:
    """Return the whole recipe of a recorded run, which may have shared no component."""
    info = model_info(run.entry)
    recipe, made = recipe_of(info), run.components
    alone = any(c in made and made[c].entry == run.entry for c in recipe.shared)
    return recipe_of(info, alone=True) if alone else recipe


def _data_set(info: ModelInfo, own: bool) -> DataSet:
    if not own:
        return DATASETS[info.dataset]
    name, shape, licence = info.dataset, info.image_shape or (), "that of the pictures"
    return DataSet(name, name, shape, licence, "own pictures", info.classes)


def _metadata(info: ModelInfo, record: EntryRecord, data: DataSet) -> ModelCardData:
    own, test = record.run.own_pictures, record.test
    task = "unconditional-image-generation" if info.image_shape else "other"
    metrics = family_of(info.model_class).metrics
    results = [
        EvalResult(
            task_type=task,
            dataset_type="own-pictures" if own else info.dataset,
            dataset_name=f"{data.title} ({test.data_source})",
            dataset_split="test",
            metric_type=key,
            metric_name=metric.label.replace("\\|", "|"),
            metric_value=round(test.metrics[key], 6),
        )
        for key, metric in metrics.items()
        if key in test.metrics
    ]
    # Nothing is claimed that nobody has chosen: no licence of your own run, and no data set on the
    # Hub for your own pictures.
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
    """Return the README's table of entries, and below it what to know of their data."""
    head = ("| entry | samples | data | measured on the test split |", "| --- | --- | --- | --- |")
    names = list_models()
    caveats = {}
    for name in names:
        if (info := model_info(name)).pretrained:
            run = records.read_record(name).run
            if run.data_caveat:
                title = DATASETS[info.dataset].title
                caveats[title] = f"{title}: {run.data_source}. {run.data_caveat}"
    return "\n".join([*head, *map(_row, names), "", *(f"* {line}" for line in caveats.values())])


def _row(name: str) -> str:
    info = model_info(name)
    data = DATASETS[info.dataset].title
    if not info.pretrained:
        return f"| `{name}` | | {data} | no weights yet |"
    family, test = family_of(info.model_class), records.read_record(name).test
    figures = family.headline(info.metrics)
    kinds = {kind.title: kind.metrics for kind in test.samples.kinds} if test.samples else {}
    if guided := kinds.get("samples given the class, guidance 2"):
        figures += f"; class recognised in {guided['recognised']:.0%} at guidance 2"
    picture = "guided" if guided else "samples"
    thumbnail = f'<img src="model_cards/{name}_{picture}.png" width="140" alt="samples of {name}">'
    return f"| [`{name}`](model_cards/{name}.md) | {thumbnail} | {data} | {figures} |"


def update_readme() -> None:
    """Put the current table between the marks in the README."""
    records.put_between(records.ROOT / "README.md", "table", table())
