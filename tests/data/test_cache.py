"""Prepared crops are those of the film, whatever margin and clip is asked for, and never half-written."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dfmodels.data.cache import CropCache, prepare_video
from dfmodels.data.clips import ClipSamples
from dfmodels.data.crops import CropSource, open_crops
from dfmodels.data.plan import FramePlan
from dfmodels.detector import InputContract
from dfmodels.video import NoFaceError, VideoError
from tests.data.films import video, write_boxes, write_film, write_folder
from tests.data.test_crops import CONTRACT, CONTRACTS, clips_of_scoring

WINDOWS = FramePlan("windows", 5, 20)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("films")
    write_film(root / "film.mp4")
    write_folder(root / "folder")
    write_boxes(root / "boxes.json", 40, hidden=(13, 14, 30))
    return root


def make_cache(folder: Path, faces: str, margin: float = 1.5) -> CropCache:
    return CropCache.open(folder, faces=faces, margin=margin)


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
@pytest.mark.parametrize("name", ["film.mp4", "folder"])
@pytest.mark.parametrize("found", [True, False], ids=["boxes", "none"])
def test_prepared_crops_are_those_of_scoring(
    films: Path, tmp_path: Path, name: str, contract: InputContract, found: bool
) -> None:
    faces = f"boxes:{films / 'boxes.json'}" if found else "none"
    cache = make_cache(tmp_path / "cache", faces)
    assert prepare_video(video(films / name), cache, contract, FramePlan.of(contract)) > 0
    crops = CropSource(cache=cache.folder).open(video(films / name), contract)
    assert type(crops).__name__ == "CachedCrops"
    direct = open_crops(video(films / name), contract, faces=faces)
    scored = clips_of_scoring(films / name, contract, faces)
    assert crops.clips == direct.clips == tuple(numbers for numbers, _ in scored)
    assert crops.numbers == direct.numbers
    for numbers, frames in scored:
        assert np.array_equal(crops.read(numbers), frames)
        for margin in (0.4, 1.0, 1.1234, 1.5):
            assert np.array_equal(crops.read(numbers, margin), direct.read(numbers, margin))


@pytest.mark.parametrize("crop", ["square", "aligned"])
def test_every_run_of_frames_of_a_plan(films: Path, tmp_path: Path, crop: str) -> None:
    """Boxes are smoothed over a run, so a frame is cut elsewhere in every run that holds it."""
    contract = replace(CONTRACT, size=24, crop=crop)
    faces = f"boxes:{films / 'boxes.json'}"
    cache = make_cache(tmp_path / "cache", faces)
    prepare_video(video(films / "film.mp4"), cache, contract, WINDOWS)
    crops = open_crops(video(films / "film.mp4"), contract, plan=WINDOWS, cache=cache.folder)
    direct = open_crops(video(films / "film.mp4"), contract, plan=WINDOWS, faces=faces)
    assert len(crops.clips) > 8
    for numbers in crops.clips:
        for margin in (1.0, 1.5):
            assert np.array_equal(crops.read(numbers, margin), direct.read(numbers, margin))


def test_only_what_was_prepared_is_given(films: Path, tmp_path: Path) -> None:
    faces = f"boxes:{films / 'boxes.json'}"
    cache = make_cache(tmp_path / "cache", faces, margin=1.4)
    prepare_video(video(films / "folder"), cache, CONTRACT, WINDOWS)
    crops = open_crops(video(films / "folder"), CONTRACT, plan=WINDOWS, cache=cache.folder)
    with pytest.raises(ValueError, match=r"margin must be at most 1.4, for which .* was prepared, got 1.5"):
        crops.read(crops.clips[0], 1.5)
    with pytest.raises(ValueError, match="numbers must be ascending frames that show the person"):
        crops.read([39])


def test_frames_of_several_sizes(tmp_path: Path) -> None:
    import cv2

    folder = write_folder(tmp_path / "folder", 6)
    cv2.imwrite(str(folder / "2.png"), cv2.resize(cv2.imread(str(folder / "2.png")), (50, 40)))
    cache = make_cache(tmp_path / "cache", "none")
    prepare_video(video(folder), cache, CONTRACT, FramePlan.of(CONTRACT))
    crops = open_crops(video(folder), CONTRACT, cache=cache.folder)
    assert np.array_equal(crops.read(crops.clips[0]), clips_of_scoring(folder, CONTRACT, "none")[0][1])


def test_prepared_again_only_where_the_source_changed(tmp_path: Path) -> None:
    path, folder = write_film(tmp_path / "film.mp4", 12), write_folder(tmp_path / "folder", 12)
    cache = make_cache(tmp_path / "cache", "none")
    plan = FramePlan.of(CONTRACT)
    for source in (path, folder):
        assert prepare_video(video(source), cache, CONTRACT, plan) > 0
        assert prepare_video(video(source), cache, CONTRACT, plan) == 0
    before = open_crops(video(path), CONTRACT, cache=cache.folder).read([0, 1, 2, 3, 4])
    write_film(path, 13)
    (folder / "11.png").write_bytes((folder / "3.png").read_bytes())
    for source in (path, folder):
        assert cache.find(video(source), CONTRACT, plan) is None
        assert prepare_video(video(source), cache, CONTRACT, plan) > 0
        assert prepare_video(video(source), cache, CONTRACT, plan) == 0
    shutil.rmtree(folder)
    path.unlink()
    for source in (path, folder):  # which a training on prepared crops does not need
        assert prepare_video(video(source), cache, CONTRACT, plan) == 0
        assert open_crops(video(source), CONTRACT, cache=cache.folder).read([0, 1, 2, 3, 4]).shape == before.shape
    with pytest.raises(VideoError, match=r"film\.mp4"):
        prepare_video(video(path), cache, CONTRACT, WINDOWS)


def test_what_is_not_prepared_is_decoded_with_one_warning(
    films: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make_cache(tmp_path / "cache", "none")
    source = CropSource(cache=cache.folder)
    for name in ("film.mp4", "folder"):
        crops = source.open(video(films / name), CONTRACT)
        assert np.array_equal(crops.read(crops.clips[0]), clips_of_scoring(films / name, CONTRACT, "none")[0][1])
    assert [record.message.split(" is not prepared in ")[0] for record in caplog.records] == [str(films / "film.mp4")]


def test_what_could_not_be_prepared_is_not_tried_again(films: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "cache", "none")
    cache.note_failed({video(films / "film.mp4").key: 'film.mp4: no face, "nowhere"\nat all'})
    with pytest.raises(VideoError, match='no face, "nowhere"\nat all'):
        open_crops(video(films / "film.mp4"), CONTRACT, cache=cache.folder)


def test_training_on_prepared_crops_equals_training_on_films(films: Path, tmp_path: Path) -> None:
    contract = replace(CONTRACT, sampling="spread", num_clips=2)
    faces = f"boxes:{films / 'boxes.json'}"
    cache = make_cache(tmp_path / "cache", faces)
    videos = [video(films / "film.mp4"), video(films / "folder", 1)]

    def samples(source: CropSource, draw: str | None) -> ClipSamples:
        margins = None if draw is None else (1.0, 1.5)
        return ClipSamples(videos, contract, source, draw=draw, margins=margins, clips_per_video=3)

    for draw in ("segments", None):
        direct = samples(CropSource(faces), draw)
        for each in videos:
            prepare_video(each, cache, contract, direct.plan)
        prepared = samples(CropSource(cache=cache.folder), draw)
        for i in range(len(direct)):
            assert torch.equal(direct[i]["images"], prepared[i]["images"])


def test_cache_says_how_it_was_made(films: Path, tmp_path: Path) -> None:
    boxes = films / "boxes.json"
    faces = f"boxes:{boxes}"
    cache = make_cache(tmp_path / "cache", faces)
    assert CropCache.open(cache.folder) == CropCache.open(cache.folder, faces=faces, margin=1.2) == cache
    moved = tmp_path / "moved.json"
    shutil.copy(boxes, moved)
    assert CropSource(f"boxes:{moved}", cache=cache.folder).cache == cache  # the same boxes elsewhere
    moved.write_text("{}")
    for made in (
        lambda: CropSource(f"boxes:{moved}", cache=cache.folder),
        lambda: CropSource("none", cache=cache.folder),
        lambda: CropCache.open(cache.folder, faces="none"),
    ):
        with pytest.raises(ValueError, match=r"was prepared with faces 'boxes:.*', this run has"):
            made()
    with pytest.raises(ValueError, match="was prepared with select 'largest', this run has 'central'"):
        CropSource(select="central", cache=cache.folder)
    with pytest.raises(ValueError, match=r"was prepared for margins up to 1.5, this run has 1.6"):
        CropCache.open(cache.folder, margin=1.6)
    with pytest.raises(ValueError, match=r"holds no prepared crops .* `dfmodels prepare --cache"):
        CropSource(cache=tmp_path / "nothing")
    settings = json.loads((cache.folder / "cache.json").read_text())
    (cache.folder / "cache.json").write_text(json.dumps({**settings, "version": 99}))
    with pytest.raises(ValueError, match=r"cache.json is of version 99, this library reads 1"):
        CropSource(cache=cache.folder)
    (cache.folder / "cache.json").write_text("{")
    with pytest.raises(ValueError, match=r"cache.json cannot be read"):
        CropSource(cache=cache.folder)
    for margin in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="margin must be a finite number above 0, got"):
            make_cache(tmp_path / "other", faces, margin=margin)
        with pytest.raises(ValueError, match="margin must be a finite number above 0, got"):
            make_cache(cache.folder, faces, margin=margin)
    assert not (tmp_path / "other").exists()


def test_crops_of_which_nothing_says_how_they_were_made(films: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "cache", "none")
    assert prepare_video(video(films / "film.mp4"), cache, CONTRACT, WINDOWS) > 0
    (cache.folder / "cache.json").unlink()
    with pytest.raises(ValueError, match=r"holds crops, but no cache.json that says how they were made"):
        make_cache(cache.folder, f"boxes:{films / 'boxes.json'}")


def test_no_face_and_nothing_written(films: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "cache", write_boxes(tmp_path / "nobody.json", 0))
    with pytest.raises(NoFaceError):
        prepare_video(video(films / "film.mp4"), cache, CONTRACT, WINDOWS)
    assert sorted(os.listdir(cache.folder)) == ["cache.json"]


def test_a_file_cut_short_is_no_prepared_one(films: Path, tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "cache", "none")
    prepare_video(video(films / "film.mp4"), cache, CONTRACT, WINDOWS)
    (file,) = cache.folder.glob("*/*.safetensors")
    whole = file.read_bytes()
    for size in (0, 5, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        assert cache.find(video(films / "film.mp4"), CONTRACT, WINDOWS) is None
    prepare_video(video(films / "film.mp4"), cache, CONTRACT, WINDOWS)
    assert file.read_bytes() == whole


def test_face_at_the_edge(tmp_path: Path) -> None:
    """Crops reach over the edge of the picture; aligned ones are black there."""
    folder = write_folder(tmp_path / "folder", 6)
    points = [[3, 4], [14, 1], [9, 9], [5, 15], [14, 13]]
    for shift in ((-8, -6), (150, 110), (160, 130)):
        flat = (np.array(points) + shift).ravel().tolist()
        box = [shift[0] - 4, shift[1] - 5, shift[0] + 20, shift[1] + 24, 0.9]
        boxes = tmp_path / f"{shift[0]}.json"
        boxes.write_text(json.dumps({str(i): [[*box, *flat]] for i in range(6)}))
        for crop in ("square", "aligned"):
            contract = replace(CONTRACT, size=20, crop=crop, sampling="even")
            cache = make_cache(tmp_path / f"cache{shift[0]}{crop}", f"boxes:{boxes}")
            prepare_video(video(folder), cache, contract, FramePlan.of(contract))
            crops = open_crops(video(folder), contract, cache=cache.folder)
            direct = open_crops(video(folder), contract, faces=f"boxes:{boxes}")
            for margin in (0.7, 1.5):
                assert np.array_equal(crops.read(crops.clips[0], margin), direct.read(crops.clips[0], margin))
