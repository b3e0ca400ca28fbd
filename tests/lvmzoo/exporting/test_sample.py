"""The loop that samples by rows and columns draws the codes that the model draws."""

import numpy as np
import pytest
import torch
from support.graphs import make

from lvmzoo.exporting.graphs import facts_of, graphs_of
from lvmzoo.exporting.sample import draw, draw_codes, draw_noise
from lvmzoo.models.pixelcnn import gumbel_noise
from lvmzoo.sampling import invert_flow, sample_codes

OPTIONS = [{}, {"temperature": 0.5}, {"guidance": 2.0}, {"guidance": 1.0, "temperature": 0.7}]


def run_of(model):
    """Run the graphs of a model in torch, as they are before they are exported."""
    graphs = graphs_of(model, torch.rand(2, *model.image_shape))

    def run(name, inputs):
        tensors = {key: torch.from_numpy(np.ascontiguousarray(v)) for key, v in inputs.items()}
        return [output.numpy() for output in graphs[name].function(**tensors)]

    return run


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["VQVAE", "gated VQVAE"])
@torch.no_grad()
def test_the_codes_of_the_naive_sampler(kind, options):
    model = make(kind)
    prior, n = model.prior, 5
    labels = torch.tensor([0, 3, 9, 10, 3]) if "gated" in kind else None
    options = {
        key: value for key, value in options.items() if labels is not None or key != "guidance"
    }
    shape = (*prior.grid, n, prior.num_codes)
    noise = gumbel_noise(shape, torch.Generator().manual_seed(4), prior.weight)
    given = None if labels is None else labels.numpy()
    got = draw_codes(run_of(model), facts_of(model), noise.numpy(), given, **options)
    wanted = sample_codes(prior, n, labels, generator=torch.Generator().manual_seed(4), **options)
    assert np.array_equal(got, wanted.numpy())


@pytest.mark.parametrize("kind", ["VLAE", "gated VQVAE"])
@torch.no_grad()
def test_images_of_noise(kind):
    model = make(kind)
    about = {**facts_of(model), "files": {"prior.onnx": {}} if kind == "VLAE" else {}}
    noise = draw_noise(about, 3, np.random.default_rng(0))
    images = draw(run_of(model), about, noise)
    assert images.shape == (3, *model.image_shape)
    if kind == "VLAE":
        latents = invert_flow(model.prior, torch.from_numpy(noise))
        assert np.allclose(images, model.decode(latents).numpy(), atol=1e-5)
