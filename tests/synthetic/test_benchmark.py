"""The generated proving ground: its files, and what its forgeries do to a film."""

import hashlib
import json

import numpy as np
import pytest
from scipy.stats import ks_2samp

pytest.importorskip("cv2")
av = pytest.importorskip("av")

from dfmodels.synthetic import benchmark as module  # noqa: E402
from dfmodels.synthetic import write_benchmark  # noqa: E402
from dfmodels.synthetic.benchmark import FORGERIES  # noqa: E402
from dfmodels.synthetic.talking_heads import Motion  # noqa: E402
from dfmodels.video.encode import write_video  # noqa: E402

SMALL = {"pairs": (1, 0, 1), "frames": 8, "size": 64, "seed": 5}


def read(path):
    """Frames (T, H, W, 3), RGB, of a film."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ground")
    write_benchmark(folder, **SMALL, workers=1)
    return folder


def test_files_lie_as_in_faceforensics(ground):
    expected = {f"splits/{split}.json" for split in ("train", "val", "test")}
    for compression in ("c23", "c40"):
        expected |= {f"original_sequences/youtube/{compression}/videos/{n:03d}.mp4" for n in range(4)}
        for method in FORGERIES:
            folder = f"manipulated_sequences/{method}/{compression}/videos"
            expected |= {f"{folder}/{pair}.mp4" for pair in ("000_001", "001_000", "002_003", "003_002")}
    assert set(digests(ground)) == expected
    splits = {path.stem: json.loads(path.read_text()) for path in (ground / "splits").iterdir()}
    assert splits == {"train": [["000", "001"]], "val": [], "test": [["002", "003"]]}


def test_films_are_alike_but_for_their_pictures(ground):
    for path in ground.rglob("*.mp4"):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.average_rate, stream.frames) == ("h264", 25, 8)
            assert (stream.width, stream.height) == (64, 64)
    for path in ground.rglob("c23/videos/*.mp4"):
        harder = path.parents[2] / "c40" / "videos" / path.name
        assert harder.stat().st_size < path.stat().st_size


def test_arguments_decide_every_byte_and_workers_none(ground, tmp_path):
    write_benchmark(tmp_path / "again", **SMALL, workers=2)
    assert digests(tmp_path / "again") == digests(ground)
    write_benchmark(tmp_path / "other", **SMALL | {"seed": 6, "frames": 1, "pairs": (1, 0, 0)}, workers=1)
    film = "original_sequences/youtube/c23/videos/000.mp4"
    assert np.abs(read(tmp_path / "other" / film)[0].astype(float) - read(ground / film)[0]).mean() > 4


def test_the_same_frames_make_the_same_bytes(tmp_path):
    # long films, one after the other, by turns: there x264's code for one CPU rounds differently from run to run
    films = module._films(*(module._Recording.of(person, 60, 96, 5) for person in range(2)), 60)
    written = {name: set() for name in films}
    for _ in range(4):
        for name, film in films.items():
            write_video(tmp_path / "film.mp4", film)
            written[name].add((tmp_path / "film.mp4").read_bytes())
    assert {name: len(files) for name, files in written.items()} == dict.fromkeys(films, 1)


@pytest.fixture(scope="module")
def films():
    """Frames of every film of six people before compression: a list of dictionaries."""
    people = [module._Recording.of(person, 30, 64, 5) for person in range(6)]
    groups = []
    for first, second in zip(people[::2], people[1::2], strict=True):
        groups += [module._films(first, second, 30), module._films(second, first, 30)]
    return [{method: film.astype(np.float64) for method, film in group.items()} for group in groups]


def shaking(film):
    """Mean absolute second difference along time of the middle of the face."""
    return np.abs(np.diff(film[:, 20:50, 22:42], 2, axis=0)).mean()


def test_forgeries_change_the_face_and_nothing_else(films):
    border = np.ones((64, 64), dtype=bool)
    border[3:, 8:57] = False
    for group in films:
        for method in FORGERIES:
            difference = np.abs(group[method] - group["real"]).max(-1)
            assert difference[:, border].max() == 0, method
            assert difference[:, ~border].mean() > 0.05, method


def test_only_the_synthesis_is_unsteady(films):
    for group in films:
        real, *forged = (shaking(group[method]) for method in ("real", *FORGERIES))
        assert forged[2] > 1.1 * real
        assert max(forged[0], forged[1], forged[3]) < 1.1 * forged[2]
        np.testing.assert_array_equal(group["FramewiseSynthesis"][0], group["real"][0])


def motions(pairs, frames, seed=0):
    """Motions of both recordings of pairs, without pictures."""
    rng = np.random.default_rng(seed)
    loose = Motion.draw(rng, frames, module._CONFIG)
    for turns in range(pairs):
        clocks = [module._clock(np.random.default_rng(turns), frames, turn) for turn in (0, 1)]
        yield [module._motion(rng, clock, loose) for clock in clocks]


def moved(part):
    return np.abs(np.diff(part))


def test_one_person_rests_while_the_other_moves():
    for turns in range(20):
        first, second = (module._clock(np.random.default_rng(turns), 60, turn) for turn in (0, 1))
        np.testing.assert_allclose(np.diff(first) + np.diff(second), 1 / module.FPS)
        both = (np.diff(first) > 0) & (np.diff(second) > 0)  # a burst may begin within a frame
        assert both.sum() <= 60 / (module.FPS * module.BURST[0]) + 1
        assert 10 < (np.diff(first) > 0).sum() < 50


def test_parts_of_a_film_move_together_and_borrowed_ones_do_not():
    """Lips are borrowed by the head that nods, gaze by the head that turns."""
    together, apart = [], []
    for first, second in motions(60, 60):
        for own, other in ((first, second), (second, first)):
            for part, of in (("mouth", "pitch"), ("gaze_x", "yaw")):
                speed = moved(getattr(own, of))
                for found, whose in ((together, own), (apart, other)):
                    changes = moved(getattr(whose, part))
                    if changes.any():  # a mouth may be shut, or wide open, all the time
                        found.append(np.corrcoef(speed, changes)[0, 1])
    assert min(len(together), len(apart)) > 220
    assert np.median(together) > 0.8
    assert np.median(apart) < -0.3  # they take turns
    assert np.mean(np.asarray(together) > 0.3) > 0.95
    assert np.mean(np.asarray(apart) < 0.3) > 0.99


@pytest.mark.parametrize("frame", [0, 20])
def test_one_frame_of_a_borrowed_motion_is_as_one_of_a_real_film(frame):
    """At any one time what is borrowed is independent of the rest, in real films as in forgeries, with one law."""
    names = ("mouth", "smile", "gaze_x", "gaze_y", "blink", "jaw", "brows", "x", "y", "zoom", "roll", "yaw", "pitch")
    rng = np.random.default_rng(1)
    real, fake = [], []
    for first, second in motions(1200, frame + 1):
        for own, other in ((first, second), (second, first)):
            real.append([getattr(own, name)[frame] for name in names])
            fake.append([getattr(module._borrowed(own, other, rng), name)[frame] for name in names])
    real, fake = np.asarray(real), np.asarray(fake)
    for one, another in zip(real.T, fake.T, strict=True):
        assert ks_2samp(one, another).pvalue > 1e-3
    rest = [names.index(name) for name in names if name not in module.LIPS + module.GAZE]
    limit = 4 / np.sqrt(len(real))
    for part in ("mouth", "smile", "gaze_x", "gaze_y", "blink"):
        column = names.index(part)
        for power in (1, 2):  # squares: parts that are far from their middles at the same time would tell as well
            for group in (real, fake):
                centred = (group - group.mean(0)) ** power
                found = np.corrcoef(centred.T)[column, rest]
                assert np.abs(found).max() < limit, (part, power)


def test_borrowed_parts_are_those_of_the_other_recording():
    own, other = next(motions(1, 10))
    seen = set()
    for seed in range(8):
        borrowed = module._borrowed(own, other, np.random.default_rng(seed))
        changed = {name for name in vars(own) if not np.array_equal(getattr(own, name), getattr(borrowed, name))}
        assert changed in (set(module.LIPS), set(module.GAZE))
        seen.add(frozenset(changed))
        for name in changed:
            np.testing.assert_array_equal(getattr(borrowed, name), getattr(other, name))
    assert len(seen) == 2


def test_a_folder_that_holds_something_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    for folder in (tmp_path, tmp_path / "note.txt"):
        with pytest.raises(ValueError, match="folder must be new or empty"):
            write_benchmark(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_what_is_half_written_is_not_there(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(module, "write_video", fail)
    with pytest.raises(OSError, match="No space left"):
        write_benchmark(tmp_path / "new", **SMALL, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_progress(tmp_path):
    calls = []
    options = SMALL | {"frames": 1, "size": 16}
    write_benchmark(tmp_path / "new", **options, workers=1, progress=lambda *done: calls.append(done))
    assert calls == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": (1, 1)}, "pairs must be three counts"),
        ({"pairs": (0, 0, 0)}, "pairs must be three counts"),
        ({"pairs": (1, -1, 1)}, "pairs must be three counts"),
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"size": 8}, "size must be at least 16, got 8"),
        ({"size": 65}, "size must be even.*got 65"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
    ],
)
def test_argument_errors(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_benchmark(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()
