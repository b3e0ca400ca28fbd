"""Train an entry from its recipe: `python -m training.train NAME`."""

import json
import math
import platform
import re
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from accelerate import Accelerator, PartialState
from torch import Tensor
from tqdm import tqdm

import lvmzoo
from lvmzoo.checkpoint import CheckpointError, config_dict, submodule
from lvmzoo.files import atomic_file
from lvmzoo.models import model_class
from lvmzoo.models.base import ZooModel
from lvmzoo.registry import DATASETS, ModelInfo, model_info
from training import parts, state
from training.data import Split, load_folder, load_split, sha256
from training.objectives import OBJECTIVES
from training.options import data_option, failing_cleanly, images_option
from training.recipe import KINDS, Recipe, read_recipe, shared_components

__all__ = ["Run", "fit", "fit_entry", "generator_for"]

LOG, RECORD = "log.jsonl", "run.json"
_OURS = re.compile(r"checkpoint-.*|.*\.safetensors|log\.jsonl|.*\.json|.*\.png|README\.md")


@dataclass(frozen=True)
class Run:
    """One training run: what is trained, on what, how, and where it is written."""

    info: ModelInfo
    recipe: Recipe
    train: Split
    validation: Split
    out: Path
    device: str = "auto"
    checkpoint_every: float = 120.0
    time_limit: float = math.inf
    component: str = "model"
    given: Mapping[str, Path] = field(default_factory=dict)  # components trained before

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the training set; a set smaller than a batch makes one."""
        return max(1, len(self.train) // self.recipe.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps in the whole run."""
        return self.recipe.epochs * self.steps_per_epoch

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be continued."""
        identity = {
            "entry": self.info.name,
            "recipe": asdict(self.recipe),
            "data": sha256(self.train),
            "config": json.loads(json.dumps(dict(self.info.config))),
        }
        if self.component != "model":
            identity |= {"component": self.component, "given": parts.sha256_of(self.given)}
        return identity


def generator_for(seed: int, stream: str, index: int) -> torch.Generator:
    """Return the generator of one step or epoch: a function of its arguments alone.

    Nothing is carried from step to step, hence a resumed run draws what an undisturbed one
    would have drawn, and every process of a distributed run draws the whole batch's noise.
    """
    entropy = np.random.SeedSequence([seed, *stream.encode(), index])
    return torch.Generator().manual_seed(int(entropy.generate_state(1)[0]))


class Trainer:
    """The state of a run in memory, and one step of it."""

    def __init__(self, run: Run) -> None:
        self.run, recipe = run, run.recipe
        if torch.are_deterministic_algorithms_enabled() != recipe.deterministic:
            torch.use_deterministic_algorithms(recipe.deterministic)  # imports the compiler
        self.accelerator = Accelerator(cpu=run.device == "cpu")
        device = self.accelerator.device
        if run.device == "cuda" and device.type != "cuda":
            raise click.UsageError("--device cuda: no CUDA device is available")
        if recipe.batch_size % self.accelerator.num_processes:
            raise click.UsageError(
                f"batch_size {recipe.batch_size} cannot be divided among "
                f"{self.accelerator.num_processes} processes"
            )
        torch.manual_seed(recipe.seed)
        cls = model_class(run.info.model_class)
        self.model: ZooModel = cls(cls.Config(**run.info.config)).train()
        self.model.to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        parts.load_parts(self.model, run.given)
        self.objective = OBJECTIVES[run.component](self.model, run)
        self.module = self.objective.module
        self.device = device
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=recipe.lr, fused=True)
        self.wrapped = self.accelerator.prepare_model(self.module)
        self.ema = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
        self.step = 0
        self.seconds = 0.0
        self.sums: dict[str, Tensor] = {}

    def advance(self) -> None:
        """Take one step. Waits for nothing that the device computes."""
        recipe = self.run.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        beside = generator_for(recipe.seed, "beside", self.step)
        self.objective.before_step(self.step, self.run.total_steps, beside)
        arguments = self._batch()
        with self.autocast():
            output = self.wrapped(**arguments)
        self.optimizer.zero_grad()
        self.accelerator.backward(output.loss)
        if recipe.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), recipe.grad_clip)
        self.optimizer.step()
        self._average()
        for name, value in output._asdict().items():
            value = value.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.step += 1

    def autocast(self) -> torch.autocast:
        """The precision of the recipe. Not Accelerate's, which is set once for a whole process."""
        enabled = self.run.recipe.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def learning_rate(self) -> float:
        """The rate of the coming step."""
        recipe = self.run.recipe
        rate = recipe.lr * min(1.0, (self.step + 1) / max(1, recipe.warmup_steps))
        if recipe.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * self.step / self.run.total_steps))
        return rate

    def _batch(self) -> dict[str, Any]:
        """This process's part of the batch, and of the noise drawn for all of it."""
        recipe = self.run.recipe
        epoch, position = divmod(self.step, self.run.steps_per_epoch)
        if position == 0 or not hasattr(self, "order"):
            order = generator_for(recipe.seed, "order", epoch)
            self.order = torch.randperm(len(self.run.train), generator=order).to(self.device)
        index = self.order[position * recipe.batch_size :][: recipe.batch_size]
        noise = self.objective.draw(len(index), generator_for(recipe.seed, "noise", self.step))
        part = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        mine = (rows[part].to(self.device, non_blocking=True) for rows in noise)
        return self.objective.batch(index[part], *mine)

    @torch.no_grad()
    def _average(self) -> None:
        # The decay grows with the steps, so that the average is not tied to the random start.
        decay = min(self.run.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        for name, value in self.module.state_dict().items():
            self.ema[name].lerp_(value, 1 - decay)

    def exported(self) -> ZooModel:
        """Return the model as it will be used: averaged weights, eval mode."""
        cls = type(self.model)
        with torch.device("meta"):
            model = cls(self.model.config)
        source = self.model.state_dict()
        if self.run.recipe.ema_decay:
            prefix = "" if self.run.component == "model" else f"{self.run.component}."
            source |= {f"{prefix}{k}": v for k, v in self.ema.items()}
        model.load_state_dict({k: v.detach().clone() for k, v in source.items()}, assign=True)
        return model.to(self.device).eval()  # constants are on the CPU until now

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean training terms over the validation split, the same noise every time."""
        model, split = self.exported(), self.run.validation
        module = submodule(model, self.run.component)
        sums: dict[str, float] = {}
        for i, x in enumerate(split.x.split(500)):
            x = x.to(self.device)
            x = x.float() / 255 if x.dtype == torch.uint8 else x
            generator = generator_for(0, "validation", i)
            arguments = self.objective.validation_batch(model, x, generator)
            with self.autocast():
                output = module(**arguments)
            for name, value in output._asdict().items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(x)
        return {name: value / len(split) for name, value in sums.items()}

    def save(self, log_bytes: int) -> None:
        """Write a checkpoint of this moment, unless the loss has died.

        Raises:
            CheckpointError: It is not finite; the checkpoints before it stay.
        """
        self.check_loss()
        tensors = {f"model.{k}": v for k, v in self.module.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.items()}
        tensors |= {f"adam.{k}": v for k, v in state.pack_optimizer(self.optimizer).items()}
        tensors |= {f"sums.{k}": v for k, v in self.sums.items()}
        facts = {"step": self.step, "seconds": self.seconds, "log_bytes": log_bytes}
        state.save(self.run.out, self.step, tensors, facts | self.run.identity)

    def check_loss(self) -> None:
        """Look at the losses since the last epoch; this waits for the device.

        Raises:
            CheckpointError: One was not finite.
        """
        loss = self.sums["loss"].item() if self.sums else 0.0
        if not math.isfinite(loss):
            raise CheckpointError(
                f"the loss became {loss} at or shortly before step {self.step}; the last good "
                "checkpoint is kept: lower lr or set grad_clip, with another --out"
            )

    def restore(self, saved: state.Saved) -> int:
        """Go back to a checkpoint; return how long the log was.

        Raises:
            CheckpointError: It belongs to another run.
        """
        check_same(self.run.identity, saved.facts, self.run.out)

        def part(prefix: str) -> dict[str, Tensor]:
            return {
                k.removeprefix(prefix): v for k, v in saved.tensors.items() if k.startswith(prefix)
            }

        self.module.load_state_dict(part("model."))
        for name, value in part("ema.").items():
            self.ema[name].copy_(value)
        state.unpack_optimizer(self.optimizer, part("adam."))
        self.sums = {k: v.to(self.device) for k, v in part("sums.").items()}
        self.step, self.seconds = saved.facts["step"], saved.facts["seconds"]
        return int(saved.facts["log_bytes"])


def fit(run: Run) -> bool:
    """Train until the run is complete or its time is up, resuming from what `run.out` holds.

    Returns:
        Whether the run is complete; then `run.out` holds the weights and a record.
    """
    trainer = Trainer(run)
    saved = state.load_latest(run.out)
    log_bytes = trainer.restore(saved) if saved else 0
    started = last_saved = time.monotonic()
    earlier = trainer.seconds
    with (run.out / LOG).open("ab") as log:
        log.truncate(log_bytes)
        bar = tqdm(total=run.total_steps, initial=trainer.step, unit="step", disable=None)
        while trainer.step < run.total_steps:
            trainer.advance()
            bar.update()
            now = time.monotonic()
            trainer.seconds = earlier + now - started
            if trainer.step % run.steps_per_epoch == 0:
                _log_epoch(trainer, log, bar)
            done = trainer.step == run.total_steps
            late = now - started >= run.time_limit
            if done or late or now - last_saved >= run.checkpoint_every:
                if trainer.accelerator.is_main_process:
                    trainer.save(log.tell())
                last_saved = time.monotonic()
            if late and not done:
                break
        bar.close()
    if trainer.step < run.total_steps:
        print(f"stopped at step {trainer.step} of {run.total_steps}; go on with --resume")
        return False
    if trainer.accelerator.is_main_process:
        _finish(trainer)
    trainer.accelerator.wait_for_everyone()  # the next component's run reads the file
    return True


def _log_epoch(trainer: Trainer, log: Any, bar: Any) -> None:
    run = trainer.run
    trainer.check_loss()
    means = {k: v.item() / run.steps_per_epoch for k, v in trainer.sums.items()}
    trainer.sums = {}
    line: dict[str, Any] = {
        "epoch": trainer.step // run.steps_per_epoch,
        "step": trainer.step,
        "lr": trainer.learning_rate(),
        "seconds": round(trainer.seconds, 1),
        "train": means,
        "validation": trainer.validate(),
    }
    if not trainer.accelerator.is_main_process:
        return
    log.write(json.dumps(line).encode() + b"\n")
    log.flush()
    bar.write(
        f"epoch {line['epoch']}/{run.recipe.epochs}  train {means['loss']:.4f}  "
        f"validation {line['validation']['loss']:.4f}  {trainer.seconds:.0f} s"
    )


def _finish(trainer: Trainer) -> None:
    """Write the weights as a folder that `lvmzoo.from_pretrained` loads, and the record."""
    run, recipe = trainer.run, trainer.run.recipe
    model = trainer.exported()
    data = model.serialize(run.component, getattr(torch, recipe.dtype))
    with atomic_file(run.out / f"{run.component}.safetensors") as temporary:
        temporary.write_bytes(data)
    if (run.component,) == model.COMPONENTS:
        parts.write_config(run.out, model)
    record = run.identity | {
        "config": config_dict(model.config),
        "steps": run.total_steps,
        "examples": len(run.train),
        "data_source": run.train.source,
        "seconds": round(trainer.seconds, 1),
        "hardware": _hardware(trainer.device),
        "processes": trainer.accelerator.num_processes,
        "versions": {"lvmzoo": lvmzoo.__version__, "torch": torch.__version__},
        "command": f"python -m training.train {shlex.join(sys.argv[1:])}",
        "validation": trainer.validate(),
    }
    with atomic_file(run.out / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    print(f"finished: {run.out}")


def read_run(out: Path) -> dict[str, Any]:
    """Return the record of a finished run."""
    record: dict[str, Any] = json.loads((out / RECORD).read_text())
    return record


def fit_entry(run: Run, settings: Iterable[str] = (), *, baseline: bool = False) -> bool:
    """Train every component of an entry in turn, going on with what `run.out` holds.

    A model of one component is trained in `run.out` itself. Others have a folder in it for each
    component, and are put together when all are finished; a component that the recipe takes from
    another entry is looked for beside `run.out`.

    Arguments:
        run: The run of the last component, by the entry's own recipe.
        settings: As for `read_recipe`.
        baseline: As for `read_recipe`.

    Returns:
        Whether the entry is complete.
    """
    name, started = run.info.name, time.monotonic()
    components = model_class(run.info.model_class).COMPONENTS
    if len(components) == 1:
        return fit(run)
    trained, shared = False, shared_components(name)
    files = {c: parts.find_shared(c, shared[c], run.out.parent) for c in components if c in shared}
    for component in components:
        if component in files:
            continue
        recipe = read_recipe(name, settings, baseline=baseline, component=component)
        out = run.out / component
        left = run.time_limit - (time.monotonic() - started)
        part = replace(run, recipe=recipe, out=out, time_limit=left, component=component)
        part = replace(part, given=dict(files))
        out.mkdir(exist_ok=True)
        if (out / RECORD).exists():
            check_same(part.identity, read_run(out), out)
        elif (trained and left <= 0) or not fit(part):
            return False
        else:
            trained = True
        files[component] = out / f"{component}.safetensors"
    if PartialState().is_main_process:
        parts.put_together(run.out, files)
    return True


def check_same(identity: Mapping[str, Any], found: Mapping[str, Any], out: Path) -> None:
    """Check that a checkpoint or record is of this run.

    Raises:
        CheckpointError: It is of another.
    """
    for key, value in identity.items():
        there, differs = found.get(key), key
        if isinstance(value, dict) and isinstance(there, dict):
            names = [k for k in value if there.get(k) != value[k]]
            if not names:
                continue
            differs = f"{key} ({', '.join(names)})"
        if there != value:
            raise CheckpointError(
                f"cannot resume {out}: its {differs} differs from this run's; "
                "use another --out, or --overwrite"
            )


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"an {platform.machine()} CPU, {threads} thread{'s' * (threads > 1)}"


def prepare_out(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Make the output folder, refusing one with content unless told what to do with it."""
    out.mkdir(parents=True, exist_ok=True)
    content = sorted(out.iterdir())
    if overwrite:
        for path in [*content, *(p for c in KINDS for p in (out / c).glob("*"))]:
            if path.is_file() and _OURS.fullmatch(path.name):
                path.unlink()
    elif content and not resume:
        raise click.UsageError(f"{out} is not empty: give --resume, --overwrite or another --out")


def parse_duration(text: str) -> float:
    """Return the seconds in "90s", "9m", "1.5h" or a plain number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise click.BadParameter(f"{text!r} is not a duration like 90s, 9m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


@click.command()
@click.argument("name")
@data_option
@images_option
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--out", type=click.Path(path_type=Path), help="Default: runs/NAME.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
@click.option("--baseline", is_flag=True, help="The plain recipe that the card compares with.")
@click.option("--resume", is_flag=True, help="Continue what --out holds, or start.")
@click.option("--overwrite", is_flag=True, help="Remove an earlier run from --out.")
@click.option("--time-limit", default="inf", help="Stop cleanly before this, e.g. 9m.")
@click.option("--checkpoint-every", default="2m", show_default=True)
@failing_cleanly
def main(
    name: str,
    data: Path,
    images: Path | None,
    device: str,
    out: Path | None,
    settings: tuple[str, ...],
    baseline: bool,
    resume: bool,
    overwrite: bool,
    time_limit: str,
    checkpoint_every: str,
) -> None:
    """Train the entry NAME from its recipe."""
    if resume and overwrite:
        raise click.UsageError("--resume and --overwrite exclude each other")
    info = model_info(name)
    recipe = read_recipe(name, settings, baseline=baseline)
    out = out or Path("runs") / (f"{name}.baseline" if baseline else name)
    limit = math.inf if time_limit == "inf" else parse_duration(time_limit)
    started = time.monotonic()
    train, validation = load_training_data(info, recipe, data, images)
    if images is not None:
        config = {**info.config, "classes": train.classes, "dataset": images.resolve().name}
        info = replace(info, config=config, classes=train.classes)
    prepare_out(out, resume=resume, overwrite=overwrite)
    if resume and (out / RECORD).exists():
        print(f"{out} is finished; nothing to do")
        return
    limit -= time.monotonic() - started
    every = parse_duration(checkpoint_every)
    run = Run(info, recipe, train, validation, out, device, every, limit)
    fit_entry(run, settings, baseline=baseline)


def load_training_data(
    info: ModelInfo, recipe: Recipe, root: Path, images: Path | None
) -> tuple[Split, Split]:
    """Load the training and validation splits, of the data set or of one's own pictures."""
    if images is None:
        return (
            load_split(info.dataset, recipe.train_on, root),
            load_split(info.dataset, "validation", root),
        )
    if info.image_shape is None:
        raise click.UsageError(f"--images: {info.name} is a model of points")
    data = DATASETS[info.dataset]
    return load_folder(images, recipe.train_on, data), load_folder(images, "validation", data)


if __name__ == "__main__":
    main()
