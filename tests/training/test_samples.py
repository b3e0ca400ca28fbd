"""How images that a model makes compare with real ones."""

from dataclasses import replace

import pytest
import torch
from support.factories import make_tiny
from support.runs import noise

import lvmzoo
from training import samples
from training.classifier import Classifier
from training.data import as_input
from training.families import family_of
from training.families.base import Made
from training.samples import has_samples, measure_samples


@pytest.fixture
def judge() -> Classifier:
    torch.manual_seed(0)
    return Classifier(1, 10, 2).eval()


def digits(n, seed=0):
    data = noise(n, tuple("0123456789"), seed)
    return replace(data, x=data.x[:, :1])


def test_images_but_no_points_are_compared():
    assert has_samples(lvmzoo.model_info("vqvae_svhn"))
    assert has_samples(lvmzoo.model_info("vlae_mnist"))
    assert not has_samples(lvmzoo.model_info("vae2d_gaussian1"))


@pytest.fixture
def measure(judge, monkeypatch):
    """Compare what a function of the real images makes with them."""

    def found(make, real, train):
        model = make_tiny("VAE")
        monkeypatch.setattr(
            type(family_of("VAE")), "make", lambda self, model, real: iter([make(real)])
        )
        return measure_samples(model, judge, real, train)

    return found


def test_the_same_images_are_perfect_and_others_are_not(measure):
    real, train = digits(30), digits(40, seed=1)
    result = measure(lambda r: Made("same", as_input(r.x), r.labels), real, train)
    assert result["images"] == 30
    first, same = result["kinds"]
    assert (first["title"], same["title"]) == ("training images", "same")
    assert same["metrics"]["frechet"] == pytest.approx(0, abs=1e-4)
    for name in ("precision", "recall", "coverage"):
        assert same["metrics"][name] == 1
    # As of the whole split, since these are all of it.
    assert same["metrics"]["recognised"] == result["accuracy"]
    assert "recognised" not in first["metrics"]

    result = measure(lambda r: Made("black", torch.zeros(30, 1, 32, 32)), real, train)
    black = result["kinds"][1]["metrics"]
    assert black["frechet"] > 10 * first["metrics"]["frechet"] > 0
    assert black["coverage"] == black["recall"] == 0
    assert first["metrics"]["coverage"] > 0.5


def test_as_many_images_of_each_kind_are_compared(measure, monkeypatch):
    monkeypatch.setattr(samples, "IMAGES", 12)
    seen = []

    def make(real):
        seen.append(real)
        return Made("same", as_input(real.x), real.labels)

    result = measure(make, digits(40), digits(30, seed=1))
    assert result["images"] == len(seen[0]) == 12
    assert seen[0].labels.tolist() != [*range(10), 0, 1]  # not the first ones
    measure(make, digits(40), digits(30, seed=1))
    assert torch.equal(seen[0].x, seen[1].x)


def test_the_accuracy_is_that_of_the_whole_split(measure, judge):
    real = digits(40)
    result = measure(lambda r: Made("same", as_input(r.x)), real, digits(20))
    with torch.no_grad():
        right = judge(as_input(real.x)).argmax(1) == real.labels
    assert result["accuracy"] == right.double().mean().item()


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("VAE", []),
        ("VLAE", []),
        ("VQVAE", []),
        ("gated VQVAE", [f"samples given the class, guidance {w}" for w in (0, 1, 2, 4)]),
    ],
)
def test_every_kind_of_image_is_made(kind, more, judge):
    model = make_tiny(kind)
    size = model.image_shape[1]
    real, train = digits(12), digits(12, seed=1)
    real, train = (replace(s, x=s.x[:, :, :size, :size]) for s in (real, train))
    result = measure_samples(model, judge, real, train)
    titles = [k["title"] for k in result["kinds"]]
    assert titles == ["training images", "reconstructions", "samples", *more]
    known = family_of(type(model).__name__).sample_metrics
    for found in result["kinds"]:
        labelled = found["title"] not in ("training images", "samples")
        assert found["metrics"].keys() == known.keys() - (set() if labelled else {"recognised"})
    again = measure_samples(model, judge, real, train)
    assert again == result


def test_samples_of_a_class_are_of_the_classes_of_the_real_images(monkeypatch):
    model, asked = make_tiny("gated VQVAE"), []
    draw = type(model).sample

    def sample(self, n, **options):
        asked.append((options.get("labels"), options.get("guidance")))
        return draw(self, n, **options)

    monkeypatch.setattr(type(model), "sample", sample)
    real = digits(7)
    real = replace(real, x=real.x[:, :, :16, :16], labels=torch.tensor([1, 1, 4, 9, 9, 9, 0]))
    made = list(family_of("VQVAE").make(model, real))
    assert [guidance for _, guidance in asked] == [None, 0, 1, 2, 4]
    assert all(torch.equal(labels, real.labels) for labels, _ in asked[1:])
    assert all(torch.equal(m.labels, real.labels) for m in made[2:])
