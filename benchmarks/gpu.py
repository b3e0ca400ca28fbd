"""What a GPU does beside the CPU of its machine, in ten minutes: `python -m benchmarks.gpu`.

Training steps of every family, sampling, encoding, memory, and a run that is killed and resumed.
Prints a markdown table to send back. Without a GPU, `--device cpu --quick` shows that it runs.
"""

import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from PIL import Image

import lvmzoo
from benchmarks._harness import ROOT, Settings, Work, check_device, run_process, seconds

ENTRIES = (
    "vae2d_gaussian1",
    "vae_bmnist",
    "vae_cifar10",
    "vlae_cifar10",
    "vqvae_cifar10",
    "vqvae_gated_cifar10",
)
Line = tuple[str, ...]


@click.command()
@click.option("--device", default="cuda", show_default=True)
@click.option("--quick", is_flag=True, help="Least sizes: does it run at all?")
def main(device: str, quick: bool) -> None:
    """Print a markdown table: this device beside the CPU."""
    check_device(device)
    settings = Settings(device, quick)
    click.echo(_machine(device) + "\n")
    for title, rows in (
        ("training, images a second | CPU | # | #, bfloat16 | and compiled | peak, MiB", _training),
        ("sampling, pictures a second | CPU | # | ratio | peak, MiB", _sampling),
        ("encoding, pictures a second | CPU | # | ratio | equal results", _encoding),
        ("a run that is killed | #", _resuming),
    ):
        click.echo(f"| {title.replace('#', device)} |\n| --- |{' ---: |' * title.count('|')}")
        for row in rows(settings):
            click.echo(f"| {' | '.join(row)} |")
        click.echo()


def _machine(device: str) -> str:
    name = platform.processor() or platform.machine()
    if device.startswith("cuda"):
        name = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, beside {name}"
    return (
        f"{name} with {torch.get_num_threads()} threads; lvmzoo {lvmzoo.__version__}, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )


def _rate(work: Work, count: int, settings: Settings) -> float:
    """Return how many things a work does a second, by the median of five times."""
    work()  # compiles, chooses kernels, records graphs
    taken = [seconds(work, settings.device) for _ in range(settings.pick(5, 1))]
    return count / median(taken)


def _peak(work: Work, device: str) -> str:
    if not device.startswith("cuda"):
        return "-"
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return f"{torch.cuda.max_memory_allocated(device) / 2**20:,.0f}"


def _model(entry: str, device: str) -> Any:
    torch.manual_seed(0)
    return lvmzoo.create_model(entry, pretrained=True).to(device)


def _training(settings: Settings) -> Iterator[Line]:
    """Yield the rates of forward, backward and Adam on a batch of 128 that lies on the device."""
    batch = settings.pick(128, 2)
    for entry in ENTRIES:
        for prior in (False, True) if entry.startswith("vqvae") else (False,):
            step = partial(_step, entry, prior, batch)
            cells = [f"{_rate(step('cpu'), batch, replace(settings, device='cpu')):,.0f}"]
            for how in ({}, {"bf16": True}, {"bf16": True, "compiled": not settings.smoke}):
                try:
                    rate = _rate(step(settings.device, **how), batch, settings)
                    cells.append(f"{rate:,.0f}")
                except Exception as error:  # the rest of the table is worth having
                    cells.append(type(error).__name__)
            peak = _peak(step(settings.device), settings.device)
            yield f"{entry}{' prior' * prior}", *cells, peak


def _step(
    entry: str, prior: bool, batch: int, device: str, bf16: bool = False, compiled: bool = False
) -> Work:
    model = _model(entry, device).train().requires_grad_(True)
    x = torch.rand(batch, *(model.image_shape or (2,)), device=device)
    if prior:
        codes = model.encode(x)
        loss: Callable[[], Any] = lambda: -model.code_log_prob(codes).mean()  # noqa: E731
    else:
        loss = lambda: model(x).loss  # noqa: E731
    if compiled:
        loss = torch.compile(loss, mode="reduce-overhead" if device != "cpu" else None)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)

    def work() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=bf16):
            value = loss()
        value.backward()
        optimizer.step()

    return work


def _sampling(settings: Settings) -> Iterator[Line]:
    for entry in ENTRIES:
        cpu, device = _model(entry, "cpu"), _model(entry, settings.device)
        for n in (1, 64, settings.pick(1024, 64)):
            ours = partial(device.sample, n)
            rates = [
                _rate(partial(cpu.sample, n), n, replace(settings, device="cpu")),
                _rate(ours, n, settings),
            ]
            cells = [f"{rate:,.1f}" for rate in rates]
            yield (
                f"{entry}, {n} at once",
                *cells,
                f"{rates[1] / rates[0]:.1f}",
                _peak(ours, settings.device),
            )


def _encoding(settings: Settings) -> Iterator[Line]:
    n = settings.pick(2048, 8)
    for entry in ENTRIES:
        cpu, device = _model(entry, "cpu"), _model(entry, settings.device)
        with torch.no_grad():
            x = cpu.sample(n, generator=torch.Generator().manual_seed(0))
            there = x.to(settings.device)
            z, same = cpu.encode(x), device.encode(there).cpu()
        close = (z == same) if z.ndim == 3 else torch.isclose(z, same, rtol=1e-3, atol=1e-4)
        rates = [
            _rate(partial(cpu.encode, x), n, replace(settings, device="cpu")),
            _rate(partial(device.encode, there), n, settings),
        ]
        cells = [f"{rate:,.0f}" for rate in rates]
        yield entry, *cells, f"{rates[1] / rates[0]:.1f}", f"{100 * close.double().mean():.2f} %"


def _resuming(settings: Settings) -> Iterator[Line]:
    """Yield whether a run that is killed and resumed ends as an undisturbed one does."""
    with tempfile.TemporaryDirectory() as name:
        pictures, whole, killed = (Path(name) / part for part in ("in", "whole", "killed"))
        pictures.mkdir()
        for i in range(settings.pick(640, 20)):
            image = Image.effect_noise((32, 32), 50 + i % 50).convert("RGB")
            image.save(pictures / f"{i:04d}.png")
        command = [sys.executable, "-m", "training.train", "vae_cifar10", "--images", str(pictures)]
        command += ["--device", settings.device.partition(":")[0], "--checkpoint-every", "0s"]
        command += ["--set", "epochs=20", "--set", f"batch_size={settings.pick(64, 4)}", "--out"]
        start = time.perf_counter()
        run_process(*command, whole)
        took = time.perf_counter() - start
        running = subprocess.Popen(
            [*command, str(killed)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        log = killed / "log.jsonl"
        while running.poll() is None and not (log.exists() and log.read_text().count("\n") > 2):
            time.sleep(0.05)
        running.kill()
        running.wait()
        run_process(*command, killed, "--resume")
        weights = [lvmzoo.from_pretrained(run).state_dict().values() for run in (whole, killed)]
        apart = max((a - b).abs().max().item() for a, b in zip(*weights, strict=True))
    yield "seconds of the undisturbed run, from start to end", f"{took:.1f}"
    yield "largest difference of a weight after the resumed one", f"{apart:.2g}"


if __name__ == "__main__":
    main()
