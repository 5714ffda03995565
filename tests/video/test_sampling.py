"""Evenly spaced frames, STIL's choice against the release's formulas, and what holds for every video."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmodels.video import candidate_frames, eval_frames, even_frames, train_frames
from tests.strategies import seeds

videos, counts, spans = st.integers(1, 1000), st.integers(1, 200), st.sampled_from([0, 1, 2, 97, 150])


def test_even_frames_examples() -> None:
    assert even_frames(10, 4) == [0, 3, 6, 9]
    assert even_frames(4, 3) == [0, 2, 3]  # 1.5 is rounded up
    assert even_frames(5, 5) == [0, 1, 2, 3, 4]
    assert even_frames(2, 4) == [0, 0, 1, 1]
    assert even_frames(300, 8) == [0, 43, 85, 128, 171, 214, 256, 299]
    assert [even_frames(frames, 1) for frames in (1, 2, 3, 300)] == [[0], [0], [1], [149]]


@given(frames=st.integers(1, 100_000), count=st.integers(2, 300))
def test_even_frames(frames: int, count: int) -> None:
    picked = even_frames(frames, count)
    assert picked == [floor(Fraction(i * (frames - 1), count - 1) + Fraction(1, 2)) for i in range(count)]
    assert (picked[0], picked[-1]) == (0, frames - 1)
    steps = np.diff(picked)
    assert steps.min() >= (1 if count <= frames else 0)  # no frame twice while there are enough
    assert steps.max() - steps.min() <= 1
    assert len(set(picked)) == min(count, frames)


@given(frames=st.integers(1, 100_000))
def test_candidates_are_those_of_linspace(frames: int) -> None:
    assert candidate_frames(frames) == np.linspace(0, frames - 1, 150).astype(int).tolist()


def test_candidates_without_span_are_all_frames() -> None:
    assert candidate_frames(83, span=0) == list(range(83))
    assert candidate_frames(83, span=1) == [0]


@given(frames=videos, count=counts, span=spans, seed=seeds())
def test_frames_ascend_and_lie_in_the_video(frames: int, count: int, span: int, seed: int) -> None:
    candidates = candidate_frames(frames, span)
    assert len(candidates) == (span or frames)
    assert candidates == sorted(candidates)
    assert candidates[0] == 0
    assert candidates[-1] == (frames - 1 if span != 1 else 0)
    drawn = train_frames(frames, count, draws=np.random.default_rng(seed), span=span)
    for picked in (eval_frames(frames, count, span), drawn):
        assert len(picked) == count
        assert picked == sorted(picked)
        assert set(picked) <= set(candidates)
    assert drawn == train_frames(frames, count, draws=np.random.default_rng(seed), span=span)


@given(frames=videos, count=st.integers(1, 150))
def test_eval_frames_are_spread_evenly(frames: int, count: int) -> None:
    picked = np.array(eval_frames(frames, count))
    middles = (np.arange(count) + 0.5) * frames / count
    assert np.abs(picked - middles).max() <= 2 + frames / 150


@given(count=st.integers(1, 75), seed=seeds())
def test_one_training_frame_a_segment(count: int, seed: int) -> None:
    segment = 150 // count
    drawn = train_frames(150, count, draws=np.random.default_rng(seed))
    assert [frame // segment for frame in drawn] == list(range(count))


def test_every_candidate_of_a_segment_is_drawn() -> None:
    generator = np.random.default_rng(0)
    drawn = {frame for _ in range(400) for frame in train_frames(150, 8, draws=generator)}
    assert drawn == set(range(8 * 18))  # the last 150 mod 8 candidates never


@given(count=st.integers(76, 150), seed=seeds())
def test_without_segments_no_candidate_is_drawn_twice(count: int, seed: int) -> None:
    assert len(set(train_frames(150, count, draws=np.random.default_rng(seed)))) == count


def test_every_candidate_is_drawn_without_segments() -> None:
    generator = np.random.default_rng(0)
    drawn = {frame for _ in range(50) for frame in train_frames(150, 76, draws=generator)}
    assert drawn == set(range(150))


def test_fewer_candidates_than_frames_are_repeated() -> None:
    assert train_frames(5, 8, draws=[], span=0) == [0, 1, 2, 3, 4, 4, 4, 4]
    assert train_frames(3, 8, draws=[], span=0) == [0, 0, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: even_frames(0, 3), "num_frames_in_video must be a whole number of at least 1, got 0"),
        (lambda: even_frames(3, 0), "count must be a whole number of at least 1, got 0"),
        (lambda: candidate_frames(0), "num_frames_in_video must be a whole number of at least 1, got 0"),
        (lambda: candidate_frames(9, -1), "span must be a whole number of at least 0, got -1"),
        (lambda: eval_frames(9, 0), "count must be a whole number of at least 1, got 0"),
        (lambda: train_frames(9, 1.5, draws=[]), "count must be a whole number of at least 1, got 1.5"),
        (
            lambda: train_frames(9, 8, draws=[0] * 7),
            r"draws must be a numpy.random.Generator or 8 numbers from 0 to 17, got \[0, 0",
        ),
        (lambda: train_frames(9, 2, draws=[0, 75]), r"or 2 numbers from 0 to 74, got \[0, 75\]"),
        (lambda: train_frames(9, 2, draws=[-1, 0]), r"or 2 numbers from 0 to 74, got \[-1, 0\]"),
        (
            lambda: train_frames(9, 76, draws=[0] * 76),
            "draws must be a numpy.random.Generator where 76 of 150 candidates are taken without segments, got",
        ),
    ],
)
def test_errors(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
