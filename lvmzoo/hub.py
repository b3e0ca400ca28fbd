"""A repository of the Hub at one commit -> a folder; a folder -> one upload; errors in words."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi, constants, errors, get_token, snapshot_download
from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

from lvmzoo.checkpoint import CheckpointError

__all__ = ["README_NAME", "fetch", "reason", "upload"]

README_NAME = "README.md"
_USER = re.compile(r"(?<=://)[^\s/]*@")
_QUERY = re.compile(r"(\w://[^\s?\"'<>]*)\?[^\s\"'<>)]*")
Token = str | bool | None


class _Bar(tqdm):  # type: ignore[type-arg]
    """A progress bar on a terminal while something is downloaded, and none in a pipe."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"disable": None, "leave": False})


def fetch(
    repo_id: str,
    files: Sequence[str],
    *,
    revision: str | None = None,
    token: Token = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Path:
    """Download files of a repository into the Hub's cache, unless they are there already.

    Returns:
        The folder that holds them, named after the commit.

    Raises:
        ValueError: It is no repository id.
        CheckpointError: They cannot be had.
    """
    try:
        folder = snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=[*files],
            tqdm_class=_Bar,
            token=_stripped(token),
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
        )
    except errors.HFValidationError:
        raise
    except Exception as error:  # of requests or httpx, as the version of huggingface_hub may be
        raise CheckpointError(
            f"cannot get {', '.join(files)} of {repo_id}, which is no folder here: "
            f"{reason(error, token)}"
        ) from None
    return Path(folder)


def upload(
    folder: Path,
    repo_id: str,
    *,
    message: str,
    private: bool = False,
    token: Token = None,
    revision: str | None = None,
    create_pr: bool = False,
    keep_readme: bool = False,
) -> CommitInfo:
    """Upload a folder in one commit, to a repository and branch that are made if need be.

    Arguments:
        folder: The folder.
        repo_id: The repository.
        message: The commit's message.
        private: Whether the repository is to be private; one that is public is refused.
        token: For the Hub; by default the one in HF_TOKEN or of `hf auth login`.
        revision: The branch; by default the repository's main one.
        create_pr: Open a pull request instead.
        keep_readme: Leave the repository's README.md as it is, if there is one.

    Returns:
        What was committed; the same content again makes no new commit.

    Raises:
        ValueError: It is no repository id, the repository is public, or there is no token.
        OSError: The Hub does not take it.
    """
    if not token and get_token() is None:
        raise ValueError("no Hub token: set HF_TOKEN or run `hf auth login`")
    api = HfApi(token=_stripped(token))
    try:
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        public = private and not api.model_info(repo_id).private
        if not public and revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        if not public:
            kept = keep_readme and api.file_exists(repo_id, README_NAME, revision=revision)
            return api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=message,
                revision=revision,
                create_pr=create_pr,
                ignore_patterns=[README_NAME] if kept else None,
            )
    except errors.HFValidationError:
        raise
    except Exception as error:
        raise OSError(f"cannot push to {repo_id}: {reason(error, token)}") from None
    raise ValueError(f"{repo_id} exists and is public: make it private on the Hub first")


def reason(error: BaseException, token: Token = None) -> str:
    """Say in one line why a Hub did not do what it was asked for; no token is in it."""
    while not isinstance(error, OSError) and error.__cause__ is not None:
        error = error.__cause__  # "Error while uploading x", caused by what went wrong
    status = getattr(getattr(error, "response", None), "status_code", None)
    text = _without_secrets(str(error) or type(error).__name__, token)
    first = text.strip().splitlines()[0]
    if status == 401 and re.search("credentials|expired", text):
        return "the Hub does not know the token (401), or it has expired; set a new one in HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision"
    if isinstance(error, errors.RepositoryNotFoundError) or status == 401:
        return (
            "there is no such repository or revision, or it is private and needs a token with "
            f"access to it in HF_TOKEN (the Hub answered {status})"
        )
    if status == 403:
        return "the token in HF_TOKEN has no right to do this (403)"
    if status == 409:
        return "the repository was changed meanwhile (409); try again"
    if isinstance(error, errors.LocalEntryNotFoundError):
        if constants.HF_HUB_OFFLINE or error.__cause__ is None:
            return "the local Hub cache does not hold it, and the Hub may not be asked (offline)"
        cause = reason(error.__cause__, token)
        return f"the local Hub cache does not hold it, and the Hub cannot give it ({cause})"
    return first


def _stripped(token: Token) -> Token:
    """Return a token without the line break at its end that one read from a file has."""
    return token.strip() if isinstance(token, str) else token


def _without_secrets(text: str, token: Token) -> str:
    """Take out of a text the token, and what URLs may carry: passwords and signatures."""
    for given in (token, get_token()):
        for part in str(given).split() if isinstance(given, str) else ():
            text = text.replace(part, "...")
    return _QUERY.sub(r"\1", _USER.sub("", text))
