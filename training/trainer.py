"""The state of a training run in memory, and one step of it."""

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lvmzoo.checkpoint import blank, check_component, read_component, submodule
from lvmzoo.loading import model_class
from lvmzoo.models.base import ZooModel
from training import checkpoints
from training.data import as_input, batch_size
from training.generators import generator_for
from training.run import RESERVE, Run


class TrainingError(RuntimeError):
    """Training cannot go on, or cannot begin on this device."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has units for bfloat16: a GPU, or a CPU with AMX or AVX512_BF16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch says it under private names only; one that it loses means float32.
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in tests)


class Trainer:
    """The state of a run in memory, and one step of it."""

    def __init__(self, run: Run) -> None:
        self.run, recipe = run, run.recipe
        if torch.are_deterministic_algorithms_enabled() != recipe.deterministic:
            torch.use_deterministic_algorithms(recipe.deterministic)  # imports the compiler
        self.accelerator = Accelerator(cpu=run.options.device == "cpu")
        device = self.accelerator.device
        if run.options.device == "cuda" and device.type != "cuda":
            raise TrainingError("no CUDA device is available")
        if recipe.batch_size % self.accelerator.num_processes:
            raise TrainingError(
                f"batch_size {recipe.batch_size} cannot be divided among "
                f"{self.accelerator.num_processes} processes"
            )
        torch.manual_seed(recipe.seed)
        cls = model_class(run.info.model_class)
        self.model: ZooModel = cls(run.config).train()
        self.model.to(device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for component, path in run.given.items():
            _load_component(self.model, component, path)
        self.begun_from = self._begin()
        objective = run.family.objectives[run.component]
        scratch = run.scratch if run.options.ahead else None
        deadline = run.options.deadline - RESERVE
        self.objective = objective(
            self.model, run.train, recipe, scratch=scratch, deadline=deadline
        )
        if self.begun_from and recipe.epochs:
            self.objective.adapt(generator_for(recipe.seed, "adapt", 0))
        elif recipe.epochs:
            self.objective.begin(generator_for(recipe.seed, "begin", 0))
        self.module = self.objective.module
        self.device = device
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
        module = torch.compile(self.module) if run.options.compile else self.module
        self.wrapped = self.accelerator.prepare_model(module)
        self.weights = self.module.state_dict()  # the parameters' own memory
        self.ema = {k: v.detach().clone() for k, v in self.weights.items()}
        self.best: dict[str, Tensor] = {}  # weights of the epoch with the lowest validation loss
        self.best_epoch, self.best_loss = 0, math.inf
        self.step = 0
        self.seconds = 0.0
        self.sums: dict[str, Tensor] = {}

    def _begin(self) -> dict[str, Any] | None:
        """Take the weights that the run is to begin from; return what a record says of them."""
        run = self.run
        begun_from = None
        if run.init is not None and run.identity["init"] is not None:
            begun_from = run.init.put_into(self.model, run.component)
        if not run.recipe.epochs:
            fresh = begun_from["fresh"] if begun_from else ["all of them"]
            if fresh:
                raise TrainingError(
                    f"with 0 epochs the {run.component} is that of --init, where all tensors must "
                    f"fit; these do not: {', '.join(fresh)}"
                )
        return begun_from

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

    @cached_property
    def precision(self) -> str:
        """The recipe's; "float32" where bfloat16 would only be emulated, at a crawl."""
        wanted = self.run.recipe.precision
        return "bf16" if wanted != "float32" and has_bfloat16(self.device) else "float32"

    def autocast(self) -> torch.autocast:
        """The precision of the run. Not Accelerate's, which is set once for a whole process."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def any_process(self, condition: bool) -> bool:
        """Whether a condition holds in any process: all must stop after the same step.

        Asked every step by one process alone, by several in every tenth: it waits for them all.
        """
        if self.accelerator.num_processes == 1:
            return condition
        if math.isinf(self.run.options.deadline) or self.step % 10:
            return False
        flag = torch.tensor(float(condition), device=self.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

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
            self.order = torch.randperm(len(self.run.train), generator=order)
        index = self.order[position * recipe.batch_size :][: recipe.batch_size]
        noise = self.objective.draw(len(index), generator_for(recipe.seed, "noise", self.step))
        part = slice(self.accelerator.process_index, None, self.accelerator.num_processes)
        mine = (rows[part].to(self.device, non_blocking=True) for rows in noise)
        return self.objective.batch(index[part], *mine)

    @torch.no_grad()
    def _average(self) -> None:
        # The decay grows with the steps, so that the average is not tied to the random start.
        decay = min(self.run.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        average = get_ema_multi_avg_fn(decay)  # one kernel on a GPU
        average([*self.ema.values()], [*self.weights.values()], self.step)

    def average(self) -> Mapping[str, Tensor]:
        """The weights as they are measured: averaged, if the recipe says so."""
        return self.ema if self.run.recipe.ema_decay else self.weights

    def exported(self, weights: Mapping[str, Tensor] | None = None) -> ZooModel:
        """Return the model as it will be used, in eval mode.

        Arguments:
            weights: Of the module that is trained; by default its average.
        """
        model = blank(type(self.model), self.model.config)
        prefix = "" if self.run.component == "model" else f"{self.run.component}."
        weights = self.average() if weights is None else weights
        source = self.model.state_dict() | {f"{prefix}{k}": v for k, v in weights.items()}
        model.load_state_dict({k: v.detach().clone() for k, v in source.items()}, assign=True)
        return model.to(self.device).eval()

    def keep_best(self, loss: float) -> None:
        """Take in the validation loss of an epoch that has just ended."""
        if self.run.recipe.export == "best" and loss < self.best_loss:
            self.best = {k: v.detach().clone() for k, v in self.average().items()}
            self.best_epoch, self.best_loss = self.step // self.run.steps_per_epoch, loss

    @torch.no_grad()
    def validate(self, model: ZooModel) -> dict[str, float]:
        """Mean training terms of `exported` weights over the validation split.

        The noise is the same every time.
        """
        split = self.run.validation
        module = submodule(model, self.run.component)
        sums: dict[str, float] = {}
        for i, x in enumerate(split.x.split(batch_size(split.x.shape))):
            x = as_input(x.to(self.device))
            generator = generator_for(0, "validation", i)
            arguments = self.objective.validation_batch(model, x, generator)
            with self.autocast():
                output = module(**arguments)
            for name, value in output._asdict().items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(x)
        return {name: value / len(split) for name, value in sums.items()}

    def save(self, log_bytes: int) -> None:
        """Write a checkpoint of this moment, unless the run has died (`check_finite`)."""
        self.check_finite()
        tensors = {f"model.{k}": v for k, v in self.weights.items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.items()}
        tensors |= {f"adam.{k}": v for k, v in checkpoints.pack_optimizer(self.optimizer).items()}
        tensors |= {f"sums.{k}": v for k, v in self.sums.items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        facts: dict[str, Any] = {"step": self.step, "seconds": self.seconds, "log_bytes": log_bytes}
        if self.best:
            facts |= {"best_epoch": self.best_epoch, "best_loss": self.best_loss}
        checkpoints.save(self.run.out, self.step, tensors, facts | self.run.identity)

    def check_finite(self) -> None:
        """Raise a `TrainingError` unless losses and weights are finite; this waits for the device.

        A step can end with a finite loss and ruined weights, which only the next loss would show.
        """
        died = ""
        if not math.isfinite(loss := self.sums["loss"].item() if self.sums else 0.0):
            died = f"the loss became {loss}"
        elif not all(value.isfinite().all() for value in self.weights.values()):
            died = "the weights became infinite or NaN"
        if died:
            raise TrainingError(
                f"{died} at or shortly before step {self.step}; the last good "
                "checkpoint is kept: lower lr or set grad_clip, with another --out"
            )

    def restore(self, saved: checkpoints.Saved) -> int:
        """Go back to a checkpoint of this very run; return how long the log was."""
        self.run.check_same(saved.facts)

        def part(prefix: str) -> dict[str, Tensor]:
            return {
                k.removeprefix(prefix): v for k, v in saved.tensors.items() if k.startswith(prefix)
            }

        self.module.load_state_dict(part("model."))
        for name, value in part("ema.").items():
            self.ema[name].copy_(value)
        checkpoints.unpack_optimizer(self.optimizer, part("adam."))
        self.sums = {k: v.to(self.device) for k, v in part("sums.").items()}
        self.best = {k: v.to(self.device) for k, v in part("best.").items()}
        if self.best:
            self.best_epoch = saved.facts["best_epoch"]
            self.best_loss = saved.facts["best_loss"]
        self.step, self.seconds = saved.facts["step"], saved.facts["seconds"]
        return int(saved.facts["log_bytes"])


def _load_component(model: ZooModel, name: str, path: Path) -> None:
    """Put a finished component into a model that is to get the others."""
    component = read_component(path)
    check_component(model, name, component, "this run")
    module = submodule(model, name)
    module.load_state_dict(component.tensors)
    module.requires_grad_(False)
