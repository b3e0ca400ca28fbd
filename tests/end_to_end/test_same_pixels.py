"""One path for pictures: training, `encode`, the commands and `transform` see the same pixels."""

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import lvmzoo
from lvmzoo.cli.options import Job
from lvmzoo.notes import ImageNote, Notes
from lvmzoo.pictures.find import find
from lvmzoo.pictures.many import Decoders
from lvmzoo.registry import DATASETS
from training.data import read_folder

CIFAR10 = DATASETS["cifar10"]


def difficult() -> dict[str, bytes]:
    """Pictures that are turned by EXIF, of 16 bits, with alpha, and damaged."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 50, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    images = {
        "alpha": (Image.fromarray(pixels), {}),
        "deep": (Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), {}),
        "turned": (Image.fromarray(pixels[..., :3].copy()), {"exif": exif}),
    }
    found = {}
    for name, (image, options) in images.items():
        buffer = io.BytesIO()
        image.save(buffer, "PNG", **options)
        found[f"{name}.png"] = buffer.getvalue()
    return found | {"zdamaged.png": found["alpha.png"][:900]}


def test_training_codes_commands_and_transform_see_the_same_pixels(tmp_path):
    for name, data in difficult().items():
        (tmp_path / name).write_bytes(data)
    model = lvmzoo.create_model("vae_cifar10")
    to = lvmzoo.transform(model)
    good = sorted(path for path in tmp_path.iterdir() if "damaged" not in path.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageNote)
        expected = torch.stack([to(Image.open(path)) for path in good])
        assert torch.equal(lvmzoo.load_images(good, model), expected)
    trained = read_folder(tmp_path, CIFAR10, skip=True).whole
    assert torch.equal(trained.x / 255, expected)
    with Decoders(to) as decoders:
        (block,) = decoders.blocks([list(find([tmp_path], Notes()))])
    assert torch.equal(torch.from_numpy(block.pixels).permute(0, 3, 1, 2) / 255, expected)
    job = Job("vae_cifar10", "cpu", 256)
    assert torch.equal(next(job.batches(job.find(good), model)), expected)
    with pytest.raises(ValueError, match=r"zdamaged\.png is a truncated or damaged image"):
        next(job.batches(job.find([tmp_path]), model))
    damage = next(reason for reason in block.reasons if reason)
    assert damage.startswith(f"{tmp_path}/zdamaged.png is a truncated or damaged image")
