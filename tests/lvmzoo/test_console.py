"""What all commands share: notes, one line for a failure, a bar, a process of their own."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

from PIL import Image
from support.command import call

import lvmzoo
from lvmzoo.console import progress

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(lvmzoo.__path__[0]).parent),
    "OMP_NUM_THREADS": "1",
    "PYTHONIOENCODING": "latin-1",
}


def run(*arguments, status: int = 0) -> tuple[str, str]:
    """Run the command in a process of its own, whose terminal knows few letters."""
    command = [sys.executable, "-m", "lvmzoo", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, env=ENVIRONMENT, encoding="latin-1")
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def test_each_kind_of_conversion_is_noted_once(vae_folder, pictures, out):
    for i, path in enumerate(sorted(pictures.iterdir())):
        mode = ["LA", "RGBA", "CMYK"][i % 3] if i else "L"
        Image.new(mode, (40, 40)).save(path.with_suffix(".tif"))
        path.unlink()
    expected = (
        f"note: {pictures}/01.tif and 7 more: transparency is put on black\n"
        f"note: {pictures}/02.tif and 3 more: converted from CMYK\n"
    )
    for batch_size in (5, 256):
        assert call("score", vae_folder, pictures, "--batch-size", batch_size)[1] == expected
    (pictures / "05.tif").write_bytes(b"")
    stderr = call("score", vae_folder, pictures, "--batch-size", 1, status=1)[1]
    assert stderr.splitlines()[0].startswith(f"note: {pictures}/01.tif and 7 more")
    assert stderr.splitlines()[-1] == f"Error: {pictures}/05.tif is empty"


def test_failures_are_one_line(vae_folder, out):
    weights = vae_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    stdout, stderr = run("sample", vae_folder, "-o", out / "a.png", status=1)
    assert stdout == ""
    assert stderr.startswith(f"Error: {weights} ")
    assert stderr.count("\n") == 1
    _, stderr = run("sample", vae_folder, "-n", 0, "-o", out / "a.png", status=2)
    assert stderr == "Error: Invalid value for '-n': 0 is not in the range x>=1.\n"
    assert os.listdir(out) == []


def test_a_bar_on_a_terminal_and_none_in_a_pipe(vae_folder, out):
    command = ["sample", vae_folder, "-n", 1000, "-o", out / "a.png"]
    assert run(*command) == ("", "")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    words = [sys.executable, "-m", "lvmzoo", *map(str, command)]
    subprocess.run(words, stderr=theirs, env=ENVIRONMENT, check=True)
    assert "/4" in os.read(ours, 10_000).decode()
    os.close(theirs)
    os.close(ours)


def test_a_line_a_minute_in_a_pipe(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr("tqdm.std.time", lambda: now)
    with progress(total=10_000, unit=" pictures") as bar:
        for _ in range(10):
            now += 15
            bar.set_postfix_str("3 failures", refresh=False)
            bar.update(1000)
    lines = [line.strip() for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert lines[0] == "4000 of 10000, 66.67 pictures/s, 01:30 left, 3 failures"
    assert [line.split()[0] for line in lines] == ["4000", "8000", "10000"]
