import math

import numpy as np


def test_the_noise_has_the_moments_of_its_distribution(run):
    code = """({ gumbel, normal, uniform }, n) =>
        [normal, gumbel].map((draw) => Array.from(draw(n, uniform(1))))"""
    n = 100_001
    drawn = np.array(run("random.js", code, n))
    stds = np.array([1, math.pi / math.sqrt(6)])
    assert np.all(np.abs(drawn.mean(1) - [0, np.euler_gamma]) < 5 * stds / math.sqrt(n))
    assert np.allclose(drawn.std(1), stds, atol=0.02)
    assert abs(np.corrcoef(drawn[0, :-1], drawn[0, 1:])[0, 1]) < 0.02
