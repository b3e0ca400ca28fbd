# The public names and where each is defined: type checkers and `__init__.py` both read this table.
from lvmzoo._version import __version__ as __version__
from lvmzoo.checkpoint import CheckpointError as CheckpointError
from lvmzoo.entries import create_model as create_model
from lvmzoo.entries import from_pretrained as from_pretrained
from lvmzoo.exporting.export import export as export
from lvmzoo.images import load_images as load_images
from lvmzoo.images import save_images as save_images
from lvmzoo.images import transform as transform
from lvmzoo.models.bernoulli_vae import BernoulliVAE as BernoulliVAE
from lvmzoo.models.vae import VAE as VAE
from lvmzoo.models.vae2d import VAE2D as VAE2D
from lvmzoo.models.vlae import VLAE as VLAE
from lvmzoo.models.vqvae import VQVAE as VQVAE
from lvmzoo.notes import ImageNote as ImageNote
from lvmzoo.registry import ModelInfo as ModelInfo
from lvmzoo.registry import list_models as list_models
from lvmzoo.registry import model_info as model_info
