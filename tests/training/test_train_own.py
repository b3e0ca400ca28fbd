"""`training.train --images`: what is refused before any work, and what is done and recorded."""

import json
import re
import shutil

import pytest
from click.testing import CliRunner
from support.runs import SMALL_VQVAE
from support.trees import write_alike, write_picture

import lvmzoo
from training import evaluate, train
from training.run import read_run

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


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--image-size", "20"], 2, "--image-size must be a multiple of 8, not 20"),
        (["--image-size", "8"], 2, "8 is not in the range 16<=x<=512"),
        (["--image-size", "24", "--config", "downsampling=16"], 2, "multiple of the downsampling"),
        (["--config", "depth=3"], 2, "unknown key 'depth'"),
        (["--init", "vae_cifar10"], 1, "is a VAE, and vqvae_gated_cifar10 a VQVAE"),
        (["--init", "vqvae_mnist"], 1, "is for pictures of 1 channel, and this model for 3"),
        (["--init", "vqvae_cifar"], 2, "did you mean vqvae_cifar10"),
        (["--set", "autoencoder.epochs=0"], 2, "and there is no --init"),
        (
            ["--init", "vqvae_gated_cifar10", "--set", "prior.epochs=0"],
            2,
            "set autoencoder.epochs=0, too",
        ),
        (["--set", "decoder.epochs=1"], 1, "trains no such component"),
        (["--codes", "."], 2, "--codes excludes --images and --config"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(mine, tmp_path, arguments, code, message):
    out = tmp_path / "runs/out"
    result = command("vqvae_gated_cifar10", "--images", mine, "--out", out, *arguments)
    assert result.exit_code == code
    assert message in result.output
    assert result.output.count("\n") <= 4  # one sentence, after click's usage if that is printed
    assert not out.parent.exists()


def test_few_pictures_are_said_to_be_few(mine, tmp_path):
    output = works(
        *("vae_cifar10", "--images", mine, "--out", tmp_path / "out", "--device", "cpu"),
        *("--set", "epochs=1", "--config", "channels=[4, 4, 8]"),
    ).output
    lines = output.splitlines()
    assert lines[0].startswith("mine: 24 pictures in 2 classes (cat 12, dog 12); 17 train")
    assert re.fullmatch(r"model: [\d,]+ parameters, 1 steps of 17 pictures", lines[1])
    assert "the 17 examples to train on are fewer than batch_size 128" in lines[2]


def test_what_was_done_is_recorded(mine, tmp_path):
    out, again = tmp_path / "runs/mine", tmp_path / "runs/again"
    (mine / "cat/000.png").write_bytes(b"none")
    arguments = "vqvae_gated_cifar10", "--images", mine, *QUICK, *SMALL, "--skip-unreadable"
    works(*arguments, "--out", out, "--image-size", 16)
    said = works(*arguments, "--out", again, "--image-size", 24, "--init", out).output
    assert "6 x 6 = 36 codes per picture" in said
    record = read_run(again)
    assert record.options[:2] == ["--image-size", "24"]
    assert record.options[-3:] == ["--init", "./mine", "--skip-unreadable"]
    assert record.config["image_size"] == 24
    assert record.data_caveat == "1 of 24 pictures could not be read and were left out."
    assert record.parts["autoencoder"].begun_from.name == "./mine"
    assert record.precision in ("bf16", "float32")
    assert not list(again.rglob("scratch"))
    model = lvmzoo.from_pretrained(again)
    assert (model.config.grid, model.config.classes) == ((6, 6), ("cat", "dog"))


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


def test_a_resumed_prior_finds_its_codes_and_is_not_measured_before_it_ends(mine, tmp_path):
    out = tmp_path / "out"
    arguments = ["vqvae_cifar10", "--images", mine, "--out", out, *QUICK, *SMALL, "--resume"]

    def codes():
        return {p.name[:13]: p.stat().st_ctime_ns for p in (out / "prior/scratch").glob("codes-*")}

    while not codes():  # the steps of the autoencoder, and the first of the prior
        assert "go on with --resume" in works(*arguments, "--time-limit", "0s").output
    first = codes()
    assert [*sorted(first)] == ["codes-flip-0-", "codes-flip-1-"]
    works(*arguments, "--time-limit", "0s")
    assert codes() in (first, {})
    shutil.rmtree(out / "prior")
    (out / "config.json").unlink(missing_ok=True)
    measured = command("vqvae_cifar10", "--images", mine, "--weights", out, main=evaluate.main)
    assert f"{out} holds no finished run; training.train --resume goes on" in measured.output
