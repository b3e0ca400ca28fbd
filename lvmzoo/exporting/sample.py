"""Draw new images from the files that `lvmzoo export` wrote, with numpy and onnxruntime alone.

    python sample.py FOLDER samples.npy [CLASS]

A copy of this file lies beside them: it is the loop that other languages have to write again.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[str, dict[str, np.ndarray]], list[np.ndarray]]


def draw_noise(about: Mapping[str, Any], n: int, rng: np.random.Generator) -> np.ndarray:
    """Return the noise of n samples: Gaussian (n, D), or for codes Gumbel (H, W, n, K)."""
    if "codes" not in about:
        return rng.standard_normal((n, about["latent_dim"]), np.float32)
    height, width = about["codes"]["grid"]
    return rng.gumbel(size=(height, width, n, about["codes"]["num_codes"])).astype(np.float32)


def draw_codes(
    run: Run,
    about: Mapping[str, Any],
    noise: np.ndarray,
    labels: np.ndarray | None = None,
    guidance: float = 0.0,
    temperature: float = 1.0,
) -> np.ndarray:
    """Return codes (n, H, W), one after the other in raster order.

    `run(name, inputs)` runs a graph and returns its outputs; labels are integers (n,). With
    guidance w the logits are (1 + w) those given the labels - w those given none.
    """
    height, width, n, _ = noise.shape
    how = about["sampling"]
    above, left_codes, outside = how["above"], how["left_codes"], how["outside"]
    streams = 2 if guidance and labels is not None else 1
    given = {}
    if how["no_label"] is not None:
        none = np.full(n, how["no_label"])
        first = none if labels is None else labels
        given["labels"] = np.concatenate([first, none][:streams])
    # With codes that stand for what lies outside the grid above and to the left of it.
    grid = np.full((streams * n, above + height, left_codes + width), outside)
    rows = np.zeros((streams * n, *how["rows"]), np.float32)
    for i in range(height):
        codes = grid[:, i : i + above, left_codes:]
        base, rows = run("row", {"codes": codes, "rows": rows, **given})
        left = np.zeros((streams * n, *how["left"]), np.float32)
        for j in range(width):
            codes = grid[:, above + i, j : j + left_codes]
            logits, left = run("column", {"codes": codes, "base": base[j], "left": left})
            if streams == 2:
                logits = (1 + guidance) * logits[:n] - guidance * logits[n:]
            drawn = (logits / temperature + noise[i, j]).argmax(1)
            grid[:, above + i, left_codes + j] = np.tile(drawn, streams)
    return grid[:n, above:, left_codes:]


def draw(run: Run, about: Mapping[str, Any], noise: np.ndarray, **options: Any) -> np.ndarray:
    """Return images (n, C, H, W) in [0, 1]; or what decode gives of points, their means (n, 2)."""
    if "codes" in about:
        return run("decode", {"codes": draw_codes(run, about, noise, **options)})[0]
    latents = noise
    if any(file.startswith("prior.") for file in about["files"]):
        latents = run("prior", {"noise": noise})[0]
    return run("decode", {"latents": latents})[0]


def main(folder: str, output: str, label: str | None = None) -> None:
    """Draw 16 samples into a .npy file."""
    import onnxruntime

    files = Path(folder)
    sessions: dict[str, onnxruntime.InferenceSession] = {}
    about = json.loads((files / "lvmzoo.json").read_text(encoding="utf-8"))

    def run(name: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        if name not in sessions:
            sessions[name] = onnxruntime.InferenceSession(files / f"{name}.onnx")
        outputs: list[np.ndarray] = sessions[name].run(None, inputs)
        return outputs

    options = {} if label is None else {"labels": np.full(16, about["classes"].index(label))}
    noise = draw_noise(about, 16, np.random.default_rng())
    np.save(output, draw(run, about, noise, **options))


if __name__ == "__main__":
    main(*sys.argv[1:])
