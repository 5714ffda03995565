"""Damaged files by the thousand: a file of weights or a video is read, or refused by the one error made for that."""

import random
import resource
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import dfmodels
from dfmodels import weights
from tests.models.test_detectors import small

CHECKPOINTS, VIDEOS = 800, 400  # of each form; together within a minute on one core
MEMORY = 1 << 30  # bytes that they may take at once
OPTIONS = {"encoder": "plain", "channels": (4, 4), "width": 8, "size": 16}


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Flip bits and bytes, cut, leave out, repeat or exchange stretches; mostly near the ends, where headers are."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        if not data:
            break
        reach = draw.choice((len(data), len(data), 256, 2048))
        at = draw.randrange(min(reach, len(data)))
        at = at if draw.random() < 0.7 else len(data) - 1 - at
        kind = draw.choice(("flip", "byte", "number", "cut", "leave out", "repeat", "exchange"))
        length = draw.choice((1, 2, 4, 8, 64, 1024))
        if kind == "flip":
            data[at] ^= 1 << draw.randrange(8)
        elif kind == "byte":
            data[at] = draw.randrange(256)
        elif kind == "number":  # sizes that files do not have
            huge = draw.choice((0, 0x7FFFFFFF, 0xFFFFFFFF, 0x40000000))
            data[at : at + 4] = struct.pack(draw.choice("<>") + "I", huge)
        elif kind == "cut":
            del data[at:]
        elif kind == "leave out":
            del data[at : at + length]
        elif kind == "repeat":
            data[at:at] = data[at : at + length]
        else:
            other = draw.randrange(len(data))
            data[at : at + length], data[other : other + length] = (
                data[other : other + length],
                data[at : at + length],
            )
    return bytes(data)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def outcomes(write, read, error, count, seed):
    """How many of `count` mutations were read; everything but `error` is the test's failure."""
    before, good = peak(), 0
    for number in range(count):
        path = write(random.Random(f"{seed} {number}"))
        try:
            read(path)
            good += 1
        except BaseException as caught:
            if not isinstance(caught, error) or str(path) not in str(caught):
                raise AssertionError(f"mutation {number} of {seed}: {type(caught).__name__}: {caught}") from caught
    assert peak() - before < MEMORY
    return good


class Beside:
    """What weights_only does not know, so that the unpickler of stand-ins has its turn."""


@pytest.fixture(scope="module")
def model():
    model = small("lsda", **OPTIONS)
    model.trained = True
    return model


def written(model, form, path: Path) -> bytes:
    ours = model.state_dict()
    state = {key: ours[name][index].clone() for key, (name, index) in model.published_layout().items()}
    if form == "safetensors":
        dfmodels.save(model, path)
    elif form == "older":
        torch.save({"state_dict": state, "beside": Beside()}, path, _use_new_zipfile_serialization=False)
    else:
        torch.save({"state_dict": state, "epoch": 3} | ({"beside": Beside()} if "beside" in form else {}), path)
    return path.read_bytes()


def within(source: Path, target: Path, draw: random.Random) -> None:
    """A checkpoint whose archive is sound and whose pickle is not: no checksum sees that."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, mutated(content, draw) if info.filename.endswith("data.pkl") else content)


@pytest.mark.parametrize("form", ["safetensors", "zip", "zip beside", "older", "pickle", "pickle beside"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_checkpoints(form, model, tmp_path):
    path = tmp_path / ("file.safetensors" if form == "safetensors" else "file.pth")
    source = path.with_stem("source")
    content = written(model, form, source)

    def write(draw):
        if form.startswith("pickle"):
            within(source, path, draw)
        else:
            path.write_bytes(mutated(content, draw))
        return path

    def read(path):
        if form == "safetensors":
            dfmodels.load(path)
        else:
            dfmodels.build("lsda", weights=path, **OPTIONS)

    read(source)
    good = outcomes(write, read, weights.WeightsError, CHECKPOINTS, form)
    assert good < CHECKPOINTS  # some damage is seen


@pytest.mark.parametrize("form", ["mp4", "avi", "mkv"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_videos(form, tmp_path):
    pytest.importorskip("av")
    from dfmodels.video import VideoError, read_clips
    from tests.video.videos import noise, write_video

    content = write_video(tmp_path / f"source.{form}", frames=6, picture=noise).read_bytes()
    path = tmp_path / f"file.{form}"

    def write(draw):
        path.write_bytes(mutated(content, draw))
        return path

    def read(path):
        clips = list(read_clips(path, num_frames=2, size=16, faces="none", num_clips=2))
        assert clips
        for clip in clips:
            assert clip.frames.dtype == np.uint8
            assert clip.frames.shape == (2, 16, 16, 3)

    read(tmp_path / f"source.{form}")
    assert outcomes(write, read, VideoError, VIDEOS, form) > 0
