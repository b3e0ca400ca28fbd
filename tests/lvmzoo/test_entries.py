import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT
from support.stub import stub

import lvmzoo


def test_type_checkers_know_the_class_of_every_entry():
    written = Path(lvmzoo.__path__[0], "loading.pyi").read_text()
    mend = "run: python tests/support/stub.py > lvmzoo/loading.pyi; ruff format lvmzoo"
    assert ast.dump(ast.parse(written)) == ast.dump(ast.parse(stub())), mend


RIGHT = """
from pathlib import Path
import numpy as np
from PIL import Image

points: lvmzoo.VAE2D = lvmzoo.create_model("vae2d_gaussian1")
vlae: lvmzoo.VLAE = lvmzoo.from_pretrained("vlae_mnist", local_files_only=True)
kl: torch.Tensor = lvmzoo.from_pretrained("vae_mnist").eval().to("cpu").elbo(x).kl
codes = lvmzoo.create_model("vqvae_svhn").encode(x)
lvmzoo.create_model("vqvae_svhn").code_log_prob(codes, labels="3").sum()
lvmzoo.from_pretrained(Path("mine")).sample(3).shape
lvmzoo.load_images([Image.new("L", (3, 3)), np.zeros((3, 3)), "a.png", Path("a.png")], vlae)
lvmzoo.save_images(lvmzoo.transform(vlae)(np.zeros((3, 3)))[None], "a.png")
"""
WRONG = {
    "lvmzoo.creat_model": "lvmzoo.creat_model('vae_mnist')",
    "smaple": "lvmzoo.create_model('vae_mnist').smaple(3)",
    "smaple of a folder": "lvmzoo.from_pretrained('./mine').smaple(3)",
    "elbo of a VQ-VAE": "lvmzoo.create_model('vqvae_mnist').elbo(x)",
    "codes of a VAE": "lvmzoo.create_model('vae_mnist').code_log_prob(x)",
    "class": "a_vae: lvmzoo.VAE = lvmzoo.from_pretrained('vqvae_mnist')",
    "option": "lvmzoo.from_pretrained('vae_mnist', revison='main')",
    "picture": "lvmzoo.load_images(3, 'vae_mnist')",
}


@pytest.mark.slow
def test_code_of_users_is_checked(tmp_path):
    """That of the README is right in one piece, and every mistake is found where it is."""
    pytest.importorskip("mypy")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    right = "".join(re.findall(r"```python\n(.*?)```", readme, re.DOTALL)) + RIGHT.rstrip()
    (tmp_path / "user.py").write_text("\n".join([right, *WRONG.values()]))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache", "user.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT)},
    )
    first = len(right.splitlines()) + 1
    found = {int(n) for n in re.findall(r"^user\.py:(\d+): error", done.stdout, re.MULTILINE)}
    assert found == set(range(first, first + len(WRONG))), done.stdout + done.stderr
