"""VAEs with an autoregressive-flow prior: they are trained, measured and shown as VAEs are."""

from training.families import vae

FAMILY = vae.FAMILY
