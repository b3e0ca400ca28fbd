"""How the images that a model makes compare with real ones, as a small classifier sees them.

The classifier of a data set is trained once, by its recipe, and kept among the runs.
"""

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lvmzoo.checkpoint import build_config
from lvmzoo.console import progress
from lvmzoo.files import atomic_file
from lvmzoo.models.base import ZooModel
from lvmzoo.registry import ModelInfo
from training.augment import augment, draw_noise
from training.data import Split, as_input, batch_size, sha256
from training.families import family_of
from training.families.base import SampleSet
from training.metrics import frechet_distance, overlap
from training.records import ImageFigures, SampleFigures
from training.trainer import has_bfloat16

IMAGES = 2000  # of each kind, or all that the smaller split has
RECIPES = Path(__file__).parent / "recipes" / "classifiers"  # one for each data set


def has_samples(info: ModelInfo) -> bool:
    """Whether the images that models of an entry make are compared with real ones."""
    return (
        bool(family_of(info.model_class).sample_metrics)
        and (RECIPES / f"{info.dataset}.toml").exists()
    )


@torch.inference_mode()
def measure_samples(
    model: ZooModel, judge: "Classifier", split: Split, train: Split
) -> SampleFigures:
    """Compare with images of a split: others of the training set, and what the model makes.

    Arguments:
        model: Its family has `sample_metrics`.
        judge: The classifier of its classes, in eval mode on its device.
        split: Where the real images are taken from.
        train: The training set; its images say how near real ones come.
    """
    n = min(IMAGES, len(split), len(train))
    real, seen = _some(split, n), _some(train, n)
    features, _ = _features_and_classes(judge, as_input(real.x[:]))
    predicted = _features_and_classes(judge, as_input(split.x[:]))[1].cpu()
    kinds = [
        SampleSet("training images", as_input(seen.x[:])),
        *family_of(type(model).__name__).sample_sets(model, real),
    ]
    accuracy = (predicted == split.labels).double().mean().item()
    return SampleFigures(n, accuracy, [_compare(judge, features, kind) for kind in kinds])


def _some(split: Split, n: int) -> Split:
    """Return n examples of a split, always the same."""
    return split.take(torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:n])


def _compare(judge: "Classifier", real: Tensor, made: SampleSet) -> ImageFigures:
    features, predicted = _features_and_classes(judge, made.x)
    figures = {"frechet": frechet_distance(real, features), **overlap(real, features)}
    if made.labels is not None:
        right = predicted.cpu() == made.labels.cpu()
        figures["recognised"] = right.double().mean().item()
    return ImageFigures(made.title, figures)


def _features_and_classes(judge: "Classifier", x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features (N, D) and the likeliest class (N,) of images."""
    device = next(judge.parameters()).device
    features = torch.cat([judge.features(part.to(device)) for part in x.split(batch_size(x.shape))])
    return features, judge.head(features).argmax(1)


@dataclass(frozen=True)
class ClassifierRecipe:
    """How a classifier is trained, with SGD: the learning rate rises to `lr` and falls to zero."""

    epochs: int
    width: int = 32  # channels at half the picture's resolution, doubled at each further halving
    batch_size: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    augment: tuple[str, ...] = ()  # one after another; see `training.augment`
    seed: int = 0


class Classifier(nn.Module):
    """A residual network that reads images (N, C, H, W) in [0, 1].

    References:
        Deep Residual Learning for Image Recognition (He et al. 2015),
        https://arxiv.org/abs/1512.03385

    Arguments:
        in_channels: C.
        num_classes: How many classes there are.
        width: Channels at half the picture's resolution; the features have four times as many.
    """

    def __init__(self, in_channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        widths = (in_channels, width, 2 * width, 4 * width)
        stages = (
            layer
            for before, after in pairwise(widths)
            for layer in (_unit(before, after, stride=2), _Residual(after))
        )
        self.body = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(widths[-1], num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer, (N, 4 * width)."""
        hidden: Tensor = self.body(2 * x - 1)
        return hidden

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the classes, (N, num_classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def _unit(channels: int, out: int, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(_unit(channels, channels), _unit(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)  # type: ignore[no-any-return]


def read_classifier_recipe(dataset: str) -> ClassifierRecipe:
    """Read how the classifier of a data set is trained."""
    path = RECIPES / f"{dataset}.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return build_config(ClassifierRecipe, table, f"recipe classifiers/{path.name}")


def trained_classifier(
    dataset: str, train: Split, folder: Path, device: str | torch.device = "cpu"
) -> Classifier:
    """Return the classifier of a data set, in eval mode on a device.

    It is kept in `folder` under a name that follows from recipe, data and network, and trained if
    it is not there.
    """
    recipe = read_classifier_recipe(dataset)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = Classifier(train.x.shape[1], len(train.classes), recipe.width)
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    facts = {"recipe": asdict(recipe), "data": sha256(train), "shapes": shapes}
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{dataset}-{key}.safetensors"
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.to(device).eval()
    fit_classifier(model.to(device), train, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, temporary)
    return model.eval()


def fit_classifier(model: Classifier, train: Split, recipe: ClassifierRecipe) -> None:
    """Train a classifier in place, on its device."""
    generator = torch.Generator().manual_seed(recipe.seed)
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = recipe.epochs * -(-len(train) // recipe.batch_size)
    optimizer = torch.optim.SGD(
        model.parameters(),
        recipe.lr,
        momentum=0.9,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, steps)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))
    model.train()
    with progress(total=steps, desc="classifier: ", unit="step") as bar:
        for _ in range(recipe.epochs):
            for index in torch.randperm(len(train), generator=generator).split(recipe.batch_size):
                x, labels = as_input(train.x[index].to(device)), train.labels[index].to(device)
                for kind in recipe.augment:
                    x = augment(x, kind, draw_noise(len(x), generator).to(device))
                x = x.contiguous(memory_format=torch.channels_last)
                with autocast:
                    loss = F.cross_entropy(model(x), labels, label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
