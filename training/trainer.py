"""The state of a training run in memory, and one step of it."""

import copy
import math
import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lvmzoo.checkpoint import check_component, read_component, submodule
from lvmzoo.loading import model_class
from lvmzoo.models.base import ZooModel
from training import checkpoints
from training.augment import generator_for
from training.data import as_input, batch_size
from training.families.base import upload
from training.records import InitRecord
from training.run import RESERVE, Run, TrainingError


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has units for bfloat16: a GPU, or a CPU with AMX or AVX512_BF16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch tells it by private names only; if it loses one, that means float32.
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in tests)


def processes_on(device: str) -> PartialState:
    """Return the processes that train together; "auto" is a GPU only if that is CUDA's.

    Of Accelerate this takes which processes there are and on which GPU each works. Precision and
    accumulation are the recipe's, whatever `accelerate config` has stored.
    """
    return PartialState(cpu=device == "cpu" or not torch.cuda.is_available())


class Trainer:
    """The state of a run in memory, and one step of it."""

    def __init__(self, run: Run) -> None:
        self.run, recipe = run, run.recipe
        self._set_deterministic(recipe.deterministic)
        self.processes = processes_on(run.options.device)
        # A process that has a GPU may take some steps on the CPU, too.
        on_cpu = run.options.device == "cpu"
        self.device = torch.device("cpu") if on_cpu else self.processes.device
        if run.batch < self.processes.num_processes:
            raise TrainingError(
                f"{run.batch} examples in a batch are too few for "
                f"{self.processes.num_processes} processes"
            )
        torch.manual_seed(recipe.seed)
        self.model: ZooModel = model_class(run.info.model_class)(run.config).train()
        self.model.to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for component, path in run.given.items():
            _load_component(self.model, component, path)
        self.begun_from: InitRecord | None = None
        if run.init is not None and run.identity["init"] is not None:
            self.begun_from = run.init.copy_into(self.model, run.component)
        self.objective = run.objective(
            self.model,
            run.train,
            recipe,
            scratch=run.scratch if run.options.encode_ahead else None,
            deadline=run.options.deadline - RESERVE,
        )
        if recipe.epochs:
            adapt, begin = self.objective.adapt, self.objective.begin
            how, stream = (adapt, "adapt") if self.begun_from else (begin, "begin")
            how(generator_for(recipe.seed, stream, 0))
        self.module = self.objective.module
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
        self.wrapped = self._wrap()
        self.weights = self.module.state_dict()  # the parameters' own memory
        self.ema = {k: v.detach().clone() for k, v in self.weights.items()}
        self.best: dict[str, Tensor] = {}  # weights of the epoch with the lowest validation loss
        self.best_epoch, self.best_loss = 0, math.inf
        self.step = 0
        self.seconds = 0.0
        self.sums: dict[str, Tensor] = {}  # of the terms of the loss in this epoch
        self.order = torch.empty(0)  # of the examples in this epoch

    def _set_deterministic(self, wanted: bool) -> None:
        if wanted:  # what cuBLAS needs for it
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if torch.are_deterministic_algorithms_enabled() != wanted:
            torch.use_deterministic_algorithms(wanted)  # imports the compiler

    def _wrap(self) -> nn.Module:
        """Return the module as it is called in a step: compiled and distributed, if need be."""
        module: nn.Module = self.module
        if self.run.options.compile:
            module = torch.compile(module)  # type: ignore[assignment]
        if self.processes.num_processes > 1:
            ids = [self.device] if self.device.type == "cuda" else None
            module = DistributedDataParallel(module, device_ids=ids)
        return module

    def advance(self) -> None:
        """Take one step. Waits for nothing that the device computes."""
        recipe = self.run.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        generator = generator_for(recipe.seed, "beside", self.step)
        self.objective.before_step(self.step, self.run.total_steps, generator)
        arguments, weight = self._batch()
        with self.autocast():
            output = self.wrapped(**arguments)
        self.optimizer.zero_grad()
        (weight * output.loss).backward()
        if recipe.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), recipe.grad_clip)
        self.optimizer.step()
        self._average()
        for name, value in output._asdict().items():
            value = weight * value.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.step += 1

    def _batch(self) -> tuple[dict[str, Any], float]:
        """Return this process's part of the batch, and the weight of its mean loss.

        Of all noise each process draws the whole and takes its part. The parts may differ by an
        example, so that the mean over processes is that over examples only if it is weighted.
        """
        seed, size = self.run.recipe.seed, self.run.batch
        epoch, position = divmod(self.step, self.run.steps_per_epoch)
        if position == 0 or not len(self.order):
            generator = generator_for(seed, "order", epoch)
            order = torch.randperm(len(self.run.train), generator=generator)
            self.order = upload(order, self.objective.index_device)
        rank, count = self.processes.process_index, self.processes.num_processes
        index = self.order[position * size :][:size][rank::count]
        noise = self.objective.draw(size, generator_for(seed, "noise", self.step))
        mine = (upload(rows[rank::count], self.device) for rows in noise)
        return self.objective.batch(index, *mine), len(index) * count / size

    @cached_property
    def precision(self) -> str:
        """The recipe's; "float32" where bfloat16 would only be emulated, which takes longer."""
        wanted = self.run.recipe.precision
        return "bf16" if wanted != "float32" and has_bfloat16(self.device) else "float32"

    def autocast(self) -> torch.autocast:
        """Run what is within in the precision of the run."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def learning_rate(self) -> float:
        """Return the rate of the coming step."""
        recipe = self.run.recipe
        rate = recipe.lr * min(1.0, (self.step + 1) / max(1, recipe.warmup_steps))
        if recipe.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * self.step / self.run.total_steps))
        return rate

    @torch.no_grad()
    def _average(self) -> None:
        # The decay grows with the steps, so that the average is not tied to the random start.
        decay = min(self.run.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        average = get_ema_multi_avg_fn(decay)  # one kernel on a GPU
        average([*self.ema.values()], [*self.weights.values()], self.step)

    def any_process(self, condition: bool) -> bool:
        """Whether a condition holds in any process: all must stop after the same step.

        One process alone asks at every step, several at every tenth: each waits for all.
        """
        if self.processes.num_processes == 1:
            return condition
        if math.isinf(self.run.options.deadline) or self.step % 10:
            return False
        flag = torch.tensor(float(condition), device=self.device)
        return bool(reduce(flag, "sum") > 0)

    def average(self) -> Mapping[str, Tensor]:
        """Return the weights as they are measured: averaged, if the recipe says so."""
        return self.ema if self.run.recipe.ema_decay else self.weights

    def exported(self, weights: Mapping[str, Tensor] | None = None) -> ZooModel:
        """Return the model as it will be used, in eval mode.

        Arguments:
            weights: Of the module that is trained; by default its average.
        """
        model = copy.deepcopy(self.model)
        weights = self.average() if weights is None else weights
        submodule(model, self.run.component).load_state_dict(weights)
        return model.eval()

    def mean_terms(self) -> dict[str, float]:
        """Return the mean terms of the loss in the epoch that ends, over all processes."""
        sums = self.sums
        if self.processes.num_processes > 1:
            sums = reduce(sums, "mean")
        self.sums = {}
        return {name: value.item() / self.run.steps_per_epoch for name, value in sums.items()}

    def keep_best(self, loss: float) -> None:
        """Take note of the validation loss of an epoch that has just ended."""
        if self.run.recipe.export == "best" and loss < self.best_loss:
            self.best = {k: v.detach().clone() for k, v in self.average().items()}
            self.best_epoch, self.best_loss = self.step // self.run.steps_per_epoch, loss

    @torch.no_grad()
    def validate(self, model: ZooModel) -> dict[str, float]:
        """Return the mean terms of the loss of an exported model over the validation split.

        The noise is the same every time.
        """
        split = self.run.validation
        module = submodule(model, self.run.component)
        sums: dict[str, Tensor] = {}
        for i, x in enumerate(split.x.split(batch_size(split.x.shape))):
            x = as_input(upload(x, self.device))
            generator = generator_for(0, "validation", i)
            arguments = self.objective.validation_batch(model, x, generator)
            with self.autocast():
                output = module(**arguments)
            for name, value in output._asdict().items():
                sums[name] = sums.get(name, 0) + value.double() * len(x)
        return {name: value.item() / len(split) for name, value in sums.items()}

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

    def restore(self, saved: checkpoints.Checkpoint) -> int:
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


def _load_component(model: ZooModel, name: str, path: Any) -> None:
    """Put a finished component into a model that is to get the others."""
    component = read_component(path)
    check_component(model, name, component, "this run")
    module = submodule(model, name)
    module.load_state_dict(component.tensors)
    module.requires_grad_(False)
