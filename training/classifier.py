"""Small classifiers of images, trained where they are needed: their features judge samples."""

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lvmzoo.checkpoint import build_config, read_component, serialize
from lvmzoo.checks import check_count
from lvmzoo.files import atomic_file
from training.augment import augment, draw_noise
from training.data import Split, as_input, sha256
from training.recipe import AUGMENTATIONS, require
from training.trainer import has_bfloat16

__all__ = ["Classifier", "ClassifierRecipe", "has_recipe", "read_classifier_recipe", "trained"]

RECIPES = Path(__file__).parent / "recipes" / "classifiers"  # one for each data set


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

    def __post_init__(self) -> None:
        """Check that one can train with these values."""
        for name in ("epochs", "width", "batch_size"):
            check_count(getattr(self, name), name)
        unknown = [kind for kind in self.augment if kind not in AUGMENTATIONS]
        require(not unknown, f"augment must be of {', '.join(AUGMENTATIONS)}, not {unknown}")


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


def has_recipe(dataset: str) -> bool:
    """Whether there is a classifier of this data set."""
    return (RECIPES / f"{dataset}.toml").exists()


def read_classifier_recipe(dataset: str) -> ClassifierRecipe:
    """Read how the classifier of a data set is trained."""
    path = RECIPES / f"{dataset}.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return build_config(ClassifierRecipe, table, f"recipe classifiers/{path.name}")


def trained(dataset: str, train: Split, folder: Path) -> Classifier:
    """Return the classifier of a data set, in eval mode on the CPU.

    It is kept in `folder` under a name that tells recipe, data and network, and trained if it is
    not there.
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
        model.load_state_dict(read_component(path).tensors)
        return model.eval()
    fit(model, train, recipe)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_bytes(serialize(model.state_dict(), {"dataset": dataset}))
    return model.eval()


def fit(model: Classifier, train: Split, recipe: ClassifierRecipe) -> None:
    """Train a classifier in place."""
    generator = torch.Generator().manual_seed(recipe.seed)
    bf16 = has_bfloat16(torch.device("cpu"))
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
    model.train()
    with tqdm(total=steps, desc="classifier", unit="step", disable=None) as bar:
        for _ in range(recipe.epochs):
            for index in torch.randperm(len(train), generator=generator).split(recipe.batch_size):
                x = as_input(train.x[index])
                for kind in recipe.augment:
                    x = augment(x, kind, draw_noise(len(x), generator))
                x = x.contiguous(memory_format=torch.channels_last)
                with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    loss = F.cross_entropy(model(x), train.labels[index], label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
