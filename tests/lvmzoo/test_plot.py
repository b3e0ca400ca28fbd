import numpy as np
import pytest
import torch
from PIL import Image

from lvmzoo.plot import axes, save_scatter


def test_scatter_draws_a_dot_where_a_point_is(tmp_path):
    save_scatter({"one": torch.tensor([[0.0, 0.0], [4.0, 1.0]])}, tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png")).astype(int)
    assert picture.shape == (320, 320, 3)
    rows, columns = np.nonzero(picture[..., 2] - picture[..., 0] > 60)  # blue
    # The second point lies to the right of and above the first.
    assert rows[columns.argmax()] < rows[columns.argmin()]


@pytest.mark.parametrize("scale", [1e-3, 0.3, 1.0, 7.0, 1e6])
def test_axes_hold_all_points_on_round_ticks(scale):
    points = scale * np.random.default_rng(0).normal(size=(100, 2)) + 3 * scale
    low, step, ticks = axes(points)
    assert (low <= points.min(0)).all()
    assert (low + ticks * step >= points.max(0)).all()
    assert 4 <= ticks <= 12
    np.testing.assert_allclose(low / step, np.round(low / step), atol=1e-6)
