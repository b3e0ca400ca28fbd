"""Run `lvmzoo` in this process, and Python in another."""

import os
import subprocess
import sys

from click.testing import CliRunner

from lvmzoo.cli import main
from support import ROOT


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


def run_python(*arguments, timeout: float) -> None:
    """Run Python in a process of its own, which must end well in so many seconds."""
    paths = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, **paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
