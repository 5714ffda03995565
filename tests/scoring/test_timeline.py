"""Where a video was judged and where not, and what is said of it."""

from dataclasses import replace

import numpy as np
import pytest

from dfmodels.scoring import timeline, words
from dfmodels.scoring.result import ClipScore, PersonScore
from dfmodels.video import LeftOut
from tests.scoring.scores import failed_score, make_score


def plain(clips, left_out=(), **changes):
    return replace(failed_score(), clips=tuple(clips), left_out=tuple(left_out), error=None, probability=0.5, **changes)


def found(score, track=None):
    return [(gap.start, gap.end, gap.reason, gap.count) for gap in timeline.gaps(score, track)]


def test_neighbours_left_out_for_one_reason_are_one_gap():
    clips = [ClipScore(0, 1, 0.5), ClipScore(8, 9, 0.5)]
    out = [LeftOut(2, 3, "no_face", None), LeftOut(4, 5, "no_face", None), LeftOut(6, 7, "damaged", None)]
    assert found(plain(clips, out)) == [(2, 5, "no_face", 2), (6, 7, "damaged", 1)]
    judged_between = [*clips, ClipScore(3.5, 3.9, 0.5)]
    assert found(plain(judged_between, out)) == [(2, 3, "no_face", 1), (4, 5, "no_face", 1), (6, 7, "damaged", 1)]
    assert found(plain([], [])) == []


def test_gaps_of_one_person_are_no_gaps_where_another_is_judged():
    clips = [ClipScore(0, 1, 0.5, 1), ClipScore(2, 3, 0.5, 1), ClipScore(0, 1, 0.5, 2)]
    out = [
        LeftOut(2, 3, "gap", 2),
        LeftOut(4, 5, "short", 1),
        LeftOut(4, 5, "short", 2),
        LeftOut(6, 7, "no_face", None),
    ]
    score = plain(clips, out)
    assert timeline.judged(score) == [1, 2]
    assert found(score, 1) == [(4, 5, "short", 1), (6, 7, "no_face", 1)]
    assert found(score, 2) == [(2, 3, "gap", 1), (4, 5, "short", 1), (6, 7, "no_face", 1)]
    assert found(score) == [(4, 5, "short", 1), (6, 7, "no_face", 1)]


@pytest.mark.parametrize(
    ("breaks", "expected"),
    [
        ([], [[0, 1, 2, 3]]),
        ([0.5], [[0], [1, 2, 3]]),
        ([0.5, 0.7, 2.5], [[0], [1, 2], [3]]),
        ([-1, 9], [[0, 1, 2, 3]]),
        ([1], [[0], [1, 2, 3]]),
    ],
)
def test_runs_end_where_something_was_left_out(breaks, expected):
    starts = [0, 1, 2, 3]
    assert [starts[run] for run in timeline.runs(starts, breaks)] == expected
    assert timeline.runs([], breaks) == []


@pytest.mark.parametrize("seconds", [0.04, 0.3, 1, 9.99, 59, 60, 61, 640, 3599, 5 * 3600, 40 * 3600])
def test_ticks_are_few_and_inside(seconds):
    ticks = timeline.time_ticks(seconds)
    assert 2 <= len(ticks) <= 9
    assert ticks[0] == 0
    assert ticks[-1] <= seconds * (1 + 1e-6)
    labels = [timeline.time_label(tick, ticks[1]) for tick in ticks]
    assert len(set(labels)) == len(labels)
    np.testing.assert_allclose([float(label) for label in labels], ticks, atol=1e-9)


def test_frame_numbers_follow_a_rate_that_changes():
    clips = [ClipScore(0, 1, 0.5, 1, (0, 10)), ClipScore(5, 5.5, 0.5, 1, (100, 110))]
    ticks = {number: time for time, number in timeline.frame_ticks(plain(clips, num_frames=210, duration=7.5))}
    assert ticks == pytest.approx({0: 0, 50: 1 + 4 * 40 / 90, 100: 5, 150: 5.5 + 2 * 40 / 100, 200: 5.5 + 2 * 90 / 100})
    assert timeline.frame_ticks(plain([])) == []
    single = timeline.frame_ticks(plain([ClipScore(0, 0, 0.5, 1, (0,))], num_frames=1, duration=0.04))
    assert single == [(0.0, 0)]  # and no frame 1, which it does not have


def test_crops_have_the_times_of_their_frames():
    clip = ClipScore(2, 3, 0.5, 1, (50, 60, 75), (2, 2.3, 3))
    assert [timeline.crop_label(clip, i, 3) for i in range(3)] == [("50", 2), ("60", 2.3), ("75", 3)]
    assert timeline.crop_label(ClipScore(2, 3, 0.5), 1, 3) == ("", 2.5)
    assert timeline.crop_label(ClipScore(2, 2, 0.5, 1, (50, 50), (2, 2)), 1, 2) == ("50", 2)


@pytest.mark.parametrize("places", [[], [5], [5, 5, 5], [0, 0.1, 9.9, 10], [3, 1, 2], [5] * 30])
def test_labels_stand_apart_inside_and_in_order(places):
    moved = timeline.apart(places, 1.0, 0.0, 10.0)
    assert all(-1e-9 <= place <= 10 + 1e-9 for place in moved)
    order = sorted(range(len(places)), key=lambda i: places[i])
    steps = np.diff([moved[i] for i in order])
    assert (steps >= min(1.0, 10 / max(len(places) - 1, 1)) - 1e-9).all()
    assert timeline.apart([2, 7], 1.0, 0.0, 10.0) == [2, 7]


def test_of_many_clips_the_highest_and_lowest_are_drawn():
    values = np.random.default_rng(0).random(20_000)
    clips = [ClipScore(i / 10, i / 10, float(value)) for i, value in enumerate(values)]
    drawn = timeline.thinned(clips, 2000.0)
    assert len(drawn) <= 600
    assert {max(values), min(values)} <= {clip.probability for clip in drawn}
    assert [clip.start for clip in drawn] == sorted(clip.start for clip in drawn)
    assert timeline.thinned(clips[:500], 2000.0) == clips[:500]


def test_digits_stand_on_the_side_of_the_verdict():
    shown = [words.probability_text(p) for p in (None, 0.49996, 0.5, 0.4994, 0, 1, 0.12345)]
    assert shown == ["-", "0.499", "0.500", "0.499", "0.000", "1.000", "0.123"]


@pytest.mark.parametrize(("share", "text"), [(0, "0 %"), (0.001, "1 %"), (0.5, "50 %"), (0.999, "99 %"), (1, "100 %")])
def test_nothing_and_everything_are_exact(share, text):
    assert words.share_text(share) == text


def test_what_the_number_rests_on():
    one = make_score(people=1)
    assert words.basis(one) == "on average over 8 clips"
    assert words.basis(make_score(people=2)) == "on average over 8 clips of person 1"
    assert words.basis(make_score(people=1, clips=1, unit="frame", moments=1)) == "from a single frame"
    two = make_score(people=3, judge=(1, 2))
    assert words.basis(two) == "the highest of the 2 people judged, that of person 1, on average over 8 clips"
    assert words.meaning(one) == (
        "The detector stil of dfmodels 0.1.0 with the weights best.safetensors (SHA-256 9f2c41d7a6b0...) gives this "
        "video "
        f"{one.probability:.3f} on a scale from 0 (real) to 1 (fake), on average over 8 clips; from 0.5 on it calls a "
        "video fake."
    )
    nobody = replace(one, weights=type(one.weights)())
    assert "with weights trained in the same process gives" in words.meaning(nobody)


def test_what_was_seen():
    score = make_score(people=2, seconds=100)
    assert words.seen(score) == "2 people seen, 1 judged"
    assert words.coverage(score) == "88 of 2,500 frames read, 55 (62 %) with a face"
    assert words.amount(score) == "8 clips judged (64 of the video's 2,500 frames)"
    assert words.amount(replace(score, num_frames=None)) == "8 clips judged"
    assert words.left_out(score) == [
        "2 clips (no face was found)",
        "1 clip (the person was not seen, or lost for too long)",
    ]
    crops = replace(score, faces="none", people=(), frames_damaged=3, num_frames=None)
    assert words.seen(crops) == "frames taken for face crops as they are, no faces looked for"
    assert words.coverage(crops) == "88 frames read, 3 damaged"
    assert words.seen(failed_score()) == "no frame could be looked at"
    assert words.seen(failed_score(frames_read=3)) == "nobody seen"
    assert (
        words.seen(replace(score, people=(PersonScore(1, None, 0.1, 0, 1, 0),), clips=())) == "1 person seen, 0 judged"
    )
