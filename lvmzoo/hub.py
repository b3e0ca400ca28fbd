"""What a Hub's failure means, in one line for whoever asked it for something."""

from huggingface_hub import constants, errors

__all__ = ["why_not_read", "why_not_written"]


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
    return (str(error).strip() or type(error).__name__).splitlines()[0]
