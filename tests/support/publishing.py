"""The command `training.publish`, called as tests call it."""

from click.testing import CliRunner
from fake_hub import TOKEN

from training.publish import main

NAME = "vae2d_gaussian1"
FILES = ["README.md", "config.json", "metrics.json", "model.safetensors", f"{NAME}_samples.png"]


def publish(*arguments: object, status: int = 0) -> str:
    """Run the command; return all it prints. The token is never in it."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == status, (result.output, result.exception)
    assert TOKEN not in result.output
    assert "%|" not in result.output  # no progress bar in a pipe
    return result.output
