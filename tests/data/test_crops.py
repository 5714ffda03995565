"""Face crops by frame number are those that scoring judges."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfmodels.data.crops import CropSource, open_crops
from dfmodels.data.plan import PLANS, FramePlan
from dfmodels.detector import InputContract
from dfmodels.video import NoFaceError, VideoError, clip_frames, eval_frames, read_clips, read_frames
from tests.data.films import face, video, write_boxes, write_film, write_folder
from tests.video.test_damage import plant
from tests.video.videos import cut, cv2, write_video

CONTRACT = InputContract(num_frames=5, size=(24, 32), num_clips=3)
# as the contracts of DDL, STIL, LSDA
CONTRACTS = {
    "consecutive": CONTRACT,
    "spread": replace(CONTRACT, sampling="spread", num_clips=2),
    "even": replace(CONTRACT, num_frames=1, sampling="even", num_clips=6),
    "aligned": replace(CONTRACT, num_frames=1, size=24, sampling="even", num_clips=6, crop="aligned"),
    "wide": replace(CONTRACT, margin=1.5),
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person as a film and as a folder of frames, with a boxes file that misses some frames."""
    root = tmp_path_factory.mktemp("films")
    write_film(root / "film.mp4")
    write_folder(root / "folder")
    write_boxes(root / "boxes.json", 40, hidden=(13, 14, 30))
    return root


def clips_of_scoring(path: Path, contract: InputContract, faces: str) -> list[tuple[tuple[int, ...], np.ndarray]]:
    clips = read_clips(
        path,
        num_frames=contract.num_frames,
        size=contract.size,
        faces=faces,
        num_clips=contract.num_clips,
        margin=contract.margin,
        sampling=contract.sampling,
        crop=contract.crop,
    )
    return [(clip.indices, clip.frames) for clip in clips]


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
@pytest.mark.parametrize("name", ["film.mp4", "folder"])
@pytest.mark.parametrize("found", [True, False], ids=["boxes", "none"])
def test_crops_are_those_of_scoring(films: Path, name: str, contract: InputContract, found: bool) -> None:
    faces = f"boxes:{films / 'boxes.json'}" if found else "none"
    crops = open_crops(video(films / name), contract, faces=faces)
    scored = clips_of_scoring(films / name, contract, faces)
    assert len(scored) > 1
    assert crops.clips == tuple(numbers for numbers, _ in scored)
    for numbers, frames in scored:
        assert np.array_equal(crops.read(numbers), frames)


def test_frames_that_do_not_show_the_face_are_not_offered(films: Path) -> None:
    plan = FramePlan("every", 1, 1)
    faces = write_boxes(films / "late.json", 40, hidden=(*range(20), 33, 34))
    crops = open_crops(video(films / "film.mp4"), CONTRACT, plan=plan, faces=faces)
    assert set(range(20, 33)) <= set(crops.numbers)
    assert not set(crops.numbers) & set(range(12))
    with pytest.raises(ValueError, match=r"numbers must be ascending frames that show the person.*got \[3\]"):
        crops.read([3])
    with pytest.raises(ValueError, match="numbers must be ascending"):
        crops.read([])


def test_margin_of_a_clip(films: Path) -> None:
    faces = f"boxes:{films / 'boxes.json'}"
    crops = open_crops(video(films / "folder"), CONTRACT, faces=faces)
    wide = open_crops(video(films / "folder"), replace(CONTRACT, margin=1.45), faces=faces)
    numbers = crops.clips[0]
    assert np.array_equal(crops.read(numbers, 1.45), wide.read(numbers))
    assert not np.array_equal(crops.read(numbers, 1.45), crops.read(numbers))
    with pytest.raises(ValueError, match="margin must be a finite number above 0, got 0"):
        crops.read(numbers, 0)


def test_a_film_is_searched_once_a_process(films: Path) -> None:
    class Counting:
        name, whole_frame, searched = "counting", False, 0

        def detect(self, frame, path):
            self.searched += 1
            return np.array([face(frame.index)[:5]])

    detector = Counting()
    source = CropSource(detector)
    first = source.open(video(films / "film.mp4"), CONTRACT)
    searched = detector.searched
    assert searched > 0
    assert source.open(video(films / "film.mp4"), CONTRACT).clips == first.clips
    assert detector.searched == searched
    source.open(video(films / "film.mp4"), replace(CONTRACT, num_clips=1))  # other frames
    assert detector.searched > searched


def test_source_can_be_sent_to_another_process(films: Path) -> None:
    source = CropSource("none")
    crops = source.open(video(films / "film.mp4"), CONTRACT)
    again = pickle.loads(pickle.dumps(source)).open(video(films / "film.mp4"), CONTRACT)
    assert np.array_equal(again.read(again.clips[0]), crops.read(crops.clips[0]))


def test_what_cannot_be_read_says_so(films: Path, tmp_path: Path) -> None:
    source = CropSource("none")
    with pytest.raises(VideoError, match="gone"):
        source.open(video(tmp_path / "gone"), CONTRACT)
    broken = cut(films / "film.mp4", 0.5)
    for _ in range(2):  # what is known of it is known of the next clip too
        with pytest.raises(VideoError, match="cut_film"):
            source.open(video(broken), CONTRACT)
    nobody = write_boxes(tmp_path / "nobody.json", 0)
    with pytest.raises(NoFaceError, match="finds no face"):
        open_crops(video(films / "film.mp4"), CONTRACT, faces=nobody)
    copied = write_folder(tmp_path / "copied", 6)
    crops = open_crops(video(copied), CONTRACT, plan=FramePlan("every", 1, 1), faces="none")
    (copied / "5.png").unlink()
    with pytest.raises(VideoError, match="frame 5 can no longer be read"):
        crops.read([4, 5])


def test_whole_frames_of_a_damaged_film(tmp_path: Path) -> None:
    """Frames that are damaged are not offered, as clips that hold them are not judged."""
    path = plant(write_film(tmp_path / "film.mp4", encoder={"g": "10", "bf": "0"}), 21, 40, 3)
    damaged = {frame.index for frame in read_frames(path) if frame.damaged}
    assert damaged
    crops = open_crops(video(path), CONTRACT, faces="none")
    scored = clips_of_scoring(path, CONTRACT, "none")
    assert not damaged & set(crops.numbers)
    assert crops.clips == tuple(numbers for numbers, _ in scored)
    assert len(scored) == 2


def test_plans() -> None:
    assert FramePlan.of(CONTRACT).clips(40) == clip_frames(40, 5, 3)
    assert FramePlan("candidates", 1, 150).clips(3) == [[0], [1], [2]]
    assert [number for (number,) in FramePlan("candidates", 1, 150).clips(300)][:3] == [0, 2, 4]
    assert len(FramePlan("candidates", 1, 150).clips(300)) == 150
    assert set(eval_frames(300, 16)) <= {number for (number,) in FramePlan("candidates", 1, 150).clips(300)}
    assert FramePlan("every", 1, 10).clips(25) == [[0], [10], [20]]
    assert FramePlan("windows", 3, 5).clips(40) == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert FramePlan("windows", 3, 5).clips(2) == [[0, 1, 1]]
    with pytest.raises(ValueError, match="sampling must be one of"):
        FramePlan("all")
    with pytest.raises(ValueError, match="count must be a whole number"):
        FramePlan("windows", 3)
    assert set(PLANS) >= {"consecutive", "spread", "even"}


def test_frames_of_several_sizes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", 6)
    small = cv2.resize(cv2.imread(str(folder / "2.png")), (50, 40))
    cv2.imwrite(str(folder / "2.png"), small)
    crops = open_crops(video(folder), CONTRACT, faces="none")
    (numbers, frames), *_ = clips_of_scoring(folder, CONTRACT, "none")
    assert np.array_equal(crops.read(numbers), frames)


def test_single_image_and_short_film(tmp_path: Path) -> None:
    path = write_video(tmp_path / "short.mp4", 2)
    crops = open_crops(video(path), CONTRACT, faces="none")
    assert crops.clips == ((0, 1, 1, 1, 1),)
    assert np.array_equal(crops.read(crops.clips[0]), clips_of_scoring(path, CONTRACT, "none")[0][1])


def test_aligned_crops_without_landmarks_are_said_once(films: Path, tmp_path: Path, caplog) -> None:
    boxes = {str(i): [face(i)[:5]] for i in range(40)}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    source = CropSource(f"boxes:{tmp_path / 'boxes.json'}")
    for name in ("film.mp4", "folder"):
        source.open(video(films / name), CONTRACTS["aligned"])
    (record,) = caplog.records
    assert "gives no landmarks of" in record.message
    assert "film.mp4" in record.message
    CropSource(write_boxes(tmp_path / "all.json", 40)).open(video(films / "folder"), CONTRACTS["aligned"])
    assert len(caplog.records) == 1
