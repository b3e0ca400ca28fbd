"""Publish entries, or runs of one's own.

What is published is what was measured: the component files bit for bit, config.json, the card
with its pictures, and metrics.json. It goes to a folder, to a Hub in one commit, or into a git
repository of the layout that self-hosted mirrors serve.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
from huggingface_hub import CommitOperationAdd, HfApi, get_token, hf_hub_download
from huggingface_hub.utils import disable_progress_bars, validate_repo_id  # type: ignore
from tqdm import tqdm

from lvmzoo import hub, list_models, loading, registry
from lvmzoo.checkpoint import CheckpointError, read_component
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
    if not info.pretrained:
        raise CheckpointError(f"{info.name} has no weights yet")
    if not (records.CARDS / f"{info.name}.json").exists():
        raise ValueError(f"{info.name} has no measured figures")
    loading.from_pretrained(info.name)  # checks every hash, shape and value
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
    assert model.origin is not None
    if record.test.weights != model.origin.sha256:
        raise ValueError(f"the figures of {run} were measured on other weights; evaluate it again")
    entry = model_info(facts.entry)
    sources = {part: run / f"{part}.safetensors" for part in model.COMPONENTS}
    dtype = facts.recipe["dtype"]
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
            part: WeightsFile(path.name, model.origin.sha256[part], path.stat().st_size, dtype)
            for part, path in sources.items()
        },
    )
    _fill(folder, info, record, sources, run / "evaluation")


def _fill(
    folder: Path, info: ModelInfo, record: EntryRecord, sources: dict[str, Path], pictures: Path
) -> None:
    files = {}
    for component, source in sources.items():
        target = folder / f"{component}.safetensors"
        shutil.copyfile(source, target)
        read_component(target, sha256=info.files[component].sha256)
        files[component] = replace(info.files[component], name=target.name)
    write_config(folder, record.run)
    write_record(folder / "metrics.json", record.test)
    for picture in pictures.glob(f"{record.test.entry}_*.png"):
        shutil.copyfile(picture, folder / picture.name)
    text = cards.render(replace(info, files=files), record, folder)
    (folder / "README.md").write_text(text, encoding="utf-8")


def upload(folder: Path, repo_id: str, *, private: bool, revision: str | None) -> str:
    """Upload a folder to the Hub in one commit, and return the head commit.

    The same content again makes none. Whatever the Hub refuses is a `ValueError`.
    """
    token = _token()
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(token=token)
    # Not upload_folder, which may spread a folder over several commits.
    files = [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
    try:
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        public = private and not api.model_info(repo_id).private
        if not public and revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        if not public:
            commit = api.create_commit(repo_id, files, commit_message=_MESSAGE, revision=revision)
            return str(commit.oid)
    except Exception as error:  # of requests or httpx, as the version of huggingface_hub may be
        reason = hub.why_not_written(error).replace(token, "…")
        raise ValueError(f"cannot publish to {repo_id}: {reason}") from None
    raise ValueError(f"{repo_id} exists and is public: make it private on the Hub first")


def _token() -> str:
    token = get_token()
    if token is None:
        raise ValueError("no Hub token: set HF_TOKEN or run `hf auth login`")
    return token


def commit_to_git(folder: Path, root: Path, repo_id: str) -> str:
    """Commit a folder into the git repository `root/models/ORG/NAME`; return the head commit.

    The repository is made if it is absent; the same content again makes no new commit.
    """
    repository = root / "models" / repo_id
    if not (repository / ".git").exists():
        repository.mkdir(parents=True, exist_ok=True)
        _git(repository, "init", "--quiet", "--initial-branch=main")
    with atomic_folder(repository) as staged:
        shutil.copytree(folder, staged, dirs_exist_ok=True)
    _git(repository, "add", "--all")
    if _git(repository, "status", "--porcelain"):
        _git(repository, "commit", "--quiet", "-m", _MESSAGE)
    return _git(repository, "rev-parse", "HEAD")


def _git(repository: Path, *arguments: str) -> str:
    # The user's own settings must not change the bytes, ask for a key, or be needed.
    settings = "user.name=lvmzoo user.email=lvmzoo@localhost commit.gpgsign=false "
    settings += "core.autocrlf=false core.hooksPath=/dev/null"
    given = [part for setting in settings.split() for part in ("-c", setting)]
    command = ["git", "-C", str(repository), *given, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
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
    if not info.pretrained:
        raise ValueError(f"{info.name} has no weights yet")
    try:
        commit = str(HfApi().model_info(repo_id, revision=revision or "main").sha)
        paths = {
            component: hf_hub_download(repo_id, f"{component}.safetensors", revision=commit)
            for component in info.files
        }
    except Exception as error:
        raise ValueError(f"cannot look at {repo_id}: {hub.why_not_read(error)}") from None
    for component, file in info.files.items():
        read_component(Path(paths[component]), sha256=file.sha256, size=file.size)
    index = dict(registry.read_index())
    index[info.name] = {**index[info.name], "repository": repo_id, "revision": commit}
    records.write_index(index)
    return commit


def _check(to: Any, name: str | None) -> None:
    """Refuse, before any work, options that do not fit together."""
    on_hub = bool(to.repo_id or to.org) and not to.git
    if to.everything == (name is not None):
        raise click.UsageError("give an entry, or --all")
    if to.everything and (to.run or to.repo_id):
        raise click.UsageError("--all goes to --to, --git or --org, and without --run")
    if to.repo_id and to.org:
        raise click.UsageError("say where to: --repo-id or --org, not both")
    if bool(to.folder) + (bool(to.git) or on_hub) != 1 and not (to.dry_run and not to.folder):
        raise click.UsageError("say where to: one of --to, --git, --repo-id and --org")
    if (to.private or to.revision or to.pinning) and not on_hub:
        raise click.UsageError("--private, --revision and --pin are for --repo-id and --org")
    if to.pinning and to.run:
        raise click.UsageError("--pin is for entries: a run is not in the registry")
    if to.repo_id and "/" not in to.repo_id:
        raise click.UsageError(f"a repository is named ORG/NAME, not {to.repo_id}")
    if on_hub or to.git:
        validate_repo_id(_repository(to, name or "name"))
    if on_hub and not (to.dry_run or to.pinning):
        _token()


def _repository(to: Any, name: str) -> str:
    """Return the repository that something is published in under this name."""
    return to.repo_id or f"{to.org or 'lvmzoo'}/{name}"


def _publish(to: Any, name: str) -> str:
    """Publish an entry or a run; return a line about it."""
    repo_id, on_hub = _repository(to, name), bool(to.repo_id or to.org)
    if to.pinning:
        return f"{name}: pinned to {repo_id} at {pin(model_info(name), repo_id, to.revision)}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if to.run is None:
            build_entry(model_info(name), folder)
        else:  # the card says how to load it: by its repository, else as a folder
            local = f"./{to.folder.name if to.folder else name}"
            build_run(repo_id if on_hub or to.git else local, to.run, folder)
        if to.dry_run:
            return _listing(name, folder)
        if to.folder:
            target = to.folder / name if to.everything else to.folder
            with atomic_folder(target) as staged:
                shutil.copytree(folder, staged, dirs_exist_ok=True)
            return f"{name}: written to {target}"
        if to.git:
            commit = commit_to_git(folder, to.git, repo_id)
            return f"{name}: {to.git}/models/{repo_id} at {commit}"
        commit = upload(folder, repo_id, private=to.private, revision=to.revision)
        return f"{name}: {repo_id} at {commit}"


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
    to = SimpleNamespace(**given)
    _check(to, name)
    if name is not None:
        print(_publish(to, name))
        return
    names = list_models(pretrained=True)
    failures = {}
    for entry in tqdm(names, disable=None):
        try:
            tqdm.write(_publish(to, entry))
        except (ValueError, CheckpointError, OSError) as error:
            failures[entry] = str(error)
    print(f"published {len(names) - len(failures)} of {len(names)} entries")
    for entry, reason in failures.items():
        print(f"  {entry}: {reason}")
    if failures:
        raise click.ClickException(f"not published: {len(failures)} of {len(names)}")
