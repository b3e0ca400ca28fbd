"""Numbers and labels: what is taken as one, and what is refused."""

import numpy as np
import pytest
import torch

from lvmzoo.checks import (
    check_labels,
    check_unit_range,
)

CLASSES = ("cat", "Horse", "dog", "DOG")
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (1, [1, 1]),
        ("cat", [0, 0]),
        ("HORSE", [1, 1]),
        ("dog", [2, 2]),
        ("DOG", [3, 3]),
        (["Horse", "cat"], [1, 0]),
        (("horse", 3), [1, 3]),
        (torch.tensor([2, 0], dtype=torch.uint8), [2, 0]),
        (torch.tensor(2), [2, 2]),
        (np.int64(2), [2, 2]),
        (np.array([3, 1]), [3, 1]),
        (list(np.array([3, 1])), [3, 1]),
    ],
)
def test_labels(labels, expected):
    found = check_labels(labels, 2, CLASSES, CPU)
    assert found.dtype == torch.long
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ("zebra", ValueError, "'zebra' is no class of this model; its classes: cat, Horse, dog"),
        ("Dog", ValueError, "'Dog' is no class"),  # two differ by case alone
        (["cat", "1"], ValueError, "'1' is no class"),
        (["cat"], ValueError, r"must have shape \(2,\), not \(1,\)"),
        (4, ValueError, "labels must be from 0 to 3, not 4"),
        ([0, -1], ValueError, "labels must be from 0 to 3, not -1"),
        (10**30, ValueError, "labels must be from 0 to 3"),
        (torch.tensor([0, 4]), ValueError, "labels must be from 0 to 3, not 4"),
        (1.0, TypeError, "each an int or a name, and none is a float"),
        ([0, None], TypeError, "none is a NoneType"),
        ([True, False], TypeError, "none is a bool"),
        (np.zeros(2), TypeError, "none is a float64"),
        (torch.zeros(2), TypeError, r"labels must be integers, not torch\.float32"),
    ],
)
def test_what_is_no_label(labels, error, message):
    with pytest.raises(error, match=message):
        check_labels(labels, 2, CLASSES, CPU)


def test_rounding_beyond_the_range_is_clamped_and_no_more():
    x = torch.tensor([0.0, 1.0])
    assert check_unit_range(x, "x") is x
    assert check_unit_range(torch.tensor([-1e-7, 1.0000005]), "x").tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], not \[0, 1.0001\]"):
        check_unit_range(torch.tensor([0, 1.0001]), "x")
