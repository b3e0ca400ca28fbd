"""Where the noise of training comes from."""

import numpy as np
import torch


def generator_for(seed: int, stream: str, index: int) -> torch.Generator:
    """Return the generator of a step, epoch or piece of a set: a function of its arguments alone.

    Nothing is carried from step to step, hence a resumed run draws what an undisturbed one
    would have drawn, and every process of a distributed run draws the whole batch's noise.
    """
    entropy = np.random.SeedSequence([seed, *stream.encode(), index])
    return torch.Generator().manual_seed(int(entropy.generate_state(1)[0]))
