"""`training.train --images`: what is refused before any work, and what is done and recorded."""

import json
import re

import pytest
import torch
from click.testing import CliRunner
from support.runs import SMALL_VQVAE
from support.trees import write_alike, write_picture

import lvmzoo
from lvmzoo.checkpoint import read_component
from training import evaluate, train
from training.data import Rows, rows
from training.run import read_record

pytestmark = pytest.mark.usefixtures("few_revival_images")

SMALL = [word for k, v in SMALL_VQVAE.items() for word in ("--config", f"{k}={v}")]
QUICK = ["--device", "cpu", "--set", "epochs=1", "--set", "batch_size=8"]


def command(*arguments, main=train.main):
    return CliRunner().invoke(main, [str(a) for a in arguments])


def works(*arguments, main=train.main):
    result = command(*arguments, main=main)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def mine(tmp_path):
    write_alike(tmp_path / "mine", ["cat", "dog"], 12)
    return tmp_path / "mine"


@pytest.mark.parametrize("option", [["--image-size", "64"], ["--cache", "c"]])
def test_options_of_pictures_need_pictures(tmp_path, option):
    result = command("vae_cifar10", "--out", tmp_path / "out", *option)
    assert result.exit_code == 2
    assert f"{option[0]} is for one's own pictures: give --images, too" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--image-size", "20"], 2, "--image-size must be a multiple of 8, not 20"),
        (["--image-size", "8"], 2, "8 is not in the range 16<=x<=512"),
        (["--image-size", "1024"], 2, "1024 is not in the range 16<=x<=512"),
        (["--image-size", "24", "--config", "downsampling=16"], 2, "multiple of the downsampling"),
        (["--config", "depth=3"], 2, "unknown key 'depth'"),
        (["--config", "num_codes=1"], 2, "num_codes must be from 2 to 65536, not 1"),
        (["--config", "num_codes=few"], 2, "num_codes must be int"),
        (["--init", "vae_cifar10"], 1, "is a VAE, and vqvae_gated_cifar10 a VQVAE"),
        (["--init", "vqvae_mnist"], 1, "for pictures of 1 channel, and this model for 3"),
        (["--init", "vqvae_cifar"], 2, "did you mean vqvae_cifar10"),
        (["--set", "autoencoder.epochs=0"], 2, "and there is no --init"),
        (["--set", "decoder.epochs=1"], 1, "trains no such component"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(mine, tmp_path, arguments, code, message):
    out = tmp_path / "runs/out"
    result = command("vqvae_gated_cifar10", "--images", mine, "--out", out, *arguments)
    assert result.exit_code == code
    assert message in result.output
    assert result.output.count("\n") <= 4  # one sentence, after click's usage if that is printed
    assert not out.parent.exists()


def test_pictures_that_cannot_be_used_are_refused(mine, tmp_path):
    def refused(*more):
        result = command("vae_cifar10", "--images", mine, "--out", tmp_path / "out", *more)
        assert result.exit_code == 1
        assert not (tmp_path / "out").exists()
        return result.output

    (mine / "cat/000.png").write_bytes(b"none")
    write_picture(mine / "one/0.png", 3)
    assert "1 of 25 pictures cannot be read" in refused()
    assert "the class 'one' of" in refused("--skip-unreadable")
    write_alike(mine / "train", ["a"], 5)
    write_picture(mine / "test/b/0.png", 3)
    assert "test pictures of mine have the class 'b', others do not" in refused()


def test_few_pictures_are_said_to_be_few(mine, tmp_path):
    output = works(
        *("vae_cifar10", "--images", mine, "--out", tmp_path / "out", "--device", "cpu"),
        *("--set", "epochs=1", "--config", "channels=[4, 4, 8]"),
    ).output
    lines = output.splitlines()
    assert lines[0].startswith("mine: 24 pictures in 2 classes (cat 12, dog 12); 17 train")
    assert lines[1].startswith("model: ")
    assert "the 17 examples to train on are fewer than batch_size 128" in lines[2]


def test_what_was_done_is_recorded(mine, tmp_path):
    out = tmp_path / "runs/mine"
    (mine / "cat/000.png").write_bytes(b"none")
    first = works("vqvae_gated_cifar10", "--images", mine, "--out", out, *QUICK, *SMALL,
                  "--image-size", 16, "--skip-unreadable")  # fmt: skip
    assert "1 unreadable ones left out" in first.output
    again = tmp_path / "runs/again"
    works("vqvae_gated_cifar10", "--images", mine, "--out", again, *QUICK, *SMALL,
          "--image-size", 24, "--init", out, "--skip-unreadable")  # fmt: skip
    record = read_record(again)
    assert record["options"][:2] == ["--image-size", "24"]
    assert record["options"][-3:] == ["--init", "./mine", "--skip-unreadable"]
    assert record["config"]["image_size"] == 24
    assert record["data_caveat"] == "1 of 24 pictures could not be read and were left out."
    assert record["parts"]["autoencoder"]["begun_from"]["from"] == "./mine"
    assert record["precision"] in ("bf16", "float32")
    assert not list(again.rglob("scratch"))
    model = lvmzoo.from_pretrained(again)
    assert (model.config.grid, model.config.classes) == ((6, 6), ("cat", "dog"))
    assert sorted(p.name[:8] for p in (tmp_path / "runs/cache").glob("mine-*")) == [
        "mine-16-",
        "mine-24-",
    ]


def test_pictures_without_classes_train_a_gated_prior_without_labels(tmp_path):
    for i in range(20):
        write_picture(tmp_path / f"flat/{i}.png", i, (30, 40))
    out = tmp_path / "out"
    works("vqvae_gated_cifar10", "--images", tmp_path / "flat", "--out", out, *QUICK, *SMALL)
    model = lvmzoo.from_pretrained(out)
    assert model.config.classes == ()
    assert model.prior.num_labels == 0
    assert model.sample(2).shape == (2, 3, 32, 32)
    result = works("vqvae_gated_cifar10", "--images", tmp_path / "flat", "--weights", out,
                   main=evaluate.main)  # fmt: skip
    metrics = json.loads(result.stdout)["metrics"]
    assert "markov_bits_per_code" in metrics
    assert "conditional_bits_per_code" not in metrics


def test_a_run_on_a_map_is_that_on_memory(mine, tmp_path, monkeypatch):
    """Order, noise and codes: to the bit."""
    arguments = ["vqvae_cifar10", "--images", mine, *QUICK, *SMALL, "--set", "prior.augment=flip"]
    works(*arguments, "--out", tmp_path / "mapped")
    plain = train.read_folder

    def in_memory(folder, data, cache, *, skip, deadline):
        return plain(folder, data)

    monkeypatch.setattr(train, "read_folder", in_memory)
    works(*arguments, "--out", tmp_path / "memory")
    for name in ("autoencoder", "prior"):
        mapped, memory = (
            read_component(tmp_path / run / f"{name}.safetensors") for run in ("mapped", "memory")
        )
        assert mapped.tensors.keys() == memory.tensors.keys()
        assert all(torch.equal(v, memory.tensors[k]) for k, v in mapped.tensors.items())


def test_a_resumed_prior_finds_its_codes(mine, tmp_path, monkeypatch):
    out = tmp_path / "out"
    arguments = ["vqvae_cifar10", "--images", mine, "--out", out, *QUICK, *SMALL, "--resume"]
    for _ in range(4):  # the steps of the autoencoder, and the first of the prior
        result = works(*arguments, "--time-limit", "0s")
        if (out / "prior").exists() and list((out / "prior").glob("checkpoint-*")):
            break
    assert "go on with --resume" in result.output
    codes = sorted(path.name[:13] for path in (out / "prior/scratch").glob("codes-*"))
    assert codes == ["codes-flip-0-", "codes-flip-1-"]
    made = []
    plain = rows._fill
    monkeypatch.setattr(rows, "_fill", lambda *a: (made.append(a), plain(*a)))
    works(*arguments)
    assert made == []
    assert not (out / "prior/scratch").exists()


def test_a_time_limit_holds_while_pictures_are_read(mine, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "_PIECE_BYTES", 10 * 3 * 32 * 32)
    arguments = ["vae_cifar10", "--images", mine, "--out", tmp_path / "out", *QUICK, "--resume"]
    for done in (10, 20):
        output = works(*arguments, "--time-limit", "0s").output
        assert output == f"stopped reading pictures ({done} of 24 are done); go on with --resume\n"
        assert not (tmp_path / "out").exists()
    output = works(*arguments, "--time-limit", "0s").output
    assert re.search(r"stopped at step 1 of 2 of the model, about \d\d:\d\d before its end", output)


def test_overwriting_removes_what_was_prepared(mine, tmp_path):
    out = tmp_path / "out"
    (out / "prior/scratch/codes-none").mkdir(parents=True)
    (out / "prior/scratch/codes-none/rows.npy").write_bytes(b"")
    works("vqvae_cifar10", "--images", mine, "--out", out, *QUICK, *SMALL, "--overwrite")
    assert not (out / "prior/scratch").exists()


def test_unfinished_runs_are_not_measured(mine, tmp_path):
    out = tmp_path / "out"
    arguments = ["vae_cifar10", "--images", mine, "--out", out, *QUICK]
    works(*arguments, "--time-limit", "0s")
    result = command("vae_cifar10", "--images", mine, "--weights", out, main=evaluate.main)
    assert result.exit_code == 1
    assert f"{out} holds no finished run; training.train --resume goes on" in result.output


def test_the_cache_may_lie_elsewhere(mine, tmp_path, monkeypatch):
    seen = []
    plain = train.EntryRun.plan
    monkeypatch.setattr(
        train.EntryRun, "plan", lambda *a, **k: (seen.append(a[2]), plain(*a, **k))[1]
    )
    works("vae_cifar10", "--images", mine, "--out", tmp_path / "runs/out", *QUICK,
          "--cache", tmp_path / "elsewhere", "--config", "channels=[4, 4, 8]")  # fmt: skip
    assert all(isinstance(split.x, Rows) for split in seen[0])
    assert seen[0][0].x.file.name.startswith(str(tmp_path / "elsewhere"))
    assert not (tmp_path / "runs/cache").exists()
