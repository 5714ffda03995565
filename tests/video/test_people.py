"""Who is in a video, who is judged, and what is left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmodels.video import (
    Clip,
    Frame,
    LeftOut,
    Person,
    Survey,
    VideoError,
    choose,
    clip_frames,
    clips,
    face_detector,
    iter_frames,
    people,
    read_clips,
    read_people,
    survey_people,
)
from dfmodels.video.tracking import follow, smooth
from tests.video.videos import draw_person, scene, write_image, write_video

SHIRTS = {"red": (200, 40, 40), "blue": (40, 60, 200), "green": (40, 160, 60), "white": (235, 235, 225)}
HEIGHT, WIDTH = 180, 320

Cast = list[tuple[str, float, float, float]]  # name, x, y, side, those in front last


class Film:
    """A video of drawn people whose boxes are known: `at` says who is where in a frame, `hidden` who is not found."""

    name = "known boxes"
    whole_frame = False

    def __init__(
        self,
        path: Path,
        frames: int,
        at: Callable[[int], Cast],
        *,
        found: Callable[[int, str], bool] = lambda index, name: True,
        background: Callable[[int], int] = lambda index: 0,
    ) -> None:
        self.at, self.found, self.background, self.frames = at, found, background, frames
        self.path = write_video(path / "film.mp4", frames, self.picture)

    def picture(self, index: int) -> np.ndarray:
        image = scene(self.background(index), HEIGHT, WIDTH)
        for name, x, y, side in self.at(index):
            draw_person(image, x, y, side, SHIRTS[name])
        return image

    def detect(self, frame: Frame, path: object) -> np.ndarray:
        rows = [
            (x - side / 2, y - side / 2, x + side / 2, y + side / 2, 0.9)
            for name, x, y, side in self.at(frame.index)
            if self.found(frame.index, name)
        ]
        return np.array(rows).reshape(-1, 5)

    def survey(self, num_frames: int = 8, num_clips: int | None = None) -> Survey:
        return survey_people(self.path, self, clip_frames(self.frames, num_frames, num_clips))

    def who(self, survey: Survey) -> list[str]:
        """The name of everybody seen, by track: the one whose box is nearest in most frames."""
        names = []
        for person in survey.people:
            nearest = []
            for index, face in zip(person.frames.tolist(), person.faces, strict=True):
                cast = self.at(index)
                if not cast:
                    nearest.append("nobody")
                    continue
                x, y = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2
                nearest.append(min(cast, key=lambda who: np.hypot(who[1] - x, who[2] - y))[0])
            (name,) = set(nearest)
            names.append(name)
        return names


def shirt(image: np.ndarray) -> str:
    """Whose shirt is at the lower edge of a crop of margin 2."""
    height, width = image.shape[:2]
    colour = image[int(0.93 * height) :, int(0.45 * width) : int(0.55 * width)].reshape(-1, 3).mean(axis=0)
    return min(SHIRTS, key=lambda name: float(np.abs(colour - SHIRTS[name]).sum()))


def judged(film: Film, select: str = "largest", num_frames: int = 8) -> dict[int, str]:
    """Who is in the crops of the clips, by their first frame; every crop of a clip shows the same person."""
    result = {}
    for clip in read_clips(film.path, num_frames=num_frames, size=32, faces=film, margin=2.0, select=select):
        (result[clip.indices[0]],) = {shirt(image) for image in clip.frames}
    return result


def test_two_people_side_by_side(tmp_path: Path) -> None:
    film = Film(tmp_path, 48, lambda i: [("red", 90, 70, 40), ("blue", 230 + i % 3, 75, 50)])
    survey = film.survey()
    assert film.who(survey) == ["blue", "red"]
    assert [person.track for person in survey.people] == [1, 2]
    assert all(person.found.all() and len(person.frames) == 48 for person in survey.people)
    assert (survey.frames, survey.with_face, survey.damaged) == (tuple(range(48)), 48, ())
    assert judged(film) == dict.fromkeys(range(0, 48, 8), "blue")
    assert judged(film, "central") == dict.fromkeys(range(0, 48, 8), "blue")


def test_sizes_cross_in_the_middle(tmp_path: Path) -> None:
    film = Film(tmp_path, 80, lambda i: [("red", 90, 70, 70 - 0.5 * i), ("blue", 230, 75, 28 + 0.5 * i)])
    assert film.who(film.survey()) == ["red", "blue"]
    assert judged(film) == dict.fromkeys(range(0, 80, 8), "red")


@pytest.mark.parametrize("pace", [1.5, 3.0, 6.0])
def test_people_walk_past_each_other(tmp_path: Path, pace: float) -> None:
    frames = int(200 / pace)

    def hidden(index: int, name: str) -> bool:
        return name == "red" and abs(pace * (2 * index) - 200) < 36

    film = Film(
        tmp_path,
        frames,
        lambda i: [("red", 60 + pace * i, 70, 40), ("blue", 260 - pace * i, 74, 44)],
        found=lambda index, name: not hidden(index, name),
    )
    assert film.who(film.survey()) == ["blue", "red"]
    whole = list(range(0, frames // 8 * 8, 8))
    assert judged(film) == dict.fromkeys(whole, "blue")
    survey = film.survey()
    got = list(read_people(film.path, clip_frames(frames, 8), survey, [2], size=32, margin=2.0))
    behind = [any(hidden(index, "red") for index in range(start, start + 8)) for start in whole]
    for clip, covered, start in zip(got, behind, whole, strict=True):
        if isinstance(clip, Clip):
            assert clip.indices[0] == start
            assert {shirt(image) for image in clip.frames} == {"red"}
        else:
            assert covered
            assert clip.reason in ("gap", "short")
    assert any(isinstance(clip, LeftOut) for clip in got)


def test_people_who_are_both_found_while_they_pass(tmp_path: Path) -> None:
    film = Film(tmp_path, 100, lambda i: [("red", 60 + 2 * i, 66, 40), ("blue", 260 - 2 * i, 74, 44)])
    survey = film.survey()
    assert film.who(survey) == ["blue", "red"]
    assert all(len(person.frames) > 90 for person in survey.people)  # but for those in which one covers the other


def test_one_leaves_and_comes_back(tmp_path: Path) -> None:
    film = Film(
        tmp_path,
        150,
        lambda i: [("blue", 230, 75, 36), *([("red", 90, 70, 60)] if i < 35 or i >= 110 else [])],
    )
    survey = film.survey(num_clips=6)
    assert film.who(survey) == ["red", "blue"]
    plan = clip_frames(150, 8, 6)
    got = list(read_people(film.path, plan, survey, [1, 2], size=16))
    assert [(clip.start, clip.track) for clip in got] == [(numbers[0] / 25, t) for numbers in plan for t in (1, 2)]
    for i, numbers in enumerate(plan):
        red, blue = got[2 * i : 2 * i + 2]
        assert isinstance(blue, Clip)
        there = [index < 35 or index >= 110 for index in numbers]
        if all(there):
            assert isinstance(red, Clip)
        else:
            assert isinstance(red, LeftOut)
            assert red.reason == ("short" if any(there) else "gap")


@pytest.mark.parametrize("length", [4, 9, 30])
def test_interview_of_two_people(tmp_path: Path, length: int) -> None:
    """A B A B, in the same place of the picture."""
    first = [("red", 160, 70, 60)]
    second = [("blue", 158, 72, 56)]
    film = Film(
        tmp_path,
        8 * length,
        lambda i: second if i // length % 2 else first,
        background=lambda i: i // length % 2,
    )
    assert film.who(film.survey()) == ["red", "blue"]
    clips = judged(film, num_frames=3)
    assert clips
    assert clips == dict.fromkeys(clips, "red")
    whole = {start for start in range(0, 8 * length - 2, 3) if start // length % 2 == (start + 2) // length % 2 == 0}
    assert set(clips) == whole


def test_a_cut_within_a_clip(tmp_path: Path) -> None:
    """To the same person elsewhere and larger, and then to another in that place."""

    def at(index: int) -> Cast:
        if index < 12:
            return [("red", 90, 70, 40)]
        return [("red", 220, 80, 60)] if index < 28 else [("blue", 220, 80, 40)]

    film = Film(tmp_path, 40, at, background=lambda index: int(index >= 12))
    assert film.who(film.survey()) == ["red", "blue"]
    assert judged(film) == dict.fromkeys((0, 8, 16), "red")
    clip = list(read_clips(film.path, num_frames=8, size=8, faces=film, margin=1.0))[1]
    assert clip.boxes.tolist() == [[70, 50, 110, 90]] * 4 + [[190, 50, 250, 110]] * 4


@pytest.mark.parametrize("look", ["dark", "grey"])
def test_a_dark_or_grey_interview(tmp_path: Path, look: str) -> None:
    class Poor(Film):
        def picture(self, index: int) -> np.ndarray:
            image = super().picture(index)
            grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
            return (image * 0.25 if look == "dark" else grey).astype(np.uint8)

    def at(index: int) -> Cast:
        return [("white", 160, 70, 60)] if index // 10 % 2 else [("red", 160, 72, 64)]

    film = Poor(tmp_path, 60, at)
    survey = film.survey()
    assert film.who(survey) == ["red", "white"]
    assert [person.frames[0] for person in survey.people] == [0, 10]
    assert sum(len(person.frames) for person in survey.people) == len(survey.frames)


def test_somebody_for_one_second(tmp_path: Path) -> None:
    def at(index: int) -> Cast:
        return [("red", 90, 70, 50), ("blue", 240, 75, 44), *([("green", 165, 65, 30)] if 40 <= index < 65 else [])]

    film = Film(tmp_path, 100, at)
    assert film.who(film.survey(num_clips=2)) == ["red", "blue", "green"]
    (third,) = film.survey(num_clips=2).people[2:]
    assert (third.times[0], third.times[-1]) == pytest.approx((1.6, 2.56), abs=0.17)


def test_a_face_in_the_mirror_is_another(tmp_path: Path) -> None:
    film = Film(tmp_path, 40, lambda i: [("red", 90 + i, 70, 60), ("red", 250 - i, 70, 50)])
    survey = film.survey()
    assert [len(person.frames) for person in survey.people] == [40, 40]
    for person, (start, step) in zip(survey.people, ((90, 1), (250, -1)), strict=True):
        np.testing.assert_allclose(person.faces[:, [0, 2]].mean(axis=1), start + step * np.arange(40))


def test_faces_at_the_edge(tmp_path: Path) -> None:
    film = Film(tmp_path, 40, lambda i: [("red", 12, 20, 60), ("blue", 310, 168, 44)])
    assert film.who(film.survey()) == ["red", "blue"]
    got = list(read_clips(film.path, num_frames=8, size=16, faces=film))
    assert len(got) == 5
    assert all((clip.boxes >= 0).all() and (clip.boxes[:, 2] <= WIDTH).all() for clip in got)


def test_a_folder_of_pictures_of_different_size(tmp_path: Path) -> None:
    """Upright and lying ones in turn, three of each."""
    boxes = {}
    for index in range(12):
        image = scene(1, *((320, 180) if index // 3 % 2 else (180, 320)))
        boxes[index] = [draw_person(image, 90, 80, 50, SHIRTS["red"])]
        if not index // 3 % 2:
            boxes[index].append(draw_person(image, 240, 80, 40, SHIRTS["blue"]))
        write_image(tmp_path / f"{index}.png", image[..., ::-1])
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    survey = survey_people(tmp_path, face_detector(f"boxes:{tmp_path / 'boxes.json'}"), clip_frames(12, 3))
    assert [person.frames.tolist() for person in survey.people] == [list(range(12)), [0, 1, 2, 6, 7, 8]]
    assert survey.sizes == (((180, 320),) * 3 + ((320, 180),) * 3) * 2
    assert choose(survey, "central").track == 1


def test_twenty_faces(tmp_path: Path) -> None:
    names = list(SHIRTS)

    def at(index: int) -> Cast:
        return [(names[(r + c) % 4], 30 + 60 * c + index % 2, 20 + 45 * r, 18 + r) for r in range(4) for c in range(5)]

    film = Film(tmp_path, 24, at)
    survey = film.survey()
    assert len(survey.people) == 20
    for person in survey.people:
        assert len(person.frames) == 24
        assert np.ptp(person.faces[:, 0]) < 2


def test_nobody(tmp_path: Path) -> None:
    film = Film(tmp_path, 20, lambda i: [])
    survey = film.survey()
    assert (survey.people, survey.with_face) == ((), 0)
    assert len(survey.frames) == len(survey.times) == len(survey.sizes) == 17


def test_noise_with_two_known_faces(tmp_path: Path) -> None:
    """Every frame differs in every pixel, and the two boxes stay."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (16, 128, 256, 3), np.uint8)
    path = write_video(tmp_path / "two.mp4", 16, lambda i: pictures[i])
    found = {i: [[10, 20, 100, 110], [150, 30, 220, 100]] for i in range(16)}
    (tmp_path / "two.json").write_text(json.dumps(found))
    detector = face_detector(f"boxes:{tmp_path / 'two.json'}")
    survey = survey_people(path, detector, clip_frames(16, 8))
    assert [(person.faces[0, 0], len(person.frames)) for person in survey.people] == [(10, 16), (150, 16)]
    (tmp_path / "two.json").write_text(json.dumps({**found, 1: None}))
    detector = face_detector(f"boxes:{tmp_path / 'two.json'}")
    survey = survey_people(path, detector, clip_frames(16, 8))
    assert [len(person.frames) for person in survey.people] == [16, 16]


@pytest.mark.parametrize("side", [12, 20, 40])
def test_small_faces_in_noise(tmp_path: Path, side: int) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (16, 48, 64, 3), np.uint8)
    path = write_video(tmp_path / "noise.mp4", 16, lambda i: pictures[i])
    (tmp_path / "a.json").write_text(json.dumps({i: [[10, 5, 10 + side, 5 + side]] for i in range(16)}))
    (person,) = survey_people(path, face_detector(f"boxes:{tmp_path / 'a.json'}"), clip_frames(16, 8)).people
    assert person.found.tolist() == [True] * 16


def test_single_missed_frames_are_bridged(tmp_path: Path) -> None:
    film = Film(tmp_path, 40, lambda i: [("red", 60 + 2 * i, 70, 50)], found=lambda index, name: index % 4 != 2)
    (person,) = film.survey().people
    assert person.frames.tolist() == list(range(40))
    assert person.found.tolist() == [index % 4 != 2 for index in range(40)]
    np.testing.assert_allclose(person.faces[:, 0], 35 + 2 * np.arange(40), atol=1e-6)
    assert np.isnan(person.faces[:, 5:]).all()
    assert list(judged(film).values()) == ["red"] * 5


def test_a_gap_is_bridged_only_where_the_face_is_seen(tmp_path: Path) -> None:
    gap = range(10, 17)
    for there in (True, False):
        film = Film(
            tmp_path,
            40,
            lambda i, there=there: [("red", 60 + 2 * i, 70, 50)] if there or i not in gap else [],
            found=lambda index, name: index not in gap,
        )
        (person,) = film.survey().people
        assert person.frames.tolist() == [i for i in range(40) if there or i not in gap]
    survey = film.survey()
    got = read_people(film.path, clip_frames(40, 8), survey, size=8)
    assert [clip.reason for clip in got if isinstance(clip, LeftOut)] == ["short", "short"]


@pytest.mark.parametrize("end", [38, 50])
def test_a_long_gap_is_not_bridged_but_its_ends_are(tmp_path: Path, end: int) -> None:
    film = Film(tmp_path, 80, lambda i: [("red", 60 + i, 70, 50)], found=lambda index, name: not 20 <= index < end)
    (person,) = film.survey().people
    assert person.frames.tolist() == [*range(25), *range(end - 5, 80)]
    np.testing.assert_allclose(person.faces[:, 0], 35 + person.frames, atol=3)
    assert person.found.sum() == 80 - (end - 20)


def test_false_detections_are_nobody(tmp_path: Path) -> None:
    class WithFalse(Film):
        def detect(self, frame: Frame, path: object) -> np.ndarray:
            false = {12: [(250, 20, 280, 50, 0.9)], 30: [(20, 120, 60, 160, 0.8)], 31: [(20, 121, 60, 160, 0.8)]}
            return np.concatenate([super().detect(frame, path), np.array(false.get(frame.index, [])).reshape(-1, 5)])

    film = WithFalse(tmp_path, 48, lambda i: [("red", 140, 90, 60)])
    survey = film.survey()
    assert film.who(survey) == ["red"]
    assert survey.with_face == 48


def test_a_pattern_that_is_found_now_and_then_is_nobody(tmp_path: Path) -> None:
    class WithPattern(Film):
        def detect(self, frame: Frame, path: object) -> np.ndarray:
            rows = super().detect(frame, path)
            return np.concatenate([rows, [(20, 120, 60, 160, 0.9)]]) if frame.index % 24 in (5, 6) else rows

    film = WithPattern(tmp_path, 144, lambda i: [("red", 140, 90, 60)])
    assert film.who(film.survey()) == ["red"]
    film.at = lambda i: [("red", 140, 90, 60), ("blue", 260, 90, 40)]  # who is found a few times more is somebody
    film.found = lambda index, name: name == "red" or 40 <= index < 44
    assert len(film.survey().people) == 2


def test_frames_seconds_apart(tmp_path: Path) -> None:
    """Single frames of a long video, told apart by their looks alone."""
    spots = np.random.default_rng(1).integers(40, 280, 40)

    def at(index: int) -> Cast:
        cast: Cast = [("red", spots[index // 30 % 40], 60 + index // 30 % 3, 50)]
        if index // 30 % 2:
            cast.append(("blue", 280 if cast[0][1] < 160 else 40, 130, 36))
        return cast

    film = Film(tmp_path, 600, at)
    plan = clip_frames(600, 1, 20, "even")
    survey = survey_people(film.path, film, plan)
    assert film.who(survey) == ["red", "blue"]
    got = list(read_clips(film.path, num_frames=1, size=32, num_clips=20, sampling="even", faces=film, margin=2.0))
    assert [shirt(clip.frames[0]) for clip in got] == ["red"] * 20


def test_tracklets_of_a_long_video_are_joined_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts every half second, so that a video has many tracklets."""

    def at(index: int) -> Cast:
        scene = index // 12
        return [("red", 90 + 70 * (scene % 3), 70, 50)] if scene % 2 else [("blue", 160, 75, 40), ("green", 60, 70, 30)]

    film = Film(tmp_path, 240, at, background=lambda index: index // 12 % 2)
    expected = film.survey()
    assert film.who(expected) == ["red", "blue", "green"]
    monkeypatch.setattr(people, "MOST_TRACKLETS", 4)
    survey = film.survey()
    for one, other in zip(survey.people, expected.people, strict=True):
        assert one.frames.tolist() == other.frames.tolist()
        np.testing.assert_array_equal(one.faces, other.faces)


def test_damaged_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = Film(tmp_path, 40, lambda i: [("red", 60 + 2 * i, 70, 50)] if i < 32 else [])
    damaged = {9, 10, 33}

    def reader(path: Path, wanted: Collection[int]) -> Generator[Frame, None, None]:
        for frame in iter_frames(path, wanted):
            yield Frame(frame.index, frame.time, frame.image, frame.index in damaged)

    for module in (people, clips):
        monkeypatch.setattr(module, "iter_frames", reader)
    survey = film.survey()
    assert survey.damaged == (9, 10, 33)
    (person,) = survey.people
    assert set(person.frames.tolist()).isdisjoint(damaged)
    plan = clip_frames(40, 8)
    for got in (
        list(read_people(film.path, plan, survey, size=8)),
        list(read_people(film.path, plan, None, size=8)),
    ):
        left_out = [clip for clip in got if isinstance(clip, LeftOut)]
        assert [(clip.reason, clip.track, clip.frames, clip.damaged) for clip in left_out] == [
            ("damaged", None, tuple(range(8, 16)), (9, 10)),
            ("damaged", None, tuple(range(32, 40)), (33,)),
        ]
        assert [clip.indices[0] for clip in got if isinstance(clip, Clip)] == [0, 16, 24]
    damaged |= set(range(40))
    with pytest.raises(VideoError, match="damaged frames; copy or download the file again"):
        list(read_clips(film.path, num_frames=8, size=8))


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        ("0111", "short"),
        ("0010", "short"),
        ("1000", "short"),
        ("1011", "gap"),
        ("0000", "gap"),
        ("0101", "gap"),
    ],
)
def test_why_a_clip_is_left_out(there: str, reason: str) -> None:
    assert clips.missing([value == "1" for value in there]) == reason


def person(track: int, frames: range, x: float, side: float, score: float) -> Person:
    faces = np.full((len(frames), 15), np.nan)
    faces[:, :5] = (x - side / 2, 50 - side / 2, x + side / 2, 50 + side / 2, score)
    return Person(track, np.array(frames), np.array(frames) / 25, faces, np.ones(len(frames), np.bool_))


def test_choose() -> None:
    everybody = (
        person(1, range(100), 160, 40, 0.5),
        person(2, range(60), 100, 30, 0.9),
        person(3, range(50), 120, 20, 0.7),
        person(4, range(10), 100, 20, 1.0),
    )
    survey = Survey(tuple(range(100)), tuple(i / 25 for i in range(100)), ((100, 200),) * 100, 100, (), everybody)
    assert [choose(survey, rule).track for rule in ("largest", "central", "confident")] == [1, 2, 2]
    for rule in ("all", "oldest"):
        with pytest.raises(ValueError, match=f"select must be one of 'largest', 'central', 'confident', got '{rule}'"):
            choose(survey, rule)


def test_spread_clips_take_the_nearest_frame_with_the_person(tmp_path: Path) -> None:
    """Who turns away for a second or two costs no clip whose frames lie that far apart; less than half a clip does."""

    def at(index: int) -> Cast:
        away = 60 <= index < 100 or index >= 170  # a visitor takes the place
        return [("blue", 80, 80, 50) if away else ("red", 200, 80, 60)]

    film = Film(tmp_path, 240, at)
    plan = clip_frames(240, 8, 2, "spread")
    survey = survey_people(film.path, film, plan)
    assert film.who(survey) == ["red", "blue"]
    first, second = read_people(film.path, plan, survey, (1,), size=32, margin=2.0, sampling="spread")
    assert isinstance(first, Clip)
    assert {shirt(image) for image in first.frames} == {"red"}
    there = set(survey.people[0].frames.tolist())
    for number, planned in zip(first.indices, plan[0], strict=True):
        assert number == planned if planned in there else (number in there and abs(number - planned) <= 21)
    assert list(first.indices) == sorted(first.indices)
    assert set(first.indices) != set(plan[0])
    assert (second.reason, second.track) == ("short", 1)
    (alone,) = read_people(film.path, [[80]], survey_people(film.path, film, [[80]]), (1,), size=32, sampling="even")
    assert alone.reason == "gap"  # of single frames each is what it is


def test_tracks_that_nobody_has(tmp_path: Path) -> None:
    film = Film(tmp_path, 16, lambda i: [("red", 90, 70, 40)])
    for survey, known in ((film.survey(), "1"), (None, "1")):
        with pytest.raises(ValueError, match=rf"tracks must be among {known}, got \[2\]"):
            read_people(film.path, clip_frames(16, 8), survey, [2], size=8)


def test_survey_frames() -> None:
    plan = [[100, 101], [300, 301]]
    assert people.survey_frames(310, 25.0, plan) == sorted({*range(0, 310, 4), 100, 101, 300, 301})
    assert people.survey_frames(30000, 60.0, plan) == sorted({*range(0, 30000, 59), 100, 101, 300, 301})
    assert people.survey_frames(30000, 25.0, plan) == [100, 101, 300, 301]
    assert people.survey_frames(5, 0.5, [[0, 4]]) == [0, 4]


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
