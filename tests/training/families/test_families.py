"""What every family says of itself, and where it is found."""

import pytest

import lvmzoo
from lvmzoo.loading import model_class
from training.families import family_of

CLASSES = sorted({lvmzoo.model_info(name).model_class for name in lvmzoo.list_models()})


@pytest.mark.parametrize("name", CLASSES)
def test_every_model_class_has_a_family(name):
    family = family_of(name)
    assert [*family.recipes] == [*model_class(name).COMPONENTS]
    assert family.metrics
    assert family.pictures
    assert family.limits.endswith(".")
    assert family.retrained is None or family.retrained[0] in family.metrics


@pytest.mark.parametrize("name", lvmzoo.list_models(pretrained=True))
def test_the_headline_and_usage_of_an_entry(name):
    info = lvmzoo.model_info(name)
    family = family_of(info.model_class)
    assert "\n" not in family.headline(info.metrics)
    assert info.metrics.keys() <= family.metrics.keys()
    compile(family.usage(info), name, "exec")
