// What each model is, in two sentences: one of the kind of model, one of what it learned from.

const KINDS = {
  VAE2D: () =>
    "A variational autoencoder of points in the plane: two numbers drawn from a standard normal " +
    "become a point and how far it may stray.",
  VAE: ({ latent_dim: d }) =>
    `A variational autoencoder: it squeezes a picture into ${d} numbers, and makes a picture of ` +
    `any ${d} numbers drawn from a standard normal.`,
  BernoulliVAE: ({ latent_dim: d }) =>
    `A variational autoencoder of black-and-white pictures: ${d} numbers drawn from a standard ` +
    "normal become the probability of white, pixel by pixel.",
  VLAE: ({ latent_dim: d }) =>
    "A variational autoencoder that has learned its prior, too: an autoregressive flow bends a " +
    `standard normal into the shape in which the ${d} numbers of its pictures lie.`,
  VQVAE: ({ codes, sampling }) =>
    `A VQ-VAE: it writes a picture as ${codes.grid.join(" × ")} codes out of ${codes.num_codes} ` +
    (sampling.no_label === null
      ? "and reads it back, and a PixelCNN knows which code is likely after those before it."
      : "and reads it back, and a Gated PixelCNN knows which code is likely next, for any class."),
};

const GROUPS = {
  VAE2D: "VAEs in the plane",
  VAE: "VAEs",
  BernoulliVAE: "VAEs of binary pictures",
  VLAE: "VAEs with an autoregressive-flow prior",
  VQVAE: "VQ-VAEs with a PixelCNN prior",
  gated: "VQ-VAEs with a Gated PixelCNN prior",
};

const DATA = {
  gaussian1: "It learned from points of a tilted Gaussian, whose density is known exactly.",
  gaussian2: "It learned from points of a tilted Gaussian, whose density is known exactly.",
  mnist: "It learned from MNIST: handwritten digits, 28 pixels wide, on black.",
  bmnist: "It learned from MNIST's handwritten digits with every pixel either black or white.",
  cifar10: "It learned from CIFAR-10: photographs of animals and vehicles, 32 pixels wide.",
  svhn: "It learned from SVHN: house numbers in street photographs, 32 pixels wide.",
};

/** What kind of model it is, in a sentence. */
export function kindOf(facts) {
  return KINDS[facts.model_class]?.(facts) ?? `A ${facts.model_class}.`;
}

/** Two sentences on a model, from its lvmzoo.json. */
export function sentences(facts) {
  return `${kindOf(facts)} ${DATA[facts.dataset] ?? ownData(facts)}`;
}

/** The heading under which a model of the index stands in the zoo. */
export function groupOf({ model_class: kind, sampling }) {
  const labelled = sampling && sampling.no_label !== null;
  return labelled ? GROUPS.gated : (GROUPS[kind] ?? kind);
}

function ownData({ image, classes }) {
  const what = image ? `pictures of ${image.size} × ${image.size} pixels` : "points";
  const kinds = classes.length ? ` in ${classes.length} classes` : "";
  return `It learned from ${what}${kinds} that its owner chose.`;
}
