"""Who is in a video, who is judged, and what is left out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dfmodels.video.tracking import follow, smooth

# --- smoothing


def test_squares_are_smoothed_but_not_over_a_cut() -> None:
    def box(x: float) -> list[float]:
        return [x - 10, 40, x + 10, 60, 1.0]

    squares = follow(np.array([box(x) for x in (20, 20, 26, 26, 26, 100, 106, 100)]))
    np.testing.assert_allclose([s.x for s in squares], [20, 22, 23.6, 26, 26, 100, 102, 100])
    assert {(s.y, s.side) for s in squares} == {(50, 20)}


@given(values=st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12))
def test_smoothing(values: list[float]) -> None:
    line = np.array(values)
    result = smooth(line)
    assert result[0] == line[0]
    assert result[-1] == line[-1]
    assert result.min() >= line.min() - 1e-6
    assert result.max() <= line.max() + 1e-6
    assert (smooth(np.full(9, values[0])) == values[0]).all()
    np.testing.assert_allclose(smooth(line)[::-1], smooth(line[::-1]), atol=1e-6)


def test_smoothing_keeps_steady_motion_and_damps_jitter() -> None:
    np.testing.assert_allclose(smooth(np.arange(9.0)), np.arange(9.0), atol=1e-12)
    assert smooth(np.array([0.0, 0, 0, 5, 0, 0, 0])).tolist() == [0, 0, 1, 1, 1, 0, 0]
