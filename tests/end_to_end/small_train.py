"""`training.train` with VQ-VAEs that are small, for tests that start it in processes."""

from dataclasses import replace

from test_train_vqvae import SMALL

from lvmzoo import registry
from training import objectives, train

if __name__ == "__main__":
    make = registry.model_info

    def model_info(name: str) -> registry.ModelInfo:
        """Return the facts of an entry, with a small config."""
        info = make(name)
        return replace(info, config={**info.config, **SMALL})

    train.model_info = model_info
    objectives.REVIVAL_IMAGES = 16
    train.main()
