"""`training.train` with VQ-VAEs that are small, for tests that start it in processes."""

from support.runs import small_info

from training import train
from training.families import vqvae

if __name__ == "__main__":
    train.model_info = small_info
    vqvae.REVIVAL_IMAGES = 16
    train.main()
