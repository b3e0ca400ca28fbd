"""The examples in docstrings, run as they stand; every public name has one."""

import doctest
import pkgutil
from importlib import import_module

import pytest
import torch

import lvmzoo

FOUND = [module.name for module in pkgutil.walk_packages(lvmzoo.__path__, "lvmzoo.")]
MODULES = ["lvmzoo", *(name for name in FOUND if name != "lvmzoo.__main__")]
FINDER = doctest.DocTestFinder(exclude_empty=True)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = import_module(name)
    known = {**vars(module), "lvmzoo": lvmzoo, "torch": torch}
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for test in FINDER.find(module, name, globs=known):
        runner.run(test, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", [name for name in lvmzoo.__all__ if name != "__version__"])
def test_every_public_name_has_an_example(name):
    assert doctest.DocTestParser().get_examples(getattr(lvmzoo, name).__doc__)
