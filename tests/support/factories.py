"""Small models, the entries that tests give weights, and what is compared of models."""

import torch

from lvmzoo import VAE, VAE2D, VLAE, VQVAE
from lvmzoo.models.base import ZooModel

DIGITS = tuple("0123456789")
KINDS = ("VAE2D", "VAE", "VLAE", "VQVAE", "gated VQVAE")
ENTRIES = ("vae2d_gaussian1", "vae_mnist")


def make_tiny(kind: str) -> ZooModel:
    """Return a fresh small model whose every parameter matters (no zeros, no symmetry)."""
    images = {"in_channels": 1, "latent_dim": 4, "channels": (4, 4, 8)}
    images |= {"dataset": "mnist", "classes": DIGITS}
    codes = {"in_channels": 1, "image_size": 16, "channels": 8, "residual_channels": 4}
    codes |= {"width": 8, "stem_width": 8, "residual_layers": 1, "norm_groups": 2}
    codes |= {"num_codes": 7, "prior_embedding": 4, "prior_channels": 8, "prior_hidden": 8}
    codes |= {"prior_layers": 2, "classes": DIGITS}
    torch.manual_seed(0)
    model = {
        "VAE2D": lambda: VAE2D(VAE2D.Config(hidden=16, dataset="gaussian1")),
        "VAE": lambda: VAE(VAE.Config(**images)),
        "VLAE": lambda: VLAE(VLAE.Config(**images, hidden=(12, 12))),
        "VQVAE": lambda: VQVAE(VQVAE.Config(**codes)),
        "gated VQVAE": lambda: VQVAE(VQVAE.Config(**codes, prior="gated_pixelcnn")),
    }[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def make_data(model: ZooModel, n: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if isinstance(model, VAE2D):
        return 2 * torch.randn(n, 2, generator=generator)
    return torch.rand(n, *model.config.image_shape, generator=generator)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def draw(model: ZooModel) -> torch.Tensor:
    return model.sample(4, generator=torch.Generator().manual_seed(3))


def equal(a: ZooModel, b: ZooModel) -> bool:
    pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return all(m == n and torch.equal(s, t) for (m, s), (n, t) in pairs)
