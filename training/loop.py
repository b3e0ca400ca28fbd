"""The training loop: steps until a run is complete or its time is up."""

import json
import os
import platform
import shutil
import time
from pathlib import Path
from typing import IO, Any

import torch
from accelerate import PartialState
from tqdm import tqdm

import lvmzoo
from lvmzoo.checkpoint import component_bytes, config_dict
from lvmzoo.files import atomic_file, write_json
from training import checkpoints
from training.data import UnfinishedError
from training.run import RECORD, RESERVE, EntryRun, Run, commit, sha256_of, write_config
from training.trainer import Trainer

LOG = "log.jsonl"


class _Clock:
    """When a run must stop, and when a checkpoint is due."""

    def __init__(self, run: Run, earlier: float) -> None:
        self.options, self.earlier = run.options, earlier
        self.started = self.saved = self.now = time.monotonic()
        self.longest = 0.0

    def tick(self) -> float:
        """Note that a step has ended; return how many seconds the run has taken so far."""
        before, self.now = self.now, time.monotonic()
        self.longest = max(self.longest, self.now - before)
        return self.earlier + self.now - self.started

    @property
    def late(self) -> bool:
        """Whether the next step might end too late, were it to take as long as the longest."""
        return is_late(self.options.deadline, self.longest)

    @property
    def checkpoint_due(self) -> bool:
        """Whether the last checkpoint is old enough."""
        return self.now - self.saved >= self.options.checkpoint_every


def is_late(deadline: float, seconds: float = 0.0) -> bool:
    """Whether work of so many seconds might end less than `RESERVE` before a deadline."""
    return time.monotonic() + seconds + RESERVE >= deadline


def fit(run: Run) -> bool:
    """Train until the run is complete or its time is up, resuming from what `run.out` holds.

    It takes one step at least. The longest step so far, by which it judges whether there is time
    for another, is measured with validation and checkpoint.

    Returns:
        Whether the run is complete; then `run.out` holds the weights and a record.
    """
    trainer = Trainer(run)
    main = trainer.accelerator.is_main_process
    if run.recipe.precision == "bf16" and trainer.precision != "bf16":
        # Whoever plans by the times on the cards is to know before the first epoch is over.
        trainer.accelerator.print(
            f"the {run.component} trains in {trainer.precision}, which takes longer: bfloat16 "
            "would only be emulated here"
        )
    if main:
        checkpoints.sweep(run.out)
    saved = checkpoints.load_latest(run.out)
    log_bytes = trainer.restore(saved) if saved else 0
    clock = _Clock(run, trainer.seconds)
    with (run.out / LOG if main else Path(os.devnull)).open("ab") as log:
        if main:
            log.truncate(log_bytes)
        hidden = None if main else True
        bar = tqdm(total=run.total_steps, initial=trainer.step, unit="step", disable=hidden)
        while trainer.step < run.total_steps:
            trainer.advance()
            bar.update()
            trainer.seconds = clock.tick()
            if trainer.step % run.steps_per_epoch == 0:
                _log_epoch(trainer, log, bar)
            late = trainer.any_process(clock.late)
            if late or clock.checkpoint_due or trainer.step == run.total_steps:
                if main:
                    trainer.save(log.tell())
                clock.saved = time.monotonic()
            if late:
                break
        bar.close()
    if trainer.step < run.total_steps:
        rest = trainer.seconds / trainer.step * (run.total_steps - trainer.step)
        trainer.accelerator.print(
            f"stopped at step {trainer.step} of {run.total_steps} of the {run.component}, "
            f"about {tqdm.format_interval(rest)} before its end; go on with --resume"
        )
        return False
    if main:
        _finish(trainer)
    trainer.accelerator.wait_for_everyone()  # the next component's run reads the file
    return True


def fit_entry(entry: EntryRun) -> bool:
    """Train every component of an entry in turn, going on with what its folder holds.

    Returns:
        Whether the entry is complete; then its folder holds the files of all components.
    """
    trained = False
    for run in entry.runs:
        run.out.mkdir(exist_ok=True)
        if run.finished:
            continue
        if trained and is_late(run.options.deadline):
            PartialState().print(f"stopped before the {run.component}; go on with --resume")
            return False
        try:
            if not fit(run):
                return False
        except UnfinishedError as error:
            PartialState().print(
                f"stopped before the {run.component} ({error}); go on with --resume"
            )
            return False
        trained = True
    if PartialState().is_main_process:
        entry.assemble()
    PartialState().print(f"{entry.out} is complete" if trained else f"{entry.out} was complete")
    return True


def _log_epoch(trainer: Trainer, log: IO[bytes], bar: Any) -> None:
    run = trainer.run
    trainer.check_finite()
    sums = trainer.accelerator.reduce(trainer.sums, "mean")  # each process has summed its part
    means = {k: v.item() / run.steps_per_epoch for k, v in sums.items()}
    trainer.sums = {}
    validation = trainer.validate(trainer.exported())
    trainer.keep_best(validation["loss"])
    if not trainer.accelerator.is_main_process:
        return
    line: dict[str, Any] = {
        "epoch": trainer.step // run.steps_per_epoch,
        "step": trainer.step,
        "lr": trainer.learning_rate(),
        "seconds": round(trainer.seconds, 1),
        "train": means,
        "validation": validation,
    }
    log.write(json.dumps(line).encode() + b"\n")
    log.flush()
    bar.write(
        f"epoch {line['epoch']}/{run.recipe.epochs}  train {means['loss']:.4f}  "
        f"validation {validation['loss']:.4f}  {trainer.seconds:.0f} s"
    )


def _finish(trainer: Trainer) -> None:
    """Write the weights as a folder that `lvmzoo.from_pretrained` loads, and the record."""
    run, recipe = trainer.run, trainer.run.recipe
    model = trainer.exported(trainer.best or None)
    dtype = getattr(torch, recipe.dtype)
    data = component_bytes(model, run.component, dtype, sha256_of(run.given))
    with atomic_file(run.file) as temporary:
        temporary.write_bytes(data)
    record = run.identity | {
        "variants": run.variants,
        "settings": run.settings,
        "options": run.words,
        "begun_from": trainer.begun_from,
        "commit": commit(),
        "config": config_dict(model.config),
        "steps": run.total_steps,
        "examples": len(run.train),
        "data_source": run.train.source,
        "data_caveat": run.train.caveat,
        "own_pictures": run.train.own,
        "seconds": round(trainer.seconds, 1),
        "hardware": _hardware(trainer.device),
        "precision": trainer.precision,
        "compiled": run.options.compile,
        "processes": trainer.accelerator.num_processes,
        "versions": {"lvmzoo": lvmzoo.__version__, "torch": torch.__version__},
        "validation": trainer.validate(model),
    }
    if trainer.best:
        record["exported_epoch"] = trainer.best_epoch
    if (run.component,) == model.COMPONENTS:
        write_config(run.out, record)
    write_json(run.out / RECORD, record)
    shutil.rmtree(run.scratch, ignore_errors=True)
    print(f"finished: {run.out}")


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"an {platform.machine()} CPU, {threads} thread{'s' * (threads > 1)}"
