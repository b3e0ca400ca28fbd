"""Model cards and the README's table: what is measured, put into words. Generated, never edited."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from lvmzoo.registry import DATASETS, DataSet, ModelInfo, list_models, model_info
from training.data import gaussian_formula
from training.parts import component_of, records_of
from training.recipe import read_recipe, shared_components, train_command, with_defaults

__all__ = ["CARDS", "read_record", "render", "update_readme", "write_card"]

ROOT = Path(__file__).parents[1]
CARDS = ROOT / "model_cards"
START, END = "<!-- table: begin -->", "<!-- table: end -->"

METRICS = {
    "elbo": ("ELBO", "nats, higher is better"),
    "reconstruction": ("E_q log p(x\\|z)", "nats, higher is better"),
    "kl": ("KL(q(z\\|x) ‖ p(z))", "nats"),
    "log_likelihood": ("importance-weighted bound, 64 samples", "nats, higher is better"),
    "half_squared_error": ("0.5 ‖x - mu(z)‖², posterior draws", "images in [-1, 1]"),
    "mse": ("MSE of reconstructions", "images in [0, 1]"),
    "psnr": ("PSNR of reconstructions", "dB, higher is better"),
    "ssim": ("SSIM of reconstructions", "1 is perfect"),
    "codes_used": ("codes in use", "by the whole split"),
    "perplexity": ("perplexity of the codes", "higher uses the codebook more evenly"),
    "nats_per_image": ("-log p(codes)", "nats per image, lower is better"),
    "bits_per_code": ("bits per code", "without labels; lower is better"),
    "markov_bits_per_code": ("bits per code of a first-order Markov model", "baseline"),
    "unigram_bits_per_code": ("bits per code of a unigram model", "baseline"),
    "uniform_bits_per_code": ("bits per code of the uniform model", "baseline"),
    "conditional_bits_per_code": (
        "bits per code, given the label",
        "compares with other conditional figures only",
    ),
    "wrong_label_bits_per_code": (
        "bits per code, given a wrong label",
        "above the one before if the labels are used",
    ),
    "gap": ("gap: mean of log p_true(x) - ELBO(x)", "nats, 0 is perfect"),
    "gap_se": ("standard error of the gap", "nats"),
}
PICTURES = {
    "samples": "Samples",
    "classes": "Samples of each class, a row each, in the order of the classes",
    "completions": (
        "Completions: test images, their reconstructions, and eight drawings of the lower half of "
        "the codes given the upper half"
    ),
    "reconstructions": "Reconstructions: test images, each above its reconstruction",
    "interpolations": "Interpolations between pairs of test images",
    "codebook": "How often each code occurs in the split, sorted",
}
_BLUR = (
    "Samples and reconstructions are blurred: a decoder N(mu(z), I) with 16 latents keeps the "
    "layout and colours of a picture and averages over the rest. The fixed unit variance also "
    "makes likelihoods comparable only among models of this zoo with the same data; no bits "
    "per dimension are given, since they would read worse than raw pixels by construction."
)
LIMITS = {
    "VAE2D": "Made to check the method: its data have a known density and no other use.",
    "VAE": _BLUR,
    "VLAE": _BLUR,
    "VQVAE": (
        "The autoencoder keeps 64 codes of 7 bits of each picture and loses fine texture. The "
        "prior models codes, not pixels: bits per code compare only among priors on the codes of "
        "the same autoencoder. A completion with known codes that do not come first in raster "
        "order is not an exact draw."
    ),
}


def read_record(name: str) -> dict[str, Any]:
    """Return what was recorded when an entry was bundled: its run and its figures."""
    record: dict[str, Any] = json.loads((CARDS / f"{name}.json").read_text())
    return record


def write_card(name: str) -> None:
    """Write model_cards/NAME.md from the entry's record, files and pictures."""
    (CARDS / f"{name}.md").write_text(render(model_info(name), read_record(name)))


def render(info: ModelInfo, record: dict[str, Any], pictures: Path | None = None) -> str:
    """Return a card as Markdown with Hugging Face metadata.

    Arguments:
        info: An entry, or the like of it for a run on one's own pictures.
        record: What was recorded of the run, and its figures.
        pictures: Folder that holds the pictures; by default `CARDS`.
    """
    sections = [
        f"---\n{_metadata(info, record).to_yaml()}\n---",
        f"# {info.name}\n\n{info.summary[0].upper()}{info.summary[1:]}, trained on "
        f"{_data_set(info).title} ({info.paper}). One of the models of lvmzoo.",
        _usage(info),
        _figures(record),
        _baseline(record),
        _comparison(record),
        _training(info, record),
        _data(info, record),
        f"## Limits and biases\n\n{LIMITS[info.model_class]}{_bias(info)}",
        _pictures(record["test"]["entry"], pictures or CARDS),
        _licence(info),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _data_set(info: ModelInfo) -> DataSet:
    own = DataSet(
        name=info.dataset,
        title=info.dataset,
        shape=info.image_shape or (2,),
        licence="that of the pictures",
        source="own pictures",
        classes=info.classes,
    )
    return DATASETS.get(info.dataset, own)


def _metadata(info: ModelInfo, record: dict[str, Any]) -> ModelCardData:
    data = _data_set(info)
    task = "unconditional-image-generation" if info.image_shape else "other"
    results = [
        EvalResult(
            task_type=task,
            dataset_type=info.dataset,
            dataset_name=f"{data.title} ({record['test']['data_source']})",
            dataset_split="test",
            metric_type=key,
            metric_name=METRICS[key][0].replace("\\|", "|"),
            metric_value=round(value, 6),
        )
        for key, value in _ordered(record["test"]["metrics"])
    ]
    return ModelCardData(
        license=info.licence.lower(),
        library_name="lvmzoo",
        pipeline_tag=task if info.image_shape else None,
        tags=["lvmzoo", info.model_class.lower(), "pytorch"],
        datasets=[info.dataset] if info.image_shape else None,
        model_name=info.name,
        eval_results=results,
    )


def _usage(info: ModelInfo) -> str:
    name, quoted = info.name, f'"{info.name}"'
    begin, more = "## Use\n\n```python\nimport lvmzoo\nimport torch\n\n", ""
    if info.model_class == "VQVAE":
        labels = ", labels=3" if info.config.get("prior") == "gated_pixelcnn" else ""
        shape = (2, 8, *(info.image_shape or ()))
        more = (
            f'x = lvmzoo.load_images(["a.png", "b.png"], "{name}")  # any size and mode\n'
            "codes = model.encode(x)                    # (2, 8, 8) int64\n"
            "y = model.decode(codes)                    # in [0, 1]\n"
            f"{f'model.code_log_prob(codes{labels})':42} # nats\n"
            f"model.sample(64{labels}, temperature=0.9, top_p=0.95)\n"
            "top = torch.arange(8)[:, None].expand(8, 8) < 4\n"
            f"model.complete(x, top, n=8)                # {shape}\n"
        )
    elif info.image_shape:
        more = (
            f'x = lvmzoo.load_images(["a.png", "b.png"], "{name}")  # any size and mode\n'
            "z = model.encode(x)\n"
            "y = model.decode(z)                        # in [0, 1]\n"
            "model.elbo(x)                              # nats: elbo, reconstruction, kl\n"
        )
    if name not in list_models():
        return (
            f'{begin}model = lvmzoo.from_pretrained("{name}")\n'
            f"samples = model.sample(64)\n{more.replace(quoted, 'model')}```\n\n"
            f"```\nlvmzoo sample {name} -n 64 --seed 0 -o samples.png\n```"
        )
    return (
        f'{begin}model = lvmzoo.create_model("{name}", pretrained=True)\n'
        f"samples = model.sample(64)\n{more}```\n\n"
        "The same weights, with every source checked by SHA-256:\n\n```python\n"
        f'lvmzoo.from_pretrained("{name}")\nlvmzoo.{info.model_class}.from_pretrained("{name}")\n'
        f'torch.hub.load("<checkout or owner/lvmzoo>", "{name}", source="local", pretrained=True)\n'
        "```\n\n```\n"
        f"lvmzoo sample {name} -n 64 --seed 0 -o samples.png\n```"
    )


def _figures(record: dict[str, Any]) -> str:
    test = record["test"]
    rows = "\n".join(
        f"| {METRICS[key][0]} | {_number(key, value)} | {METRICS[key][1]} |"
        for key, value in _ordered(test["metrics"])
    )
    files = "file that is" if len(test["weights"]) == 1 else "files that are"
    return (
        f"## Figures\n\nMeasured on the {test['examples']:,} examples of the test split by "
        f"`python -m training.evaluate {test['entry']}`, on the {files} shipped.\n\n"
        f"| figure | test | |\n| --- | ---: | --- |\n{rows}"
    )


def _number(key: str, value: float) -> str:
    return f"{value:.0f}" if key == "codes_used" else f"{value:.4f}"


def _ordered(metrics: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(key, metrics[key]) for key in METRICS if key in metrics]


def _baseline(record: dict[str, Any]) -> str:
    if "baseline" not in record:
        return ""
    ours = record["validation"]["metrics"]
    plain = record["baseline"]["validation"]["metrics"]
    run = record["baseline"]["run"]
    best = f", its epoch {run['exported_epoch']} as the best" if "exported_epoch" in run else ""
    rows = "\n".join(
        f"| {METRICS[key][0]} | {value:.4f} | {plain[key]:.4f} |" for key, value in _ordered(ours)
    )
    return (
        "Beside the plain recipe (Adam, constant learning rate 1e-3, no average of weights, no "
        f"augmentation) of the same {run['recipe']['epochs']} epochs{best}, on "
        "the validation split, where all choices were made:\n\n"
        f"| figure | this recipe | plain recipe |\n| --- | ---: | ---: |\n{rows}"
    )


def _comparison(record: dict[str, Any]) -> str:
    if "comparison" not in record:
        return ""
    beside, ours = record["comparison"], record["test"]["metrics"]
    rows = "\n".join(
        f"| {METRICS[k][0]} | {ours[k]:.4f} | {v['other']:.4f} "
        f"| {v['difference']:+.4f} ± {v['standard_error']:.4f} |"
        for k, v in _ordered(beside["terms"])
    )
    shared = "the same codes" if "bits_per_code" in beside["terms"] else "same data and seed"
    return (
        f"Beside `{beside['entry']}` ({shared}, {_epochs(beside['epochs'])}), on the same "
        "test examples, with the paired standard error of the difference:\n\n"
        f"| figure | this entry | {beside['entry']} | difference |\n"
        f"| --- | ---: | ---: | ---: |\n{rows}"
    )


def _training(info: ModelInfo, record: dict[str, Any]) -> str:
    run = record["run"]
    entry, shared = run["entry"], shared_components(run["entry"])
    own = [part for component, part in records_of(run).items() if component not in shared]
    lines = [
        f"The {component} is that of `{other}`; its card says how it was trained."
        for component, other in shared.items()
    ]
    lines += [_part(info, part) for part in own]
    recipes = [
        f"Recipe{_of(part)} (`training/recipes/{entry}.toml`): "
        + ", ".join(f"{key} {value}" for key, value in sorted(_recipe(part).items()))
        + "."
        for part in own
    ]
    images = info.dataset if info.dataset != model_info(entry).dataset else ""
    command = train_command(entry, {component_of(part): part["recipe"] for part in own}, images)
    return "\n\n".join(["## Training", *lines, f"```\n{command}\n```", *recipes])


def _part(info: ModelInfo, run: dict[str, Any]) -> str:
    epochs, component, short = run["recipe"]["epochs"], component_of(run), ""
    if info.name == run["entry"]:
        full = read_recipe(info.name, component=component).epochs
        if epochs < full:
            what = run.get("component", "checkpoint")
            short = f"\n\n**This {what} is short of its recipe: {_epochs(epochs)} of {full}.**"
    name = f"{component.capitalize()}: " if "component" in run else ""
    best = ""
    if "exported_epoch" in run:
        best = f" The weights are those of epoch {run['exported_epoch']}, the best on validation."
    return (
        f"{name}{_epochs(epochs)} ({run['steps']:,} steps) over "
        f"{run['examples']:,} examples in {_time(run)} on {run['hardware']}, "
        f"seed {run['recipe']['seed']}, torch {run['versions']['torch']}.{best}{short}"
    )


def _recipe(run: dict[str, Any]) -> dict[str, Any]:
    return with_defaults(component_of(run), run["recipe"])


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count > 1)}"


def _of(run: dict[str, Any]) -> str:
    return f" of the {run['component']}" if "component" in run else ""


def _data(info: ModelInfo, record: dict[str, Any]) -> str:
    data = _data_set(info)
    source = record["run"]["data_source"]
    if info.image_shape is None:
        return f"## Data\n\n{data.title}, {source}: {gaussian_formula(info.dataset)}."
    return (
        f"## Data\n\n{data.title}: {source}. {data.source}; licence: {data.licence}. "
        f"{_caveat(source)}Classes: {', '.join(data.classes)}. "
        f"SHA-256 of the training split: `{record['run']['data'][:16]}…`."
    )


def _caveat(source: str) -> str:
    if source.startswith("a JPEG copy"):
        return (
            "Likelihoods and PSNR are therefore not comparable with the literature to the last "
            "digit. "
        )
    if "original test set" in source:
        return (
            "Nothing may be evaluated on SVHN's original test set with these weights: they have "
            "seen most of the digits used here, which come from it. "
        )
    return ""


def _bias(info: ModelInfo) -> str:
    if not info.image_shape:
        return ""
    return (
        " It knows nothing but its small data set, with that set's choice of subjects, places and "
        "photographers; it is for research and teaching."
    )


def _pictures(entry: str, folder: Path) -> str:
    found = [
        f"{title}:\n\n![{title}]({entry}_{kind}.png)"
        for kind, title in PICTURES.items()
        if (folder / f"{entry}_{kind}.png").exists()
    ]
    return "## Pictures\n\n" + "\n\n".join(found) if found else ""


def _licence(info: ModelInfo) -> str:
    files = "\n".join(
        f"| {file.name} | {file.size:,} | {file.dtype} | `{file.sha256}` |"
        for file in info.files.values()
    )
    return (
        f"## Files and licence\n\n| file | bytes | dtype | SHA-256 |\n| --- | ---: | --- | --- |\n"
        f"{files}\n\nCode and weights: {info.licence}. Data: {info.data_licence}."
    )


def _time(run: dict[str, Any]) -> str:
    seconds = run["seconds"]
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def table() -> str:
    """Return the README's tables of entries: one of VAEs, one of VQ-VAEs."""
    tables = []
    for is_vq, columns in (
        (False, "test ELBO, nats | KL, nats | quality"),
        (True, "PSNR, dB | codes in use, perplexity | bits per code (Markov)"),
    ):
        names = [n for n in list_models() if (model_info(n).model_class == "VQVAE") == is_vq]
        rows = [
            f"| entry | data | parameters | {columns} | trained |",
            "| --- | --- | ---: | ---: | ---: | ---: | --- |",
        ]
        tables.append("\n".join([*rows, *map(_row, names)]))
    return "\n\n".join(tables)


def _row(name: str) -> str:
    info = model_info(name)
    data, m = DATASETS[info.dataset].title, info.metrics
    if not info.pretrained:
        return f"| `{name}` | {data} | | | | | no weights yet |"
    run = read_record(name)["run"]
    if "bits_per_code" in m:
        cells = (
            f"{m['psnr']:.2f}",
            f"{m['codes_used']:.0f}, {m['perplexity']:.1f}",
            f"{m['bits_per_code']:.3f} ({m['markov_bits_per_code']:.3f})",
        )
    else:
        quality = f"PSNR {m['psnr']:.2f} dB" if "psnr" in m else ""
        quality = quality or f"gap {m['gap']:.4f} ± {m['gap_se']:.4f} nats"
        cells = f"{m['elbo']:.2f}", f"{m['kl']:.2f}", quality
    own = [part for part in records_of(run).values() if part["entry"] == name]
    trained = "; ".join(
        f"{part['component'] + ' ' if 'component' in part else ''}"
        f"{_epochs(part['recipe']['epochs'])}, {_time(part)}"
        for part in own
    )
    return (
        f"| [`{name}`](model_cards/{name}.md) | {data} | {info.parameters:,} "
        f"| {' | '.join(cells)} | {trained}, {run['hardware']} |"
    )


def update_readme() -> None:
    """Put the current table between the markers in the README."""
    path = ROOT / "README.md"
    before, rest = path.read_text().split(START)
    after = rest.split(END)[1]
    path.write_text(f"{before}{START}\n{table()}\n{END}{after}")
