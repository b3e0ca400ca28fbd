"""Damaged files by the hundred, from a seed: none crashes, none fools the loader.

A pinned entry has a known hash: no change of its file loads. A folder has none: only a change
of a weight that stays finite may load; whatever else loads must be the same model.
"""

import io
import json
import os
import pickle
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from support.factories import make_tiny

import lvmzoo
from lvmzoo.checkpoint import CheckpointError, config_dict, serialize

MUTATIONS = 500
ENTRY = "vae2d_gaussian1"
TRICKS = ["../../etc/passwd", "/dev/zero", "", "\x00", "a\nb", "x" * 5000, "__class__", "‮", "C:\\"]
NUMBERS = [-1, 0, 1, 3, 2**31, 2**62, 2**63, 2**64, 10**400, 0.5, 1e308, True, None, "4", [], {}]


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "wb")


class Files:
    """A file of weights and a config, taken apart so that a mutation may change any piece."""

    def __init__(self, weights: bytes, config: dict[str, Any], chance: random.Random) -> None:
        self.weights, self.config, self.chance = weights, json.dumps(config).encode(), chance
        self.split = 8 + int.from_bytes(weights[:8], "little")
        self.header = json.loads(weights[8 : self.split])
        self.data = weights[self.split :]
        self.names = [name for name in self.header if name != "__metadata__"]
        self.sprung = Path("unset")

    def tensor(self) -> dict[str, Any]:
        return self.header[self.chance.choice(self.names)]

    def join(self, header: bytes | None = None) -> None:
        """Make a file of the header, its length as it now is, and the data."""
        text = json.dumps(self.header, separators=(",", ":")).encode() if header is None else header
        text += b" " * (-len(text) % 8)
        self.weights = len(text).to_bytes(8, "little") + text + self.data

    def flip(self, low: int, high: int) -> None:
        bad = bytearray(self.weights)
        bad[self.chance.randrange(low, high)] ^= 1 << self.chance.randrange(8)
        self.weights = bytes(bad)


def flip_a_bit_of_the_header(f: Files) -> None:
    f.flip(0, f.split)


def flip_a_bit_of_a_weight(f: Files) -> None:
    f.flip(f.split, len(f.weights))


def cut_short(f: Files) -> None:
    f.weights = f.weights[: f.chance.choice([0, 1, 7, 8, 9, f.split, f.chance.randrange(f.split)])]


def cut_the_end(f: Files) -> None:
    f.weights = f.weights[: -f.chance.randrange(1, len(f.data))]


def append(f: Files) -> None:
    f.weights += f.chance.randbytes(f.chance.choice([1, 8, 4096]))


def lie_about_the_length_of_the_header(f: Files) -> None:
    near = f.split - 8 + f.chance.choice([-8, -1, 1, 8])
    length = f.chance.choice([0, 1, near, len(f.weights), 2**31, 2**63, 2**64 - 1])
    f.weights = length.to_bytes(8, "little") + f.weights[8:]


def move_offsets(f: Files) -> None:
    tensor, other = f.tensor(), f.tensor()
    begin, end = tensor["data_offsets"]
    step = f.chance.choice([4, -4, 1, 2**40, -(2**40), 2**63])
    near = [[begin, end + step], [begin + step, end], [begin + step, end + step], [end, begin]]
    tensor["data_offsets"] = f.chance.choice([*near, other["data_offsets"], [begin], [], None, "0"])
    f.join()


def exchange_two_tensors(f: Files) -> None:
    a, b = f.chance.sample(f.names, 2)
    if f.chance.random() < 0.5:  # only where they lie, else the names of whole entries
        f.header[a]["data_offsets"], f.header[b]["data_offsets"] = (
            f.header[b]["data_offsets"],
            f.header[a]["data_offsets"],
        )
    else:
        f.header[a], f.header[b] = f.header[b], f.header[a]
    f.join()


def change_a_dtype(f: Files) -> None:
    kinds = ["F16", "BF16", "F64", "I32", "U8", "BOOL", "F8_E4M3", "C64", "X", "", 4, None]
    f.tensor()["dtype"] = f.chance.choice(kinds)
    f.join()


def change_a_shape(f: Files) -> None:
    tensor = f.tensor()
    shape = tensor["shape"]
    odd = [
        [*shape[::-1], 1],
        [1, *shape],
        [0],
        [],
        [*shape, 2**40],
        [2**62, 4],
        [-s for s in shape],
    ]
    tensor["shape"] = f.chance.choice([*odd, [str(s) for s in shape], None, {}])
    f.join()


def declare_huge_sizes(f: Files) -> None:
    tensor = f.tensor()
    size = f.chance.choice([2**33, 2**40, 2**50, 2**62])
    tensor["shape"], tensor["data_offsets"] = [size // 4], [0, size]
    f.join()


def write_a_number_that_is_none(f: Files) -> None:
    at = 4 * f.chance.randrange(len(f.data) // 4)
    bits = f.chance.choice(["ffffffff", "0000c07f", "0000807f", "000080ff"])  # NaN, inf, -inf
    f.data = f.data[:at] + bytes.fromhex(bits) + f.data[at + 4 :]
    f.join()


def nest_deeply(f: Files) -> None:
    depth = f.chance.choice([100, 990, 5000, 100_000])
    deep = f.chance.choice([b"[" * depth + b"]" * depth, b"[" * depth, b'{"a":' * depth])
    where = f.chance.randrange(4)
    if where == 0:
        f.config = deep
    elif where == 1:
        f.config = f.config[:-1] + b', "dataset": ' + deep + b"}"
    elif where == 2:
        f.join(deep)
    else:
        f.join(json.dumps(f.header).encode()[:-1] + b',"x":' + deep + b"}")


def rename_a_tensor(f: Files) -> None:
    name = f.chance.choice(f.names)
    new = f.chance.choice([*TRICKS, name.upper(), name + " ", name + "\x00"])
    f.header = {new if key == name else key: value for key, value in f.header.items()}
    f.join()


def drop_or_add_a_tensor(f: Files) -> None:
    model = make_tiny("VAE2D")
    state, metadata = dict(model.state_dict()), model.component_metadata("model")
    if f.chance.random() < 0.5:
        del state[f.chance.choice(f.names)]
    else:
        state[f.chance.choice(["extra", *filter(None, TRICKS)])] = torch.zeros(
            f.chance.choice([1, 9])
        )
    f.weights = serialize(state, metadata)


def change_the_metadata(f: Files) -> None:
    metadata = json.loads(f.header["__metadata__"]["lvmzoo"])
    where = f.chance.choice([metadata, metadata["config"]])
    where[f.chance.choice([*where, "more"])] = f.chance.choice([*NUMBERS, *TRICKS])
    texts = [json.dumps(metadata), json.dumps(metadata, indent=1), "{}", "[]", "", None, 3]
    f.header["__metadata__"] = {"lvmzoo": f.chance.choice([texts[0], *texts])}
    if f.chance.random() < 0.2:
        f.header["__metadata__"] = f.chance.choice(
            [{}, None, [], "x", {"format": "pt"}, {"a": "b"}]
        )
    f.join()


def write_the_header_in_another_way(f: Files) -> None:
    text = json.dumps(f.header, separators=(",", ":"))
    ways = [json.dumps(f.header), text.replace(":", ": ", 1), text.replace("e", "\\u0065", 1)]
    ways += [text + " " * 8, text[:-1] + "," + text[1:], " " + text, text + "\n"]
    ways += [text.replace("[0,", "[-0,"), text.replace("[0,", "[0.0,"), text.replace("[0,", "[00,")]
    f.join(f.chance.choice(ways).encode())


def change_the_config(f: Files) -> None:
    config = json.loads(f.config)
    key = f.chance.choice([*config, "more", "../x", "__class__"])
    lists = [["x"] * 50_000, [1] * 100_000, list(range(3))]
    config[key] = f.chance.choice([*NUMBERS, *TRICKS, *lists])
    f.config = json.dumps(config).encode()


def damage_the_config(f: Files) -> None:
    at = f.chance.randrange(len(f.config))
    bad = bytearray(f.config)
    bad[at] ^= 1 << f.chance.randrange(8)
    whole = [b"", b"null", b"[]", b"{}", b"\xff\xfe{}", b"{" * 9, b"1" * 10_000, f.config * 2]
    f.config = f.chance.choice([bytes(bad), bytes(bad), f.config[:at], *whole])


def write_a_pickle(f: Files) -> None:
    buffer = io.BytesIO()
    trap = Trap(f.sprung)
    zipped = f.chance.choice([None, True, False])
    if zipped is None:
        pickle.dump(trap, buffer)
    else:
        torch.save({"weight": trap}, buffer, _use_new_zipfile_serialization=zipped)
    if f.chance.random() < 0.3:
        f.config = buffer.getvalue()
    elif f.chance.random() < 0.5:
        f.weights = buffer.getvalue()
    else:  # behind a good header
        f.weights = f.weights[: f.split] + buffer.getvalue()


def take_another_models_file(f: Files) -> None:
    f.weights = make_tiny(f.chance.choice(["VAE", "VLAE"])).serialize()


def write_chance(f: Files) -> None:
    f.weights = f.chance.randbytes(f.chance.choice([1, 8, 100, 10_000]))


ALL: list[Callable[[Files], None]] = [
    value
    for value in list(globals().values())
    if getattr(value, "__module__", "") == __name__
    and getattr(value, "__annotations__", {}).get("f") is Files
]
OF_CONFIG = {change_the_config, damage_the_config}


@contextmanager
def little_memory(extra: int = 1 << 29) -> Iterator[None]:
    """Let this process grow by no more than so many bytes."""
    now = (
        int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        * resource.getpagesize()
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def attempt(name: str | Path) -> lvmzoo.models.base.ZooModel | None:
    """Load, or be refused in one clear sentence."""
    try:
        return lvmzoo.from_pretrained(name)
    except CheckpointError as error:
        message = str(error)
        assert len(message.splitlines()) == 1, message
        assert 20 < len(message) < 600, message
        assert message.isprintable(), message
        return None


def test_no_change_of_an_entry_loads(zoo, tmp_path):
    good, chance = zoo.path(ENTRY).read_bytes(), random.Random(0)
    config = {"model_class": "VAE2D", **lvmzoo.model_info(ENTRY).config}
    assert attempt(ENTRY) is not None
    kinds = [kind for kind in ALL if kind not in OF_CONFIG]
    count = 0
    with little_memory():
        while count < MUTATIONS:
            files = Files(good, config, chance)
            files.sprung = tmp_path / "sprung"
            kinds[count % len(kinds)](files)
            if files.weights == good:
                files.flip(0, len(good))  # of two equal tensors, say
            zoo.path(ENTRY).write_bytes(files.weights)
            assert attempt(ENTRY) is None, kinds[count % len(kinds)].__name__
            count += 1
    assert not (tmp_path / "sprung").exists()
    zoo.path(ENTRY).write_bytes(good)
    assert attempt(ENTRY) is not None


def test_only_a_finite_weight_of_a_folder_can_change(vae2d_folder, tmp_path):
    chance, expected = random.Random(1), make_tiny("VAE2D")
    weights, config = vae2d_folder / "model.safetensors", vae2d_folder / "config.json"
    good, values = weights.read_bytes(), json.loads(config.read_bytes())
    loaded: dict[str, int] = {}
    with little_memory():
        for i in range(MUTATIONS):
            kind = ALL[i % len(ALL)]
            files = Files(good, values, chance)
            files.sprung = tmp_path / "sprung"
            kind(files)
            weights.write_bytes(files.weights)
            config.write_bytes(files.config)
            model = attempt(vae2d_folder)
            if model is None:
                continue
            loaded[kind.__name__] = loaded.get(kind.__name__, 0) + 1
            assert config_dict(model.config) == config_dict(expected.config)
            # Nothing but data may differ, and JSON that means the same in config.json.
            assert files.weights[: files.split] == good[: files.split], kind.__name__
            assert len(files.weights) == len(good)
            assert all(p.isfinite().all() for p in model.parameters())
            if kind is not flip_a_bit_of_a_weight:
                assert files.weights == good, kind.__name__
    assert not (tmp_path / "sprung").exists()
    assert loaded["flip_a_bit_of_a_weight"] > 10, loaded
    assert sum(loaded.values()) < 2 * loaded["flip_a_bit_of_a_weight"], loaded


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("kind", ["huge", "device", "folder", "loop", "pipe"])
def test_what_is_no_plain_file_of_a_sane_size(vae2d_folder, file, kind):
    path = vae2d_folder / file
    path.unlink()
    if kind == "huge":
        with path.open("wb") as sparse:
            sparse.truncate(1 << 40)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    else:
        os.mkfifo(path)
    with little_memory():
        assert attempt(vae2d_folder) is None


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung"))).close()
    assert (tmp_path / "sprung").exists()


def test_pickles_where_other_files_are_read(tmp_path, vae2d_folder):
    """Latents, runs, figures and pictures: whatever a user hands over is not unpickled."""
    from click.testing import CliRunner

    from lvmzoo.cli import main
    from training.publish import main as publish
    from training.train import main as train

    path = tmp_path / "file.png"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    run = Path(shutil.copytree(vae2d_folder, tmp_path / "run"))
    shutil.copyfile(path, run / "run.json")
    broken = tmp_path / "broken"
    broken.mkdir()
    shutil.copyfile(path, broken / f"checkpoint-{1:09d}-{'0' * 16}.safetensors")
    calls = [
        (main, ["decode", "vae2d_gaussian1", path, "-o", tmp_path / "out"]),
        (main, ["encode", "vae_mnist", path, "-o", tmp_path / "out"]),
        (publish, ["mine", "--run", run, "--to", tmp_path / "out"]),
        (train, [ENTRY, "--out", broken, "--resume", "--device", "cpu"]),
    ]
    for command, arguments in calls:
        result = CliRunner().invoke(command, [str(a) for a in arguments])
        assert result.exit_code in (1, 2), (arguments, result.output, result.exception)
        assert isinstance(result.exception, SystemExit), (arguments, result.exception)
    assert not (tmp_path / "sprung").exists()
    assert not (tmp_path / "out").exists()
