"""The Hub: which commit is asked for, what its cache holds, uploads, and what a failure means."""

import hashlib
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, errors, get_hf_file_metadata, hf_hub_url

from lvmzoo.files import atomic_file

__all__ = [
    "commit_of",
    "forget_damaged",
    "is_commit",
    "remember_commit",
    "upload",
    "why_not_read",
    "why_not_written",
    "without_secrets",
]

README_NAME = "README.md"
_USER = re.compile(r"(?<=://)[^\s/]*@")
_QUERY = re.compile(r"(\w://[^\s?\"'<>]*)\?[^\s\"'<>)]*")


def is_commit(revision: str | None) -> bool:
    """Say whether a revision is a commit's full hash, which never comes to mean another one."""
    return re.fullmatch("[0-9a-f]{40}", revision or "") is not None


def commit_of(
    repo_id: str, filename: str, revision: str | None, token: str | bool | None
) -> str | None:
    """Ask which commit a branch or tag is at; None if the Hub does not say.

    A repository may be changed at any time: all its files must be those of one commit.
    """
    with suppress(Exception):  # whoever downloads next is told the same, and says it
        url = hf_hub_url(repo_id, filename, revision=revision)
        timeout = constants.HF_HUB_ETAG_TIMEOUT
        return get_hf_file_metadata(url, token=token, timeout=timeout).commit_hash
    return None


def remember_commit(path: Path, revision: str | None) -> None:
    """Note in the cache which commit a branch or tag is at, so that it is found offline, too.

    Arguments:
        path: A file of the commit in the cache: `REPOSITORY/snapshots/COMMIT/FILE`.
        revision: The branch or tag.
    """
    ref = path.parents[2] / "refs" / (revision or constants.DEFAULT_REVISION)
    with suppress(OSError):  # the cache may be read-only
        if not ref.exists() or ref.read_text(encoding="utf-8") != path.parent.name:
            ref.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(ref) as temporary:
                temporary.write_text(path.parent.name, encoding="utf-8")


def forget_damaged(
    repo_id: str, paths: Iterable[Path], token: str | bool | None, sha256: str | None = None
) -> None:
    """Take those files out of the cache that are not what the Hub says, to be downloaded again.

    All others stay: what this version cannot read, another version or library may.

    Arguments:
        repo_id: The repository.
        paths: Its files in the cache.
        token: For the Hub, which is asked where the cache does not tell.
        sha256: The hash that they must have, where it is known.
    """
    for path in paths:
        with suppress(Exception):  # where nobody can say, the file stays
            if sha256 is not None:
                etag = sha256
            elif path.is_symlink():  # to a blob, whose name it is
                etag = Path(os.readlink(path)).name
            else:
                url = hf_hub_url(repo_id, path.name, revision=path.parent.name)
                timeout = constants.HF_HUB_ETAG_TIMEOUT
                etag = get_hf_file_metadata(url, token=token, timeout=timeout).etag or ""
            if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", etag) and etag != _etag(path, len(etag)):
                path.resolve().unlink()  # the blob that a link in the snapshot points to
                path.unlink(missing_ok=True)


def _etag(path: Path, length: int) -> str:
    """Hash a file as the Hub does: large ones by SHA-256, others as git does."""
    with path.open("rb") as file:
        if length == 64:
            return hashlib.file_digest(file, "sha256").hexdigest()
        size = os.fstat(file.fileno()).st_size
        blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        return hashlib.file_digest(file, lambda: blob).hexdigest()


def upload(
    folder: Path,
    repo_id: str,
    *,
    stub: str,
    commit_message: str = "Push model using huggingface_hub.",
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    **options: Any,
) -> str:
    """Upload a folder in one commit, to a repository that is made if need be.

    Arguments:
        folder: The folder.
        repo_id: The repository.
        stub: A README that is left out if the repository has one.
        commit_message: The commit's message.
        private: Whether a new repository is private.
        token: For the Hub; by default the one in HF_TOKEN or of `hf auth login`.
        branch: The branch; by default the repository's main one.
        options: Of `HfApi.upload_folder`: create_pr, allow_patterns and the like.

    Returns:
        The address of the commit.

    Raises:
        OSError: The Hub does not take it.
        ValueError: It is no repository id.
    """
    api, readme = HfApi(token=token), folder / README_NAME
    try:
        repo_id = api.create_repo(repo_id=repo_id, private=private, exist_ok=True).repo_id
        own = readme.read_text(encoding="utf-8") != stub
        if not own and api.file_exists(repo_id, README_NAME, revision=branch):
            readme.unlink()
        options |= {"commit_message": commit_message, "revision": branch}
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, **options))
    except errors.HFValidationError:
        raise
    except Exception as error:  # of requests or httpx, as the version of huggingface_hub may be
        raise OSError(f"cannot push to {repo_id}: {why_not_written(error)}") from None


def without_secrets(text: str) -> str:
    """Take out of a text what URLs may carry: user and password, and signatures in the query."""
    user, at, _ = constants.ENDPOINT.partition("://")[2].rpartition("@")
    text = text.replace(user + at, "") if at else text
    return _QUERY.sub(r"\1", _USER.sub("", text))


def why_not_read(error: BaseException) -> str:
    """Say in one line why a Hub did not give what it was asked for."""
    if isinstance(error, ValueError) and error.__cause__ is not None:
        return why_not_read(error.__cause__)  # "Force download failed due to the above error"
    status = _status(error)
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such revision"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return (
            "there is no such repository or revision, or it is private and needs a token with "
            f"access to it in HF_TOKEN (the Hub answered {status})"
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        if constants.HF_HUB_OFFLINE or error.__cause__ is None:
            return "the local Hub cache does not hold it, and the Hub may not be asked (offline)"
        return (
            "the local Hub cache does not hold it, and the Hub cannot be reached "
            f"({_first_line(error.__cause__)})"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return "the repository has no such file"
    return _first_line(error)


def why_not_written(error: BaseException) -> str:
    """Say in one line why a Hub did not take what it was given."""
    while not isinstance(error, OSError) and error.__cause__ is not None:
        error = error.__cause__  # "Error while uploading x", caused by what went wrong
    status = _status(error)
    reasons = {
        401: "the Hub does not know the token (401); make a new one and set HF_TOKEN",
        403: "the token may not write there (403)",
        409: "the repository was changed meanwhile (409); publish again",
    }
    if status in reasons:
        return reasons[status]
    if status is not None or isinstance(error, ValueError):
        return f"the Hub refuses or fails ({_first_line(error)})"
    return f"the Hub cannot be reached, or broke off ({_first_line(error)})"


def _status(error: BaseException) -> int | None:
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


def _first_line(error: BaseException) -> str:
    return without_secrets((str(error).strip() or type(error).__name__).splitlines()[0])
