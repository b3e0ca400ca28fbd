"""Run `lvmzoo` in this process."""

from click.testing import CliRunner

from lvmzoo.cli import main


def call(*arguments, status: int = 0):
    """Run a command in this process; return what it printed on stdout and on stderr."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == status, result.output
    return result.stdout, result.stderr


def refused(status: int, *arguments) -> str:
    """Run a command that must fail with one line on stderr; return the line."""
    stdout, stderr = call(*arguments, status=status)
    assert stdout == ""
    assert stderr.startswith("Error: ")
    assert stderr.count("\n") == 1
    return stderr
