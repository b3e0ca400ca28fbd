import dataclasses
import os
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from support import ROOT
from support.factories import ENTRIES

import lvmzoo
from lvmzoo.registry import UnknownModelError


def test_list_is_sorted_and_matches_patterns():
    names = lvmzoo.list_models()
    assert names == sorted(names)
    assert lvmzoo.list_models("vae2d_*") == ["vae2d_gaussian1", "vae2d_gaussian2"]
    assert set(lvmzoo.list_models("*cifar10")) == {n for n in names if n.endswith("cifar10")}
    assert lvmzoo.list_models("nothing*") == []
    assert lvmzoo.list_models("VAE_*") == []


def test_pretrained_lists_entries_with_weights_only(zoo):
    assert lvmzoo.list_models(pretrained=True) == sorted(ENTRIES)
    assert lvmzoo.list_models("*mnist", pretrained=True) == ["vae_mnist"]


def test_facts_are_shown_for_people(zoo):
    info = lvmzoo.model_info("vae_mnist")
    lines = repr(info).splitlines()
    assert {"name: vae_mnist", "image_shape: 1, 32, 32", "  elbo: -1.5", "revision: -"} <= {*lines}
    table = ElementTree.fromstring(dataclasses.replace(info, licence="<b>&")._repr_html_())
    rows = {row[0].text: row[1].text for row in table}
    assert (rows["name"], rows["  elbo"], rows["licence"]) == ("vae_mnist", "-1.5", "<b>&")


@pytest.mark.parametrize("name", lvmzoo.list_models())
def test_every_entry_makes_a_model_of_its_class(name):
    info = lvmzoo.model_info(name)
    model = lvmzoo.create_model(name)
    assert type(model).__name__ == info.model_class
    assert getattr(model.config, "image_shape", None) == info.image_shape
    assert getattr(model.config, "classes", ()) == info.classes
    assert model.config.dataset == info.dataset
    assert info.licence == "MIT"
    assert info.summary
    assert info.paper.startswith(("Kingma", "Burda", "Chen", "van den Oord"))


def test_unknown_entry_names_the_nearest():
    with pytest.raises(
        UnknownModelError, match="unknown entry 'vae_minst'; did you mean vae_mnist"
    ):
        lvmzoo.model_info("vae_minst")
    with pytest.raises(ValueError, match="`lvmzoo list` shows all entries"):
        lvmzoo.model_info("qqqqqq")


def test_a_copy_without_its_data(tmp_path):
    ignored = shutil.ignore_patterns("weights", "__pycache__")
    shutil.copytree(ROOT / "lvmzoo", tmp_path / "lvmzoo", ignore=ignored)
    script = (
        "import lvmzoo\n"
        "assert lvmzoo.list_models() and not lvmzoo.list_models(pretrained=True)\n"
        "lvmzoo.create_model('vae2d_gaussian2')\n"
        "lvmzoo.create_model('vae2d_gaussian1', pretrained=True)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd="/", capture_output=True, text=True
    )
    assert "this copy of lvmzoo was packed without its data" in done.stderr
    assert "weights/index.json is absent" in done.stderr


def test_every_public_name_exists():
    for name in lvmzoo.__all__:
        assert getattr(lvmzoo, name) is not None
    assert dir(lvmzoo) == sorted(lvmzoo.__all__)


def test_listing_imports_no_torch():
    script = (
        "import sys, lvmzoo; from lvmzoo.cli import main\n"
        "lvmzoo.list_models(pretrained=True); lvmzoo.model_info('vae_mnist')\n"
        "for a in (['list'], ['list', '--json'], ['info', 'vae_mnist']):\n"
        "    main(a, standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'PIL', 'huggingface_hub', 'safetensors', 'tqdm'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    root = lvmzoo.__path__[0].rsplit("/", 1)[0]
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root, stdout=subprocess.DEVNULL)
