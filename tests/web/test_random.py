import math

import numpy as np


def test_a_seed_gives_the_same_numbers_and_another_seed_others(run):
    code = """({ uniform }, seeds) => seeds.map((seed) => {
        const next = uniform(seed);
        return Array.from({ length: 8 }, next);
    })"""
    same, again, other, large = run("random.js", code, [7, 7, 8, 7 + 2**32])
    assert same == again
    assert not set(same) & set(other)
    assert not set(same) & set(large)
    assert all(0 < value < 1 for value in same)


def test_the_noise_has_the_moments_of_its_distribution(run):
    code = """({ gumbel, normal, uniform }, n) => ({
        normal: Array.from(normal(n, uniform(1))), gumbel: Array.from(gumbel(n, uniform(1))),
    })"""
    n = 100_001
    drawn = {name: np.array(values) for name, values in run("random.js", code, n).items()}
    euler = 0.5772156649
    for name, mean, std in (("normal", 0, 1), ("gumbel", euler, math.pi / math.sqrt(6))):
        values = drawn[name]
        assert len(values) == n
        assert np.isfinite(values).all()
        assert abs(values.mean() - mean) < 5 * std / math.sqrt(n)
        assert abs(values.std() - std) < 0.02
    assert abs(np.corrcoef(drawn["normal"][:-1], drawn["normal"][1:])[0, 1]) < 0.02
