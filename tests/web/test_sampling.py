"""How the page draws a code, beside `lvmzoo.sampling`."""

import pytest
import torch

from lvmzoo.sampling import draw_codes

DRAW = """({ drawCodes }, { logits, noise, numCodes, options }) =>
    Array.from(drawCodes(Float32Array.from(logits), Float32Array.from(noise), numCodes, options))"""


@pytest.mark.parametrize("temperature", [1, 0.5, 1e-6, 3])
@pytest.mark.parametrize("top_p", [1, 0.9, 0.3, 1e-6])
def test_codes_are_drawn_as_python_does(run, temperature, top_p):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(200, 16, generator=generator)
    logits[:20] = logits[:20].round()  # some that tie
    noise = -torch.empty(200, 16).exponential_(generator=generator).log()
    options = {"temperature": temperature, "topP": top_p}
    argument = {"logits": logits.flatten().tolist(), "noise": noise.flatten().tolist()}
    got = run("sampling.js", DRAW, argument | {"numCodes": 16, "options": options})
    assert got == draw_codes(logits, noise, temperature, None, top_p).tolist()
