// What each model is, in words. A row of the index and lvmzoo.json hold the same facts.

// In the order of the zoo.
const KINDS = {
  gated: {
    title: "class-conditional VQ-VAE",
    sentence: (facts) => `${codesOf(facts)} A Gated PixelCNN, which can be told a class, draws new codes one by one.`,
  },
  VQVAE: {
    title: "VQ-VAE with a PixelCNN",
    sentence: (facts) => `${codesOf(facts)} A PixelCNN draws new codes one by one.`,
  },
  VLAE: {
    title: "VAE with a flow prior",
    sentence: ({ latent_dim: d }) =>
      `A variational autoencoder (VAE): it squeezes a picture into ${d} numbers. An autoregressive flow ` +
      "has learned how these numbers are distributed, and draws new ones.",
  },
  VAE: {
    title: "VAE",
    sentence: ({ latent_dim: d }) =>
      `A variational autoencoder (VAE): it squeezes a picture into ${d} numbers, and turns any ${d} numbers ` +
      "drawn from a standard normal into a picture.",
  },
  BernoulliVAE: {
    title: "VAE of binary pictures",
    sentence: ({ latent_dim: d }) =>
      `A variational autoencoder (VAE) of black-and-white pictures: it turns ${d} numbers into the ` +
      "probability that each pixel is white.",
  },
  VAE2D: {
    title: "VAE in the plane",
    sentence: () =>
      "A variational autoencoder (VAE) of points in the plane: it turns two numbers drawn from a " +
      "standard normal into a point and its uncertainty.",
  },
};

const DATA = {
  gaussian1: "It learned from points of a tilted Gaussian, whose density is known exactly.",
  gaussian2: "It learned from points of a tilted Gaussian, whose density is known exactly.",
  mnist: "It learned from MNIST: handwritten digits, 28 pixels wide, on black.",
  bmnist: "It learned from MNIST's handwritten digits, with every pixel either black or white.",
  cifar10: "It learned from CIFAR-10: photographs of animals and vehicles, 32 pixels wide.",
  svhn: "It learned from SVHN: house numbers in photographs of streets, 32 pixels wide.",
};

function codesOf({ codes }) {
  return `A VQ-VAE: it writes a picture as ${codes.grid.join(" × ")} codes out of ${codes.num_codes}, and reads it back.`;
}

export function takesClass({ sampling }) {
  return (sampling?.no_label ?? null) !== null;
}

function kindOf(row) {
  return takesClass(row) ? "gated" : row.model_class;
}

/** Models of one's own first, then those that take a class, then the others by kind. */
export function inOrder(rows) {
  const order = Object.keys(KINDS);
  const rank = (row) => (row.own ? -1 : order.indexOf(kindOf(row)));
  return rows.toSorted((a, b) => rank(a) - rank(b));
}

/** What kind of model it is, in a few words. */
export function titleOf(row) {
  return KINDS[kindOf(row)].title;
}

/** What a model is and what it learned from, in two sentences. */
export function sentences(row) {
  return `${KINDS[kindOf(row)].sentence(row)} ${DATA[row.dataset] ?? ownData(row)}`;
}

function ownData({ image, classes }) {
  const what = image ? `pictures of ${image.size} × ${image.size} pixels` : "points";
  return `It learned from ${what}${classes.length ? ` in ${classes.length} classes` : ""} that its owner chose.`;
}
