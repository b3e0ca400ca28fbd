import pytest
import torch

from lvmzoo.checks import check_labels, class_index

CLASSES = ("cat", "Horse", "dog", "DOG")
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (1, [1, 1]),
        ("cat", [0, 0]),
        ("horse", [1, 1]),
        ("HORSE", [1, 1]),
        ("dog", [2, 2]),
        ("DOG", [3, 3]),
        (["Horse", "cat"], [1, 0]),
        (("horse", 3), [1, 3]),
        (torch.tensor([2, 0]), [2, 0]),
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
        (["cat", "zebra"], ValueError, "'zebra' is no class"),
        ("Dog", ValueError, "'Dog' is no class"),  # two differ by case alone
        ("", ValueError, "'' is no class"),
        ("1", ValueError, "'1' is no class"),
        (["cat"], ValueError, r"must have shape \(2,\), not \(1,\)"),
        (4, ValueError, "labels must be from 0 to 3, not 4"),
        ([0, -1], ValueError, "labels must be from 0 to 3, not -1"),
        (10**30, ValueError, "labels must be from 0 to 3"),
        (torch.tensor([0, 4]), ValueError, "labels must be from 0 to 3, not 4"),
        (1.0, TypeError, r"a class \(an int or a name\), 2 of them or a LongTensor, not float"),
        ([0, None], TypeError, "a class"),
        ([True, False], TypeError, "a class"),
        (torch.zeros(2), TypeError, "int64"),
    ],
)
def test_what_is_no_label(labels, error, message):
    with pytest.raises(error, match=message):
        check_labels(labels, 2, CLASSES, CPU)


def test_a_model_without_classes():
    with pytest.raises(ValueError, match="its classes: none"):
        class_index("cat", ())
