"""What all commands share: notes, names, terminals, and a process of their own."""

import json
import os
import pty
import runpy
import select
import shutil
import subprocess
import sys
import termios
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from support.command import call

import lvmzoo
from lvmzoo.cli import main


def test_conversions_are_noted(vae_folder, out):
    Image.new("CMYK", (40, 40)).save(out / "a.tif")
    stdout, stderr = call("score", vae_folder, out / "a.tif", "--json")
    assert stderr == f"note: {out}/a.tif: converted from CMYK\n"
    assert len(json.loads(stdout)) == 1


def test_each_kind_of_conversion_is_noted_once_for_a_whole_command(vae_folder, pictures, out):
    for i, path in enumerate(sorted(pictures.iterdir())):
        Image.new(["LA", "RGBA", "CMYK"][i % 3] if i else "L", (40, 40)).save(
            path.with_suffix(".tif")
        )
        path.unlink()
    expected = (
        f"note: {pictures}/01.tif and 7 more: transparency is put on black\n"
        f"note: {pictures}/02.tif and 3 more: converted from CMYK\n"
    )
    for batch_size in (1, 5, 256):
        _, stderr = call("score", vae_folder, pictures, "--batch-size", batch_size)
        assert stderr == expected
    _, stderr = call("encode", vae_folder, pictures, "-o", out / "z.safetensors")
    assert stderr == expected
    two = pictures / "03.tif", pictures / "04.tif"
    _, stderr = call("interpolate", vae_folder, *two, "-o", out / "a.png")
    assert stderr == f"note: {two[0]} and 1 more: transparency is put on black\n"
    (pictures / "05.tif").write_bytes(b"")
    stderr = call("score", vae_folder, pictures, "--batch-size", 1, status=1)[1]
    assert stderr.splitlines()[0].startswith(f"note: {pictures}/01.tif and 7 more")
    assert stderr.splitlines()[-1] == f"Error: {pictures}/05.tif is empty"


@pytest.mark.filterwarnings("error")
def test_commands_leave_streams_and_warning_filters_as_they_were(vae_folder, out, capsys):
    Image.new("CMYK", (40, 40)).save(out / "a.tif")
    streams = sys.stdout, sys.stderr
    before = list(warnings.filters), warnings.showwarning, [s.errors for s in streams]
    main(["score", str(vae_folder), str(out / "a.tif")], standalone_mode=False)
    assert "note: " in capsys.readouterr().err
    after = list(warnings.filters), warnings.showwarning, [s.errors for s in streams]
    assert after == before


SCRIPT = [sys.executable, "-c", "from lvmzoo.cli import main; main()"]


def environment() -> dict[str, str]:
    root = str(Path(lvmzoo.__path__[0]).parent)
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp437"])
def test_help_on_any_terminal(encoding):
    for command in ([], *([name] for name in main.commands)):
        result = CliRunner(charset=encoding).invoke(main, [*command, "--help"])
        assert result.exit_code == 0
        assert result.stdout_bytes.startswith(b"Usage: ")
        assert result.output_bytes.isascii()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_names_that_are_no_utf8(vae_folder, pictures, out, encoding, monkeypatch):
    """As a camera on another code page wrote them."""
    odd = os.fsdecode(b"caf\xe9")
    picture = pictures / f"{odd}.png"
    try:
        os.rename(pictures / "00.png", picture)
    except OSError:
        pytest.skip("this file system takes no such names")
    shutil.copytree(vae_folder, out / odd)
    monkeypatch.chdir(out)

    def run(*arguments, status=0) -> tuple[str, str]:
        result = CliRunner(charset=encoding).invoke(main, [str(a) for a in arguments])
        assert result.exit_code == status, result.output
        return result.stdout, result.stderr

    stdout, stderr = run("score", odd, picture)
    assert stderr == ""
    assert stdout.splitlines()[1].endswith(("caf\\udce9.png", "caf?.png"))
    row = json.loads(run("score", odd, picture, "--json")[0])[0]
    assert os.fsencode(row["file"]) == os.fsencode(picture)
    picture.write_bytes(b"no picture")
    _, stderr = run("score", odd, picture, status=1)
    assert stderr.startswith("Error: ")
    assert stderr.endswith(".png is not an image that can be read\n")
    _, stderr = run("sample", odd, "-n", 1)
    assert stderr.startswith("written to caf")
    run("encode", odd, pictures / "01.png", "-o", f"{odd}.safetensors")
    run("decode", odd, f"{odd}.safetensors", "-o", f"{odd}.d")
    names = sorted(os.listdir(os.fsencode(out)))
    assert names == [b"caf\xe9", b"caf\xe9.d", b"caf\xe9.png", b"caf\xe9.safetensors"]


def test_the_module_is_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lvmzoo/__main__.py", "info", "vae_minst"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("lvmzoo", run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("Error: unknown entry 'vae_minst'; did you mean")


def test_a_terminal_that_lacks_a_character():
    """A process of its own: its streams are not those of a test runner."""
    options = environment() | {"PYTHONIOENCODING": "latin-1"}
    command = [sys.executable, "-m", "lvmzoo", "info", "\N{CYRILLIC SMALL LETTER YA}"]
    done = subprocess.run(command, capture_output=True, env=options)
    assert done.returncode == 2
    assert done.stderr.startswith(rb"Error: unknown entry '\u044f'; ")


def test_a_real_failure(vae_folder, out):
    weights = vae_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    command = [*SCRIPT, "sample", str(vae_folder), "-o", str(out / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=out)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"Error: {weights} ")
    assert done.stderr.count("\n") == 1
    command += ["-n", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=out)
    assert done.returncode == 2
    assert done.stderr == "Error: Invalid value for '-n': 0 is not in the range 1<=x<=1000000.\n"
    assert os.listdir(out) == []


def test_a_bar_on_a_terminal_and_none_in_a_pipe(vae_folder, out):
    options = ["-n", "1000", "-o"]
    command = [*SCRIPT, "sample", str(vae_folder), *options]
    done = subprocess.run(
        [*command, str(out / "a.png")], capture_output=True, text=True, env=environment(), cwd=out
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    subprocess.run([*command, str(out / "b.png")], stderr=theirs, env=environment(), check=True)
    readable, _, _ = select.select([ours], [], [], 0)
    assert readable
    assert "/4" in os.read(ours, 10_000).decode()
    os.close(theirs)
    os.close(ours)
    assert sorted(os.listdir(out)) == ["a.png", "b.png"]


def test_the_installed_command_is_this_one():
    script = shutil.which("lvmzoo", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("lvmzoo is not installed in this environment")
    done = subprocess.run([script, "list", "--json"], capture_output=True, text=True, check=True)
    assert [entry["name"] for entry in json.loads(done.stdout)] == lvmzoo.list_models()
