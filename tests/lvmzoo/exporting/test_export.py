"""What is written: graphs that compute what the model does, and what is said about them."""

import json
import re
import shutil
import subprocess
import sys

import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from support import ROOT
from support.command import call, refused
from support.factories import DIGITS, make_data, make_tiny
from support.graphs import KINDS, exported, make, run_onnx

import lvmzoo
from lvmzoo.exporting.agreement import ExportError
from lvmzoo.exporting.formats import FORMATS

SLOW = ("VLAE", "VQVAE", "gated VQVAE")
kinds = pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k in SLOW else k for k in KINDS]
)
FILES = {
    "VAE2D": {"encode", "decode"},
    "VAE": {"encode", "decode"},
    "BernoulliVAE": {"encode", "decode"},
    "VLAE": {"encode", "decode", "prior"},
    "VQVAE": {"encode", "quantize", "decode", "logits", "row", "column"},
    "gated VQVAE": {"encode", "quantize", "decode", "logits", "row", "column"},
}


def close(got, wanted):
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


@kinds
@torch.no_grad()
def test_onnx_graphs_compute_what_the_methods_return(kind):
    folder, _ = exported(kind, "onnx")
    assert {path.stem for path in folder.glob("*.onnx")} == FILES[kind]
    model = make(kind)
    for n in (1, 5):  # other sizes of the batch than were exported with
        x = make_data(model, n)
        data = "points" if kind == "VAE2D" else "images"
        latents = model.encode(x)
        if "VQVAE" in kind:
            codes, features = run_onnx(folder, "encode", images=x)
            assert torch.equal(codes, latents)
            assert torch.equal(run_onnx(folder, "quantize", features=features)[0], codes)
            close(run_onnx(folder, "decode", codes=codes)[0], model.decode(codes))
            continue
        mean, log_std = run_onnx(folder, "encode", **{data: x})
        close(mean, latents)
        close(log_std.exp(), model.posterior(x).base_dist.stddev)
        close(run_onnx(folder, "decode", latents=latents)[0], model.decode(latents))


@kinds
def test_the_description_fits_the_files(kind):
    folder, about = exported(kind, "onnx")
    assert json.loads((folder / "lvmzoo.json").read_text()) == about
    assert about["format"] == 1
    assert about["model_class"] == type(make(kind)).__name__
    for file, facts in about["files"].items():
        assert facts["bytes"] == (folder / file).stat().st_size
        session = onnxruntime.InferenceSession(folder / file)
        for key, values in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
            assert {v.name: v.shape for v in values} == {
                name: value["shape"] for name, value in facts[key].items()
            }
        (opset,) = (o for o in onnx.load(folder / file).opset_import if not o.domain)
        assert opset.version == about["opset"]
    if "VQVAE" in kind:
        assert about["codes"] == {"num_codes": 7, "grid": [4, 4]}
        assert about["sampling"]["no_label"] == (10 if "gated" in kind else None)
        assert about["classes"] == list(DIGITS)
    if kind == "VAE":
        assert about["image"] == {"channels": 1, "size": 32, "content_size": 28}
    assert all(0 <= one["measured"] <= one["limit"] for one in about["checked"])


@pytest.mark.parametrize("kind", ["VAE", pytest.param("gated VQVAE", marks=pytest.mark.slow)])
def test_programs_of_torch_load_without_lvmzoo(kind, tmp_path):
    folder, about = exported(kind, "torch-export")
    assert about["opset"] is None
    model = make(kind)
    x = make_data(model, 3)
    torch.save(x, tmp_path / "x.pt")
    script = """
import sys, torch
sys.modules["lvmzoo"] = None
folder, x, out = sys.argv[1:]
encode = torch.export.load(folder + "/encode.pt2").module()
decode = torch.export.load(folder + "/decode.pt2").module()
latents = encode(torch.load(x))[0]
torch.save([latents, decode(latents)[0]], out)
"""
    command = [sys.executable, "-c", script, folder, tmp_path / "x.pt", tmp_path / "y.pt"]
    subprocess.run(command, check=True, cwd=tmp_path)
    latents, images = torch.load(tmp_path / "y.pt")
    close(latents, model.encode(x))
    close(images, model.decode(latents))
    # No weights but its own, and no example of a batch.
    own = sum(p.numel() for p in model.parameters()) * 4
    assert sum(path.stat().st_size for path in folder.glob("*code.pt2")) < own + 300_000


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_weights_in_half_of_the_space(format, tmp_path):
    model = lvmzoo.VAE(lvmzoo.VAE.Config(in_channels=1, channels=(16, 32, 64)))
    sizes = {}
    for dtype in ("float32", "float16"):
        about = lvmzoo.export(model, tmp_path / dtype, format=format, dtype=dtype)
        sizes[dtype] = sum(file["bytes"] for file in about["files"].values())
    saved = sizes["float32"] - sizes["float16"]
    weights = sum(p.numel() for p in model.parameters() if p.numel() >= 1024)
    assert saved == pytest.approx(2 * weights, rel=0.2)  # with casts
    # They are rounded first: what was compared is a model of rounded weights.
    if format == "onnx":
        x = make_data(model)
        (mean, _) = run_onnx(tmp_path / "float16", "encode", images=x)
        close(mean, model.half().float().encode(x))


def test_exporting_leaves_the_model_as_it_is(tmp_path):
    model = make_tiny("VAE2D").train().double()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    random = torch.get_rng_state()
    lvmzoo.export(model, tmp_path, format="torch-export", dtype="float16")
    assert model.training
    assert all(torch.equal(before[name], w) for name, w in model.state_dict().items())
    assert all(weight.requires_grad for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_graphs_that_compute_something_else_are_not_left_behind(tmp_path, monkeypatch):
    form = FORMATS["torch-export"]

    def load(path):
        run = form.load(path)
        return lambda inputs: [output + 2e-4 for output in run(inputs)]

    monkeypatch.setitem(FORMATS, "torch-export", form._replace(load=load))
    with pytest.raises(ExportError, match=r"encode: mean, .* instead of at most 0\.0001"):
        lvmzoo.export(make_tiny("VAE2D"), tmp_path / "graphs", format="torch-export")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "format must be one of onnx, torch-export, not 'tflite'"),
        ({"dtype": "int8"}, "dtype must be one of float32, float16, not 'int8'"),
        ({"images": ["b.png"]}, "takes no images"),
        ({"images": ["b.png"] * 300}, "number of images must be from 0 to 256, not 300"),
        ({"dtype": "float16"}, "float16 cannot hold"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, options, message):
    model = make_tiny("VAE2D")
    with torch.no_grad():
        next(model.parameters()).mul_(1e6)
    with pytest.raises(ValueError, match=message):
        lvmzoo.export(model, tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()


def test_the_command_says_what_it_measured(tmp_path):
    make_tiny("VAE").save_pretrained(tmp_path / "mine")
    Image.effect_noise((40, 30), 60).save(tmp_path / "a.png")
    options = ("--format", "torch-export", "--image", tmp_path / "a.png")
    said, _ = call("export", tmp_path / "mine", "-o", tmp_path / "graphs", *options)
    for line in (r"decode\.pt2: 0\.\d\d MiB", r"encode: mean: \S+ \(at most 0\.0001\)", "samples:"):
        assert re.search(line, said)
    about = json.loads((tmp_path / "graphs/lvmzoo.json").read_text())
    assert about["name"] == "mine"
    assert about["entry"] is None
    assert list(about["weights"]) == ["model"]


def test_the_command_refuses(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(2, "export", "vae_mnist", "-o", tmp_path / "file")
    assert "unknown entry" in refused(2, "export", "vae_mnits", "-o", tmp_path / "new")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "lvmzoo[export]" in refused(1, "export", "vae2d_gaussian1", "-o", tmp_path / "new")


@pytest.mark.slow
def test_an_entry_of_the_zoo(tmp_path):
    about = lvmzoo.export("vqvae_gated_mnist", tmp_path / "graphs", dtype="float16")
    info = lvmzoo.model_info("vqvae_gated_mnist")
    assert about["weights"] == {name: file.sha256 for name, file in info.files.items()}
    assert about["entry"]["metrics"] == info.metrics
    assert sum(file["bytes"] for file in about["files"].values()) < 26e6


@pytest.mark.slow
def test_the_page_and_the_file_beside_the_graphs_draw_samples(tmp_path, monkeypatch):
    folder, _ = exported("gated VQVAE", "onnx")
    shutil.copytree(folder, tmp_path / "graphs")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    values: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S):
        exec(block, values)
    assert values["images"].shape == (16, 1, 16, 16)
    noise = torch.from_numpy(values["noise"])
    prior, codes = make("gated VQVAE").prior, torch.from_numpy(values["codes"])
    best = prior.logits(codes, torch.full((16,), 3)) + noise.permute(2, 3, 0, 1)
    assert torch.equal(best.argmax(1), codes)

    script = [sys.executable, "-I", "graphs/sample.py", "graphs", "samples.npy", "3"]
    subprocess.run(script, check=True)
    assert (tmp_path / "samples.npy").stat().st_size > 16 * 16 * 16 * 4
