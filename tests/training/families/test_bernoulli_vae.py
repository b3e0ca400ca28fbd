"""How a VAE of binary images is trained and presented."""

import torch

from lvmzoo import BernoulliVAE
from training.data import Split
from training.families import family_of


def test_training_images_are_binarised_anew_whenever_they_are_seen():
    model = BernoulliVAE(BernoulliVAE.Config(image_size=4, latent_dim=2, hidden=8))
    x = torch.full((3, 1, 4, 4), 51, dtype=torch.uint8)
    split = Split(x, torch.zeros(3).long(), (), "grey")
    (Objective,) = family_of("BernoulliVAE").objectives
    objective = Objective(model, split, Objective.Recipe(epochs=1))
    generator = torch.Generator().manual_seed(0)
    index = torch.tensor([0, 2] * 1000)
    seen = objective.batch(index, *objective.draw(len(index), generator))["x"]
    assert seen.shape == (2000, 1, 4, 4)
    assert set(seen.unique().tolist()) == {0.0, 1.0}
    assert abs(seen.mean().item() - 0.2) < 0.01
    assert len(seen.flatten(1).unique(dim=0)) > 1000


def test_the_decoder_begins_with_the_mean_of_the_training_images():
    model = BernoulliVAE(BernoulliVAE.Config(image_size=4, latent_dim=2, hidden=8))
    x = torch.zeros(600, 1, 4, 4, dtype=torch.uint8)
    x[:, :, :2] = 255
    x[::3, :, 2] = 153  # 0.6
    split = Split(x, torch.zeros(600).long(), (), "grey")
    (Objective,) = family_of("BernoulliVAE").objectives
    objective = Objective(model, split, Objective.Recipe(epochs=1))
    objective.begin(torch.Generator().manual_seed(0))
    p = model.decode(torch.zeros(1, 2))[0, 0]
    torch.testing.assert_close(p[:2], torch.full((2, 4), 1 - 0.5 / 601))
    torch.testing.assert_close(p[2], torch.full((4,), 0.2), atol=1e-3, rtol=0)
    torch.testing.assert_close(p[3], torch.full((4,), 0.5 / 601))
