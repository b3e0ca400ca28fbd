"""What training, evaluation, cards and checks must know of each model family, a module each."""

from importlib import import_module

from lvmzoo.loading import model_class
from training.families.base import Family


def family_of(model_class_name: str) -> Family:
    """Return what is known of a model class: `FAMILY` of the module that is named as its own is.

    Raises:
        ValueError: There is no such module.
    """
    name = model_class(model_class_name).__module__.rpartition(".")[2]
    module = f"{__name__}.{name}"
    try:
        family: Family = import_module(module).FAMILY
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(f"nothing is known of {model_class_name}: {module} is missing") from None
    return family
