"""Refusals: bad input is named in one sentence before any work is done."""

import math
from collections.abc import Sequence
from operator import index
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "can_read",
    "check_codes",
    "check_count",
    "check_generator",
    "check_labels",
    "check_mask",
    "check_positive",
    "check_range",
    "check_reached",
    "check_same_shape",
    "check_tensor",
    "check_unit_range",
    "check_weights",
    "class_index",
]

ROUNDING = 1e-5  # how far beyond [0, 1] a resize in floating point may leave a pixel


def can_read(x: Tensor) -> bool:
    """Say whether the values of x can be looked at: in eager mode, where there are any."""
    if torch.compiler.is_compiling() or x.is_meta:
        return False
    return not (
        x.is_cuda and torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    )


def check_tensor(
    x: Any,
    shape: tuple[int | None, ...],
    what: str,
    device: torch.device,
    *,
    dtype: torch.dtype | None = None,
    values: bool = True,
) -> Tensor:
    """Return a float tensor that has been checked.

    Arguments:
        x: What came.
        shape: Expected shape; None is any size but zero.
        what: Its name in the message, e.g. "images".
        device: Where the model is.
        dtype: What it is turned into; None leaves its own.
        values: Whether to look for NaN and infinities (this waits for the device).

    Raises:
        TypeError: Not a tensor, or not floating point.
        ValueError: Wrong rank, size or device, empty, or not finite, in its dtype or the other.
    """
    expected = "(" + ", ".join("N" if s is None else str(s) for s in shape) + ")"
    if not isinstance(x, Tensor):
        raise TypeError(f"{what} must be a torch.Tensor of shape {expected}, not {_kind(x)}")
    if not x.is_floating_point():
        hint = "; divide uint8 images by 255" if x.dtype == torch.uint8 else "; call .float()"
        raise TypeError(f"{what} must be floating point, not {x.dtype}{hint}")
    got = tuple(x.shape)
    if len(got) != len(shape) or any(b not in (None, a) for a, b in zip(got, shape, strict=True)):
        raise ValueError(f"{what} must have shape {expected}, not {got}{_shape_hint(got, shape)}")
    if got[0] == 0:
        raise ValueError(f"{what} is empty; expected shape {expected} with N at least 1")
    _check_device(x, what, device)
    values = values and can_read(x)
    if values and not torch.isfinite(x).all():
        raise ValueError(f"{what} holds NaN or infinite values")
    turned = x if dtype is None else x.to(dtype)
    if values and turned is not x and not torch.isfinite(turned).all():
        raise ValueError(
            f"{what} holds {x.abs().max():.4g}, more than {dtype}, the model's dtype, can hold"
        )
    return turned


def check_unit_range(x: Tensor, what: str) -> Tensor:
    """Return values in [0, 1]; those that rounding has left beyond are clamped.

    Raises:
        ValueError: Some lie farther out.
    """
    if not can_read(x):
        return x
    low, high = x.min().item(), x.max().item()
    rounding = max(ROUNDING, torch.finfo(x.dtype).eps)
    if low < -rounding or high > 1 + rounding:
        hint = "divide by 255" if low >= 0 and 2 < high <= 255 else "scale or clamp them"
        raise ValueError(f"{what} must lie in [0, 1], not [{low:.7g}, {high:.7g}]; {hint}")
    return x.clamp(0, 1) if low < 0 or high > 1 else x


def check_reached(x: Tensor, what: str, *, infinite: bool = False) -> Tensor:
    """Return what a network has made of its input, unless it lay too far out for that.

    Arguments:
        x: The result.
        what: The input's name in the message.
        infinite: Whether the result may be infinite, as a log-density may; it never may be NaN.

    Raises:
        ValueError: The result is NaN, or infinite.
    """
    if can_read(x) and (x.isnan().any() if infinite else not torch.isfinite(x).all()):
        raise ValueError(
            f"{what} cannot be computed with in {x.dtype}: too far out for the model's networks, "
            "unless weights of the model are NaN or infinite"
        )
    return x


def check_weights(network: nn.Module) -> None:
    """Refuse to draw by a network that has become NaN: argmax of NaN is an index like any other.

    Raises:
        ValueError: Weights are NaN or infinite.
    """
    sums = torch.stack([p.detach().sum(dtype=torch.float32) for p in network.parameters()])
    if can_read(sums) and not sums.isfinite().all():
        raise ValueError("weights of the model are NaN or infinite: load or train it again")


def check_same_shape(x_a: Tensor, x_b: Tensor) -> None:
    """Check that the two ends of interpolations match.

    Raises:
        ValueError: They do not.
    """
    a, b = tuple(x_a.shape), tuple(x_b.shape)
    if a != b:
        raise ValueError(f"x_a has shape {a}, x_b {b}")


def check_count(n: Any, what: str = "n", least: int = 1, most: int | None = None) -> int:
    """Return a whole number that is at least the one and at most the other.

    Raises:
        TypeError: Not a whole number.
        ValueError: Out of range.
    """
    try:
        number = index(n)
    except TypeError:
        number = None
    if number is None or isinstance(n, bool) or getattr(n, "dtype", None) == torch.bool:
        raise TypeError(f"{what} must be an int, not {_kind(n)}")
    if number < least or (most is not None and number > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{what} must be {limits}, not {number}")
    return number


def check_positive(value: Any, what: str) -> float:
    """Return a finite number above zero.

    Raises:
        TypeError: Not a number.
        ValueError: Not finite, or not above zero.
    """
    number = _number(value, what)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{what} must be finite and above 0, not {number}")
    return number


def check_range(value: Any, what: str, least: float, most: float) -> float:
    """Return a number in [least, most].

    Raises:
        TypeError: Not a number.
        ValueError: Out of range, or not finite.
    """
    number = _number(value, what)
    if not least <= number <= most:
        raise ValueError(f"{what} must be from {least:g} to {most:g}, not {number}")
    return number


def check_generator(generator: Any) -> None:
    """Check that this is a torch.Generator or None.

    Raises:
        TypeError: It is not.
    """
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator or None, not {_kind(generator)}")


def check_codes(codes: Any, grid: tuple[int, int], num_codes: int, device: torch.device) -> Tensor:
    """Return a grid of codes as int64.

    Raises:
        TypeError: Not a tensor, or not of an integer dtype.
        ValueError: Wrong shape or device, empty, or a code outside [0, num_codes).
    """
    expected = f"(N, {grid[0]}, {grid[1]})"
    if not isinstance(codes, Tensor):
        raise TypeError(f"codes must be a torch.Tensor of shape {expected}, not {_kind(codes)}")
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise TypeError(f"codes must be integers, not {codes.dtype}; encode() makes them of images")
    got = tuple(codes.shape)
    if got[1:] != grid or got[0] == 0:
        raise ValueError(f"codes must have shape {expected}, not {got}")
    _check_device(codes, "codes", device)
    return _check_indices(codes.long(), "codes", num_codes)


def check_labels(labels: Any, n: int, classes: Sequence[str], device: torch.device) -> Tensor:
    """Return labels as a tensor (n,) on the device.

    Arguments:
        labels: A class, as its index or name, n of them, or an integer tensor or array (n,).
        n: How many there must be; a single class stands for n of it.
        classes: The names of the classes in the order of their indices.
        device: Where the model is.

    Raises:
        TypeError: None of these.
        ValueError: Not n of them, or one that is no class.
    """
    if isinstance(labels, Tensor) and labels.ndim:
        if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
            raise TypeError(f"labels must be integers, not {labels.dtype}; call .long()")
        _check_number_of_labels(tuple(labels.shape), n)
        return _check_indices(labels.long(), "labels", len(classes)).to(device)
    single = (
        isinstance(labels, str) or getattr(labels, "ndim", int(hasattr(labels, "__len__"))) == 0
    )
    numbers = [_index(label, classes) for label in ([labels] if single else labels)]
    if not single:
        _check_number_of_labels((len(numbers),), n)
    return torch.tensor(numbers, dtype=torch.long, device=device).expand(n)


def class_index(name: str, classes: Sequence[str]) -> int:
    """Return the index of a class by its name, in any case unless two differ by that alone.

    Raises:
        ValueError: No class has this name; the message lists those there are.
    """
    if name in classes:
        return classes.index(name)
    found = [i for i, known in enumerate(classes) if known.casefold() == name.casefold()]
    if len(found) != 1:
        known = ", ".join(classes) or "none"
        raise ValueError(f"{name!r} is no class of this model; its classes: {known}")
    return found[0]


def _index(label: Any, classes: Sequence[str]) -> int:
    if isinstance(label, str):
        return class_index(label, classes)
    try:
        return check_count(label, "labels", least=0, most=len(classes) - 1)
    except TypeError:
        raise TypeError(
            f"labels must be classes, each an int or a name, and none is a {_kind(label)}"
        ) from None


def _check_number_of_labels(shape: tuple[int, ...], n: int) -> None:
    if shape != (n,):
        raise ValueError(f"labels must have shape ({n},), not {shape}")


def check_mask(mask: Any, shape: tuple[int, ...], what: str, device: torch.device) -> Tensor:
    """Return a mask of this shape, or of this shape without its first dimension, on the device.

    Raises:
        TypeError: Not a tensor of booleans.
        ValueError: Wrong shape.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = mask.dtype if isinstance(mask, Tensor) else _kind(mask)
        raise TypeError(f"{what} must be a tensor of booleans, not {got}")
    if mask.shape not in (shape, shape[1:]):
        raise ValueError(
            f"{what} must have shape {tuple(shape[1:])} or {tuple(shape)}, not {tuple(mask.shape)}"
        )
    return mask.to(device)


def _number(value: Any, what: str) -> float:
    try:
        if not isinstance(value, (bool, str)):
            return float(value)
    except OverflowError:  # an int of more than 308 digits
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError, RuntimeError):
        pass
    raise TypeError(f"{what} must be a number, not {_kind(value)}")


def _check_device(x: Tensor, what: str, device: torch.device) -> None:
    if x.device != device:
        raise ValueError(f"{what} is on {x.device}, the model on {device}; move one with .to()")


def _check_indices(x: Tensor, what: str, count: int) -> Tensor:
    if can_read(x):
        low, high = int(x.min()), int(x.max())
        if low < 0 or high >= count:
            got = low if low < 0 else high
            raise ValueError(f"{what} must be from 0 to {count - 1}, not {got}")
    return x


def _shape_hint(got: tuple[int, ...], shape: tuple[int | None, ...]) -> str:
    if len(got) == len(shape) - 1:
        return "; add a batch dimension with x[None]"
    if len(shape) != 4:
        return ""
    if len(got) == 4 and got[3] == shape[1] != got[1]:
        return "; put the channels first with x.permute(0, 3, 1, 2)"
    return "; lvmzoo.load_images reads any picture in this shape"


def _kind(x: Any) -> str:
    shape = getattr(x, "shape", None)
    return type(x).__name__ + (f" of shape {tuple(shape)}" if shape is not None else "")
