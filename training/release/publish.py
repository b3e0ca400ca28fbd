"""Publish entries, or runs of one's own.

What is published is what was measured: the component files bit for bit, config.json, the card
with its pictures, and metrics.json. It goes to a folder, to a Hub in one commit, or into a git
repository of the layout that self-hosted mirrors serve.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from huggingface_hub.utils import disable_progress_bars, validate_repo_id  # type: ignore
from tqdm import tqdm

from lvmzoo import hub, list_models, loading, registry
from lvmzoo.checkpoint import CheckpointError, read_component
from lvmzoo.console import progress
from lvmzoo.files import atomic_folder
from lvmzoo.registry import ModelInfo, WeightsFile, model_info
from training.options import failing_cleanly
from training.records import Evaluation, read_record, write_record
from training.release import cards, records
from training.release.records import EntryRecord
from training.run import RECORD, read_run, write_config

_MESSAGE = "Publish weights, card and figures"


def build_entry(info: ModelInfo, folder: Path) -> None:
    """Fill a folder with an entry's bundled weights, card and figures.

    Raises:
        CheckpointError: The entry has no weights, or they are not those of the registry.
        ValueError: It has no measured figures.
    """
    loading.from_pretrained(info.name)  # checks every hash, shape and value
    if not (records.CARDS / f"{info.name}.json").exists():
        raise ValueError(f"{info.name} has no measured figures")
    sources = {name: registry.WEIGHTS / file.name for name, file in info.files.items()}
    _fill(folder, info, records.read_record(info.name), sources, records.CARDS)


def build_run(name: str, run: Path, folder: Path) -> None:
    """Fill a folder with the weights, card and figures of a run, which the card loads by `name`.

    Raises:
        ValueError: There are no figures, or they were measured on other bytes.
    """
    figures = run / "evaluation/metrics.test.json"
    facts = read_run(run)
    if facts is None:
        raise ValueError(f"{run} is no finished run: it has no {RECORD}")
    if not figures.exists():
        raise ValueError(
            f"{run} has no measured figures: run `python -m training.evaluate {facts.entry} "
            f"--weights {run}` first, with the --data or --images of the run"
        )
    model = loading.from_pretrained(run)
    record = EntryRecord(facts, read_record(Evaluation, figures))
    sha256, dtype = record.test.weights, facts.recipe["dtype"]
    if model.origin is None or sha256 != model.origin.sha256:
        raise ValueError(f"the figures of {run} were measured on other weights; evaluate it again")
    entry = model_info(facts.entry)
    sources = {part: run / f"{part}.safetensors" for part in model.COMPONENTS}
    info = replace(
        entry,
        name=name,
        config=facts.config,
        image_shape=model.image_shape,
        dataset=model.config.dataset,
        classes=tuple(getattr(model.config, "classes", ())),
        data_licence="that of the pictures" if facts.own_pictures else entry.data_licence,
        parameters=record.test.parameters,
        files={
            part: WeightsFile(path.name, sha256[part], path.stat().st_size, dtype)
            for part, path in sources.items()
        },
    )
    _fill(folder, info, record, sources, run / "evaluation")


def _fill(
    folder: Path, info: ModelInfo, record: EntryRecord, sources: dict[str, Path], pictures: Path
) -> None:
    files = {}
    for component, source in sources.items():
        files[component] = replace(info.files[component], name=f"{component}.safetensors")
        shutil.copyfile(source, folder / files[component].name)
    write_config(folder, record.run)
    write_record(folder / "metrics.json", record.test)
    for picture in pictures.glob(f"{record.test.entry}_*.png"):
        shutil.copyfile(picture, folder / picture.name)
    text = cards.render(replace(info, files=files), record, folder)
    (folder / "README.md").write_text(text, encoding="utf-8")


def commit_to_git(fill: Callable[[Path], None], root: Path, repo_id: str) -> str:
    """Commit what is filled in to the git repository `root/models/ORG/NAME`; return the commit.

    The repository is made if it is absent; the same content again makes no new commit.
    """
    repository = root / "models" / repo_id
    with atomic_folder(repository) as folder:
        fill(folder)
    if not (repository / ".git").exists():
        _git(repository, "init", "--quiet", "--initial-branch=main", "--template=")
    _git(repository, "add", "--all", "--force")
    if _git(repository, "status", "--porcelain"):
        _git(repository, "commit", "--quiet", "-m", _MESSAGE)
    return _git(repository, "rev-parse", "HEAD")


def _git(repository: Path, *arguments: str) -> str:
    # The user's settings must not change the bytes, leave files out, ask for a key, or be needed.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    environment |= {"GIT_ATTR_NOSYSTEM": "1", "XDG_CONFIG_HOME": os.devnull}
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "lvmzoo", f"GIT_{role}_EMAIL": "lvmzoo@localhost"}
    command = ["git", "-C", str(repository), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    except FileNotFoundError:
        raise ValueError("--git needs git, which is not installed") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip() or str(error)).splitlines()[-1]
        raise ValueError(f"git {arguments[0]} failed in {repository}: {reason}") from None
    return done.stdout.strip()


def pin(info: ModelInfo, repo_id: str, revision: str | None) -> str:
    """Write an entry's repository and its present commit into the registry's index; return it.

    A repository that does not hold the entry's bytes is refused.
    """
    names = {component: f"{component}.safetensors" for component in info.files}
    folder = hub.fetch(repo_id, [*names.values()], revision=revision)
    for component, file in info.files.items():
        read_component(folder / names[component], sha256=file.sha256, size=file.size)
    index = registry.read_index()
    index[info.name] |= {"repository": repo_id, "revision": folder.name}
    records.write_index(index)
    return folder.name


@dataclass(frozen=True)
class Target:
    """Where things are published, as the options say."""

    run: Path | None
    everything: bool
    folder: Path | None
    repo_id: str | None
    org: str | None
    git: Path | None
    private: bool
    revision: str | None
    pinning: bool
    dry_run: bool

    @property
    def on_hub(self) -> bool:
        """Whether it goes to the Hub."""
        return bool(self.repo_id or self.org) and not self.git

    def check(self, name: str | None) -> None:
        """Refuse, before any work, options that do not fit together."""
        places = bool(self.folder) + bool(self.git) + self.on_hub
        refusals = {
            "give an entry, or --all": self.everything == (name is not None),
            "--all goes to --to, --git or --org, and without --run": self.everything
            and (self.run or self.repo_id),
            "say where to: one of --to, --git, --repo-id and --org": places > 1
            or (self.repo_id and self.org)
            or not (places or self.dry_run),
            "--private, --revision and --pin are for --repo-id and --org": not self.on_hub
            and (self.private or self.revision or self.pinning),
            "--pin is for entries: a run is not in the registry": self.pinning and self.run,
            f"a repository is named ORG/NAME, not {self.repo_id}": self.repo_id
            and "/" not in self.repo_id,
        }
        for message, refused in refusals.items():
            if refused:
                raise click.UsageError(message)
        validate_repo_id(self.repository(name or "name"))

    def repository(self, name: str) -> str:
        """Return the repository that something is published in under this name."""
        return self.repo_id or f"{self.org or 'lvmzoo'}/{name}"

    def fill(self, name: str, folder: Path) -> None:
        """Write what is published into a folder."""
        if self.run is None:
            return build_entry(model_info(name), folder)
        # The card says how to load it: by its repository, else as a folder.
        if self.on_hub or self.git:
            return build_run(self.repository(name), self.run, folder)
        return build_run(f"./{self.folder.name if self.folder else name}", self.run, folder)

    def publish(self, name: str) -> str:
        """Publish an entry or a run; return a line about it."""
        repo_id = self.repository(name)
        if self.pinning:
            return f"{name}: pinned to {repo_id} at {pin(model_info(name), repo_id, self.revision)}"
        if self.folder and not self.dry_run:
            target = self.folder / name if self.everything else self.folder
            with atomic_folder(target) as folder:
                self.fill(name, folder)
            return f"{name}: written to {target}"
        if self.git and not self.dry_run:
            commit = commit_to_git(lambda folder: self.fill(name, folder), self.git, repo_id)
            return f"{name}: {self.git}/models/{repo_id} at {commit}"
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            self.fill(name, folder)
            if self.dry_run:
                return _listing(name, folder)
            commit = hub.upload(
                folder, repo_id, message=_MESSAGE, private=self.private, revision=self.revision
            )
        return f"{name}: {repo_id} at {commit.oid}"


def _listing(name: str, folder: Path) -> str:
    lines = [name]
    for path in sorted(folder.iterdir()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"  {path.name:<40} {path.stat().st_size:>10,}  {digest}")
    return "\n".join([*lines, f"{name}: nothing was published"])


@click.command()
@click.argument("name", required=False)
@click.option("--run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--all", "everything", is_flag=True, help="Every entry with weights; with --org.")
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Write a folder.")
@click.option("--repo-id", help="Upload to ORG/NAME on the Hub.")
@click.option("--org", help="Upload each entry to ORG/ENTRY.")
@click.option("--git", type=click.Path(path_type=Path), help="Commit below DIR/models.")
@click.option("--private", is_flag=True)
@click.option("--revision", help="Branch of the Hub repository.")
@click.option("--pin", "pinning", is_flag=True, help="Record the published commit in the index.")
@click.option("--dry-run", is_flag=True, help="Print files, sizes and SHA-256 only.")
@failing_cleanly
def main(name: str | None, **given: Any) -> None:
    """Publish the entry NAME, or with --run a run under that name."""
    target = Target(**given)
    target.check(name)
    if not sys.stderr.isatty():
        disable_progress_bars()
    if name is not None:
        print(target.publish(name))
        return
    names = list_models(pretrained=True)
    failures = {}
    for entry in progress(names, disable=None):
        try:
            tqdm.write(target.publish(entry))
        except (ValueError, CheckpointError, OSError) as error:
            failures[entry] = str(error)
    print(f"published {len(names) - len(failures)} of {len(names)} entries")
    for entry, reason in failures.items():
        print(f"  {entry}: {reason}")
    if failures:
        raise click.ClickException(f"not published: {len(failures)} of {len(names)}")
