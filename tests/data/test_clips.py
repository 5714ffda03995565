"""Clips as samples: whose, which frames, how they look."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dfmodels.data.clips import ClipSamples
from dfmodels.data.crops import CropSource, open_crops
from dfmodels.detector import InputContract
from dfmodels.video import VideoError
from tests.data.films import video, write_boxes, write_film, write_folder
from tests.data.test_crops import clips_of_scoring

CONTRACT = InputContract(num_frames=4, size=(16, 24), num_clips=3, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))
DDL = CONTRACT
STIL = replace(CONTRACT, sampling="spread", num_clips=2)
FRAMES = replace(CONTRACT, num_frames=1, sampling="even", num_clips=6)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("films")
    write_film(root / "film.mp4")
    write_folder(root / "a")
    write_folder(root / "b", 33)
    write_boxes(root / "boxes.json", 40)
    return root


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], float | None]]:
    """Which frames are read, with which margin."""
    from dfmodels.data.crops import FilmCrops

    asked: list[tuple[list[int], float | None]] = []
    before = FilmCrops.read

    def recording(self, numbers, margin=None):
        asked.append((list(numbers), margin))
        return before(self, numbers, margin)

    monkeypatch.setattr(FilmCrops, "read", recording)
    return asked


@pytest.mark.parametrize("contract", [DDL, STIL, FRAMES], ids=["ddl", "stil", "frames"])
@pytest.mark.parametrize("faces", ["boxes", "none"])
def test_samples_to_judge_are_the_clips_that_scoring_judges(root: Path, contract: InputContract, faces: str) -> None:
    faces = faces if faces == "none" else f"boxes:{root / 'boxes.json'}"
    films = [video(root / name, label) for label, name in enumerate(("film.mp4", "b"))]
    samples = ClipSamples(films, contract, CropSource(faces))
    scored = [(film, clip) for film in films for clip in clips_of_scoring(film.path, contract, faces)]
    assert len(samples) == len(scored) == 2 * contract.num_clips
    for i, (film, (_, frames)) in enumerate(scored):
        sample = samples[i]
        assert (sample["label"], sample["video"], sample["failed"], sample["counts"]) == (
            film.label,
            film.key,
            "",
            True,
        )
        assert sample["images"].dtype == torch.float32
        assert torch.equal(sample["images"], contract.normalize(torch.from_numpy(frames)))


def test_fewer_clips_than_the_contract_has(tmp_path: Path) -> None:
    samples = ClipSamples([video(write_folder(tmp_path / "short", 9))], DDL, CropSource("none"))
    assert [samples[i]["counts"] for i in range(3)] == [True, True, False]
    assert samples[2]["images"].shape == samples[0]["images"].shape
    assert samples[2]["failed"] == ""


def test_a_video_that_cannot_be_judged_counts_nothing(root: Path, tmp_path: Path) -> None:
    samples = ClipSamples([video(tmp_path / "gone", 1), video(root / "a")], DDL, CropSource("none"))
    batch = next(iter(DataLoader(samples, 6)))
    assert batch["counts"].tolist() == [False] * 3 + [True] * 3
    assert batch["label"].tolist() == [1, 1, 1, 0, 0, 0]
    assert all("gone" in reason for reason in batch["failed"][:3])
    assert batch["failed"][3:] == [""] * 3


def test_segments(root: Path, read: list) -> None:
    """STIL: a frame of each segment of the candidates, drawn anew every epoch."""
    samples = ClipSamples([video(root / "a")], STIL, CropSource("none"), draw="segments", frames_per_video=20)
    for epoch in range(30):
        samples.set_epoch(epoch)
        samples[0]
    drawn = np.array([numbers for numbers, _ in read])
    candidates = [j * 39 // 19 for j in range(20)]
    for i, column in enumerate(drawn.T):
        assert set(column) <= set(candidates[5 * i : 5 * i + 5])
        assert len(set(column)) > 2


def test_segments_are_of_frames_that_show_the_face(root: Path, tmp_path: Path, read: list) -> None:
    faces = write_boxes(tmp_path / "half.json", 40, hidden=tuple(range(20)))
    ClipSamples([video(root / "a")], STIL, CropSource(faces), draw="segments")[0]
    ((numbers, _),) = read
    assert numbers[0] >= 12
    assert len(set(numbers)) == 4


def test_consecutive(root: Path, read: list) -> None:
    """DDL: neighbouring frames; the clips of a video come from its parts in turn."""
    samples = ClipSamples([video(root / "a")], DDL, CropSource("none"), draw="consecutive", clips_per_video=2)
    assert len(samples) == 2
    wider = ClipSamples(
        [video(root / "a")], DDL, CropSource("none"), draw="consecutive", clips_per_video=2, frames_per_video=40
    )
    for epoch in range(20):
        for of_video in (samples, wider):
            of_video.set_epoch(epoch)
            of_video[0], of_video[1]
    drawn = [numbers for numbers, _ in read]
    assert all(numbers == list(range(numbers[0], numbers[0] + 4)) for numbers in drawn)
    few, many = ([d[0] // 4 for i, d in enumerate(drawn) if i // 2 % 2 == k] for k in range(2))
    assert set(few[::2]) == {1}
    assert set(few[1::2]) == {5, 8}
    assert set(many[::2]) == set(range(5))
    assert set(many[1::2]) == set(range(5, 10))


def test_bench(root: Path, read: list) -> None:
    """DeepfakeBench: four clips of the first 32 frames, beginning at random."""
    samples = ClipSamples([video(root / "a")], DDL, CropSource("none"), draw="bench", clips_per_video=4)
    for epoch in range(60):
        samples.set_epoch(epoch)
        for part in range(4):
            samples[part]
    drawn = np.array([numbers for numbers, _ in read]).reshape(60, 4, 4)
    assert (np.diff(drawn, axis=2) == 1).all()
    starts = [set(drawn[:, part, 0].tolist()) for part in range(4)]
    assert starts[:3] == [set(range(9)), set(range(9, 18)), set(range(18, 27))]
    assert starts[3] == {27, 28}


def test_frames_one_by_one(root: Path, read: list) -> None:
    """With as many samples a video as frames each is shown once an epoch; with fewer they are drawn."""
    every = ClipSamples([video(root / "a")], FRAMES, CropSource("none"), draw="frame", clips_per_video=6)
    for part in range(6):
        every[part]
    assert [numbers for numbers, _ in read] == [[0], [8], [16], [23], [31], [39]]
    read.clear()
    drawn = ClipSamples([video(root / "a")], FRAMES, CropSource("none"), draw="frame", frames_per_video=8)
    for epoch in range(60):
        drawn.set_epoch(epoch)
        drawn[0]
    assert {number for (number,), _ in read} == {0, 6, 11, 17, 22, 28, 33, 39}


def test_margin_is_drawn_for_every_clip(root: Path, read: list) -> None:
    faces = f"boxes:{root / 'boxes.json'}"
    samples = ClipSamples(
        [video(root / "a")], STIL, CropSource(faces), draw="segments", margins=(1.0, 1.5), clips_per_video=20
    )
    images = [samples[i]["images"] for i in range(20)]
    margins = [margin for _, margin in read]
    assert all(1 <= margin <= 1.5 for margin in margins)
    assert len(set(margins)) == 20
    assert max(margins) - min(margins) > 0.3
    numbers, margin = read[7]
    wanted = replace(STIL, margin=margin)
    frames = open_crops(video(root / "a"), wanted, plan=samples.plan, faces=faces).read(numbers)
    assert torch.equal(images[7], STIL.normalize(torch.from_numpy(frames)))


def test_transform_sees_uint8_crops_and_draws_by_the_seed(root: Path) -> None:
    seen = []

    def transform(clip: torch.Tensor) -> torch.Tensor:
        seen.append((clip.dtype, tuple(clip.shape), clip.is_contiguous()))
        return clip + torch.randint(9, ()).to(torch.uint8)

    def samples(seed: int) -> ClipSamples:
        return ClipSamples(
            [video(root / "a")], STIL, CropSource("none"), draw="segments", transform=transform, seed=seed
        )

    first, again, other = samples(0), samples(0), samples(1)
    before = torch.get_rng_state()
    assert torch.equal(first[0]["images"], again[0]["images"])
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first[0]["images"], other[0]["images"])
    again.set_epoch(1)
    assert not torch.equal(first[0]["images"], again[0]["images"])
    assert set(seen) == {(torch.uint8, (4, 3, 16, 24), True)}


def test_another_video_of_the_label_stands_in_for_one_that_cannot_be_read(root: Path, tmp_path: Path) -> None:
    films = [video(root / "a", 0), video(tmp_path / "gone", 1), video(tmp_path / "gone too", 1), video(root / "b", 1)]
    samples = ClipSamples(films, STIL, CropSource("none"), draw="segments", clips_per_video=2)
    shown = [samples[i] for i in range(8)]
    assert [sample["label"] for sample in shown] == [0, 0, 1, 1, 1, 1, 1, 1]
    assert [Path(sample["video"]).name for sample in shown] == ["a"] * 2 + ["b"] * 6
    assert [len(sample["failed"].splitlines()) for sample in shown] == [0, 0, 2, 2, 1, 1, 0, 0]
    assert shown[2]["failed"].startswith(str(tmp_path / "gone"))
    assert all(sample["counts"] for sample in shown)
    alone = ClipSamples(films[:3], STIL, CropSource("none"), draw="segments")
    alone[0]
    with pytest.raises(VideoError, match="none of the 2 videos of label 1 can be read"):
        alone[1]


def test_a_face_that_never_stays_for_a_clip_is_no_face(root: Path, tmp_path: Path) -> None:
    faces = write_boxes(tmp_path / "blinks.json", 40, hidden=tuple(i for i in range(40) if i % 20))
    for draw in ("consecutive", None):
        samples = ClipSamples([video(root / "a")], DDL, CropSource(faces), draw=draw)
        if draw is None:
            assert "stays in view through a clip" in samples[0]["failed"]
        else:
            with pytest.raises(VideoError, match="stays in view through a clip"):
                samples[0]


@pytest.mark.parametrize("draw", ["segments", None])
def test_workers_change_nothing(root: Path, draw: str | None) -> None:
    films = [video(root / name, label) for label, name in enumerate(("film.mp4", "b"))]
    samples = ClipSamples(films, STIL, CropSource(f"boxes:{root / 'boxes.json'}"), draw=draw, clips_per_video=2)
    alone = [samples[i]["images"] for i in range(4)]
    loaded = torch.cat([batch["images"] for batch in DataLoader(samples, 2, num_workers=2)])
    assert torch.equal(loaded, torch.stack(alone))


def test_arguments(root: Path) -> None:
    films = [video(root / "a")]
    with pytest.raises(ValueError, match="videos must hold at least one, got none"):
        ClipSamples([], DDL, CropSource("none"))
    with pytest.raises(ValueError, match="draw must be one of 'segments'"):
        ClipSamples(films, DDL, CropSource("none"), draw="segment")
    with pytest.raises(ValueError, match="draw must be 'consecutive' or 'bench' for a detector whose clips"):
        ClipSamples(films, DDL, CropSource("none"), draw="segments")
    with pytest.raises(ValueError, match="margins must be a finite number above 0, got 0"):
        ClipSamples(films, DDL, CropSource("none"), draw="bench", margins=(0, 1))
    with pytest.raises(ValueError, match="clips_per_video"):
        ClipSamples(films, DDL, CropSource("none"), draw="bench", clips_per_video=0)
    with pytest.raises(IndexError):
        ClipSamples(films, DDL, CropSource("none"))[3]
