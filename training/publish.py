"""Publish an entry, or a run of one's own: `python -m training.publish NAME --to DIR`.

What is published is what was measured: the component files bit for bit, config.json, the card
with its pictures, and metrics.json. It goes to a folder, to a Hub in one commit, or into a git
repository of the layout that self-hosted mirrors serve.
"""

import hashlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError
from tqdm import tqdm

from lvmzoo import hub, list_models, registry
from lvmzoo.checkpoint import CheckpointError, read_component
from lvmzoo.files import atomic_folder
from lvmzoo.models.base import CONFIG_NAME
from lvmzoo.registry import ModelInfo, WeightsFile, model_info
from training import cards
from training.bundle import read_index, read_json, write_index
from training.options import failing_cleanly

__all__ = ["build_entry", "build_run", "commit_to_git", "pin", "upload"]


def build_entry(info: ModelInfo, folder: Path) -> None:
    """Fill a folder with an entry's bundled weights, card and figures.

    Raises:
        CheckpointError: The entry has no weights, or they are not those of the registry.
        ValueError: It has no measured figures.
    """
    if not info.pretrained:
        raise CheckpointError(f"{info.name} has no weights yet")
    if not (cards.CARDS / f"{info.name}.json").exists():
        raise ValueError(f"{info.name} has no measured figures")
    hub.from_pretrained(info.name)  # checks every hash, shape and value
    record = cards.read_record(info.name)
    sources = {name: registry.WEIGHTS / file.name for name, file in info.files.items()}
    _fill(folder, info, record, sources, cards.CARDS)


def build_run(name: str, run: Path, folder: Path) -> None:
    """Fill a folder with the weights, card and figures of a run of one's own.

    Arguments:
        name: What the card calls the model.
        run: Folder of the run; its evaluation on the test split is in `evaluation/`.
        folder: Where to.

    Raises:
        ValueError: There are no figures, or they were measured on other bytes.
    """
    figures = run / "evaluation/metrics.test.json"
    if not (run / "run.json").exists():
        raise ValueError(f"{run} is no finished run: it has no run.json")
    if not figures.exists():
        raise ValueError(
            f"{run} has no measured figures: run `python -m training.evaluate ENTRY --weights "
            f"{run}` first, with the --data or --images of the run"
        )
    model = hub.from_pretrained(run)
    record = {"run": read_json(run / "run.json"), "test": read_json(figures)}
    assert model.origin is not None
    if record["test"]["weights"] != model.origin.sha256:
        raise ValueError(f"the figures of {run} were measured on other weights; evaluate it again")
    entry = model_info(record["run"]["entry"])
    sources = {part: run / f"{part}.safetensors" for part in model.COMPONENTS}
    dtype = record["run"]["recipe"]["dtype"]
    own = entry.classes != getattr(model.config, "classes", ())
    info = replace(
        entry,
        name=name,
        dataset=model.config.dataset,
        classes=tuple(getattr(model.config, "classes", ())),
        data_licence="that of the pictures" if own else entry.data_licence,
        parameters=record["test"]["parameters"],
        files={
            part: WeightsFile(path.name, model.origin.sha256[part], path.stat().st_size, dtype)
            for part, path in sources.items()
        },
    )
    _fill(folder, info, record, sources, run / "evaluation")


def _fill(
    folder: Path,
    info: ModelInfo,
    record: dict[str, Any],
    sources: dict[str, Path],
    pictures: Path,
) -> None:
    files = {}
    for component, source in sources.items():
        target = folder / f"{component}.safetensors"
        shutil.copyfile(source, target)
        copied = read_component(target, sha256=info.files[component].sha256)
        config = {"model_class": info.model_class, **copied.metadata["config"]}
        files[component] = replace(info.files[component], name=target.name)
    _write_json(folder / CONFIG_NAME, config)
    _write_json(folder / "metrics.json", record["test"])
    for picture in pictures.glob(f"{record['test']['entry']}_*.png"):
        shutil.copyfile(picture, folder / picture.name)
    text = cards.render(replace(info, files=files), record, folder)
    (folder / "README.md").write_text(text)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def upload(folder: Path, repo_id: str, *, private: bool, revision: str | None) -> str:
    """Upload a folder to the Hub in one commit; the same content again makes none.

    Returns:
        The repository's head commit.

    Raises:
        ValueError: There is no token, it may not write, or the Hub cannot be reached.
    """
    token = get_token()
    if token is None:
        raise ValueError("no Hub token: set HF_TOKEN or run `hf auth login`")
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message="Publish weights, card and figures",
        )
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        reasons = {401: "the token is not valid", 403: "the token may not write there"}
        reason = reasons.get(status or 0, str(error).strip().splitlines()[0])
        raise ValueError(f"cannot publish to {repo_id}: {_without(reason, token)}") from None
    except (OSError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"cannot publish to {repo_id}: the Hub cannot be reached ({_without(reason, token)})"
        ) from None
    return str(commit.oid)


def _without(text: str, token: str) -> str:
    return text.replace(token, "…")


def commit_to_git(folder: Path, root: Path, repo_id: str) -> str:
    """Commit a folder into the git repository `root/models/ORG/NAME`, made if absent.

    Returns:
        The head commit; the same content again makes no new one.

    Raises:
        ValueError: git fails.
    """
    repository = root / "models" / repo_id
    if not (repository / ".git").exists():
        repository.mkdir(parents=True, exist_ok=True)
        _git(repository, "init", "--quiet", "--initial-branch=main")
    with atomic_folder(repository) as staged:
        shutil.copytree(folder, staged, dirs_exist_ok=True)
    _git(repository, "add", "--all")
    if _git(repository, "status", "--porcelain"):
        identity = ["-c", "user.name=lvmzoo", "-c", "user.email=lvmzoo@localhost"]
        _git(repository, *identity, "commit", "--quiet", "-m", "Publish weights, card and figures")
    return _git(repository, "rev-parse", "HEAD")


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise ValueError("--git needs git, which is not installed") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()[-1:]
        raise ValueError(f"git {arguments[0]} failed in {repository}: {reason}") from None
    return done.stdout.strip()


def pin(info: ModelInfo, repo_id: str, revision: str | None) -> str:
    """Write an entry's repository and its present commit into the registry's index.

    Returns:
        The commit.

    Raises:
        ValueError: The repository does not hold the entry's bytes.
    """
    api = HfApi()
    try:
        found = api.model_info(repo_id, revision=revision or "main", files_metadata=True)
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"cannot look at {repo_id}: {reason}") from None
    sizes = {f.rfilename: (f.size, f.lfs.sha256 if f.lfs else None) for f in found.siblings or []}
    for component, file in info.files.items():
        size, sha256 = sizes.get(f"{component}.safetensors", (None, None))
        if size != file.size or sha256 not in (None, file.sha256):
            raise ValueError(f"{repo_id} does not hold the bytes of {info.name}; publish it first")
    index = read_index()
    index[info.name] |= {"repository": repo_id, "revision": found.sha}
    write_index(index)
    return str(found.sha)


def _print_files(folder: Path, name: str) -> None:
    print(name)
    for path in sorted(folder.iterdir()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"  {path.name:<40} {path.stat().st_size:>10,}  {digest}")


@click.command()
@click.argument("name", required=False)
@click.option("--run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--all", "everything", is_flag=True, help="Every entry with weights; with --org.")
@click.option("--to", type=click.Path(path_type=Path), help="Write a folder.")
@click.option("--repo-id", help="Upload to ORG/NAME on the Hub.")
@click.option("--org", help="Upload each entry to ORG/ENTRY.")
@click.option("--git", "git", type=click.Path(path_type=Path), help="Commit below DIR/models.")
@click.option("--private", is_flag=True)
@click.option("--revision", help="Branch of the Hub repository.")
@click.option("--pin", "pinning", is_flag=True, help="Record the published commit in the index.")
@click.option("--dry-run", is_flag=True, help="Print files, sizes and SHA-256 only.")
@failing_cleanly
def main(name: str | None, everything: bool, **options: Any) -> None:
    """Publish the entry NAME, or with --run a run under that name."""
    if everything == (name is not None):
        raise click.UsageError("give an entry, or --all")
    targets = [key for key in ("to", "repo_id", "org", "git") if options[key]]
    if not options["dry_run"] and not targets:
        raise click.UsageError("say where to: --to, --repo-id, --org or --git")
    if name is not None:
        print(_publish(name, options))
        return
    names = list_models(pretrained=True)
    failures = {}
    for entry in tqdm(names, disable=None):
        try:
            tqdm.write(_publish(entry, options))
        except (ValueError, CheckpointError, OSError) as error:
            failures[entry] = str(error)
    print(f"published {len(names) - len(failures)} of {len(names)} entries")
    for entry, reason in failures.items():
        print(f"  {entry}: {reason}")
    if failures:
        raise click.ClickException(f"{len(failures)} entries were not published")


def _publish(name: str, options: dict[str, Any]) -> str:
    """Do what the options say for one entry or run; return a line about it."""
    repo_id = options["repo_id"] or (f"{options['org']}/{name}" if options["org"] else None)
    if options["pinning"]:
        if repo_id is None:
            raise click.UsageError("--pin needs --repo-id or --org")
        commit = pin(model_info(name), repo_id, options["revision"])
        return f"{name}: pinned to {repo_id} at {commit}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options["run"] is not None:
            build_run(repo_id or name, options["run"], folder)
        else:
            build_entry(model_info(name), folder)
        if options["dry_run"]:
            _print_files(folder, name)
            return f"{name}: nothing was published"
        if options["to"]:
            with atomic_folder(options["to"]) as target:
                shutil.copytree(folder, target, dirs_exist_ok=True)
            return f"{name}: written to {options['to']}"
        if options["git"]:
            where = repo_id or f"lvmzoo/{name}"
            commit = commit_to_git(folder, options["git"], where)
            return f"{name}: {options['git']}/models/{where} at {commit}"
        assert repo_id is not None
        revision = options["revision"]
        commit = upload(folder, repo_id, private=options["private"], revision=revision)
        return f"{name}: {repo_id} at {commit}"


if __name__ == "__main__":
    main()
