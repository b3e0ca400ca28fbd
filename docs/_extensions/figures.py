"""Figures of entries, as the index of the weights and pages have them."""

from lvmzoo import model_info

__all__ = ["figure"]

# ‖x - mu(z)‖² + KL of an image, which an assignment minimises: docs/literature.md.
COURSE_LOSS = "course_loss"


def figure(text: str) -> str:
    """Return a figure as pages show it: "NAME METRIC DIGITS", two digits where none are given."""
    name, key, *digits = text.split()
    metrics = model_info(name).metrics
    if key == COURSE_LOSS and "half_squared_error" in metrics:
        value = 2 * metrics["half_squared_error"] + metrics["kl"]
    elif key in metrics:
        value = metrics[key]
    else:
        return "(not measured yet)"
    return f"{value:,.{int((digits or [2])[0])}f}".replace("-", "\N{MINUS SIGN}")
