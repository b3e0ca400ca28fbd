"""The commands that say what is known of models: list and info."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from lvmzoo.cli.options import as_json_option
from lvmzoo.registry import UnknownModelError, fact_lines, list_models, model_info

__all__ = ["info", "list_command"]


@click.command("list")
@click.argument("pattern", default="*")
@click.option("--pretrained", is_flag=True, help="Only entries that have weights.")
@as_json_option
def list_command(pattern: str, pretrained: bool, as_json: bool) -> None:
    """List the entries whose name matches PATTERN."""
    infos = [model_info(name) for name in list_models(pattern, pretrained=pretrained)]
    if as_json:
        return click.echo(json.dumps([_facts(info.name) for info in infos], indent=2))
    line = "{:<20}  {:<12}  {:<10}  {:>10}  {:>10}  {}".format
    click.echo(line("entry", "class", "data", "parameters", "MiB", "summary"))
    for info in infos:
        count = f"{info.parameters:,}" if info.parameters else "-"
        size = sum(file.size for file in info.files.values()) / 2**20
        stored = f"{size:.1f}" if info.pretrained else "no weights"
        click.echo(line(info.name, info.model_class, info.dataset, count, stored, info.summary))


@click.command()
@click.argument("name")
@as_json_option
def info(name: str, as_json: bool) -> None:
    """Show the facts about NAME: a model, or a file `.lvz`."""
    facts = _facts_of_file(Path(name)) if name.endswith(".lvz") else _facts(name)
    if as_json:
        return click.echo(json.dumps(facts, indent=2))
    for key, value in fact_lines(facts):
        click.echo(f"{key}: {value}".rstrip())


def _facts_of_file(path: Path) -> dict[str, Any]:
    from lvmzoo.compression.container import Reader

    with path.open("rb") as file:
        facts = dataclasses.asdict(Reader(file, str(path)).description)
        size = file.seek(0, 2)
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return {**plain, "bytes": size, "bytes_per_picture": round(size / facts["pictures"], 2)}


def _facts(name: str) -> dict[str, Any]:
    """Return what is known of an entry, or of a model outside the zoo, as plain JSON values."""
    try:
        entry = model_info(name)
        facts = dataclasses.asdict(entry) | {"pretrained": entry.pretrained}
    except UnknownModelError:
        from lvmzoo.loading import from_pretrained

        model = from_pretrained(name)
        assert model.origin is not None
        facts = {
            "name": name,
            "model_class": type(model).__name__,
            "config": dataclasses.asdict(model.config),
            "parameters": sum(p.numel() for p in model.parameters()),
            "files": {key: {"sha256": value} for key, value in model.origin.sha256.items()},
        }
    plain: dict[str, Any] = json.loads(json.dumps(facts))
    return plain
