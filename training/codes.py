"""Codes that `lvmzoo encode` has written, for training a prior: `--codes FOLDER`."""

from pathlib import Path

import torch

from lvmzoo.registry import ModelInfo
from lvmzoo.sets.reading import read_latents
from training.data import DataError, Split

_VALIDATION = 10  # one code grid of so many is for validation


class Codes:
    """Codes of a data set for the prior of an entry.

    Arguments:
        info: The entry.
        folder: What `lvmzoo encode` has written.

    Raises:
        DataError: It holds no codes, too few, or labels that are no classes of the entry.
    """

    def __init__(self, info: ModelInfo, folder: Path) -> None:
        try:
            self.latents = read_latents(folder)
            self.labels = self.latents.labels(info.classes)
        except (ValueError, ImportError) as error:
            raise DataError(f"--codes: {error}") from None
        self.info, self.folder = info, folder
        if self.latents.info["model_class"] != info.model_class:
            raise DataError(f"--codes: {folder} holds latents of a VAE, not codes for {info.name}")
        if len(self.latents) < 2:
            raise DataError(f"--codes: {len(self.latents)} codes are too few to train on")

    @property
    def settings(self) -> tuple[str, ...]:
        """Changes of the recipe where there are codes alone, perhaps without labels."""
        return ("augment=none", *(("label_dropout=1",) if self.labels is None else ()))

    def check_components(self, trained: list[str]) -> None:
        """Refuse an entry that trains an autoencoder of its own."""
        if trained != ["prior"]:
            raise DataError(
                f"--codes: {self.info.name} trains {' and '.join(trained)}; codes are for an entry "
                "that takes its autoencoder from another, such as vqvae_gated_cifar10"
            )

    def check_autoencoder(self, sha256: str) -> None:
        """Raise a `DataError` if the codes are of another autoencoder than the prior's."""
        if self.latents.info["weights"].get("autoencoder") != sha256:
            raise DataError(
                f"--codes: {self.folder} was encoded by {self.latents.info['entry']} with another "
                f"autoencoder than that of {self.info.name}; its codes mean nothing to it"
            )

    def splits(self) -> tuple[Split, Split]:
        """Return what is trained on, and every tenth for validation."""
        codes = self.latents.tensor().to(torch.int32)  # uint8 would be pictures
        labels = torch.zeros(len(codes), dtype=torch.long) if self.labels is None else self.labels
        source = f"{len(codes):,} codes of pictures, by {self.latents.info['entry']}"
        caveat = "The prior was trained on codes of pictures that are not known here."
        whole = Split(codes, labels, self.info.classes, source, caveat)
        chosen = torch.zeros(len(codes), dtype=torch.bool)
        chosen[min(_VALIDATION, len(codes)) - 1 :: _VALIDATION] = True
        return whole.take(~chosen), whole.take(chosen)
