"""`dfmodels score` as a person meets it: good videos, every kind of bad one, and wrong arguments."""

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import dfmodels
from dfmodels import progress, registry
from dfmodels.cli import main
from dfmodels.cli import score as cli_score
from dfmodels.video import clip_frames
from tests.cli.test_convert import STIL, write_backbone, write_bench
from tests.models.frame_level import FrameLevel
from tests.models.test_detectors import small
from tests.video.videos import corners, cut, noise, ramp, turn, write_image, write_sound, write_video


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small detector with weights that count as trained."""
    model = small("ddl")
    model.trained = True
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    dfmodels.save(model, path)
    return str(path)


def score(capsys, *arguments):
    status = main(["score", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_every_kind_of_file_gets_a_row(capsys, weights, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(9):
        write_image(folder / f"frame{i}.png", noise(i))
    empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
    empty.write_bytes(b"")
    text.write_text("this is no video\n" * 50)
    good = {
        "normal": write_video(tmp_path / "normal.mp4", 20, noise),
        "rotated": turn(write_video(tmp_path / "phone.mp4", 12, corners), 0, 1, -1, 0),
        "variable": write_video(tmp_path / "variable.mp4", 10, noise, pts=[0, 1, 2, 5, 6, 9, 14, 15, 16, 30]),
        "two frames": write_video(tmp_path / "two.mp4", 2, noise),
        "folder": folder,
        "name": write_video(tmp_path / "тест видео 50% é.mp4", 8, noise),
    }
    bad = {
        "is empty": empty,
        "not a video": text,
        "cut": cut(write_video(tmp_path / "whole.mp4", 30, noise), 0.6),
        "no video": write_sound(tmp_path / "sound.m4a"),
        "does not exist": tmp_path / "nowhere.mp4",
    }
    videos = [*good.values(), *bad.values()]
    status, out, err = score(capsys, *videos, "--weights", weights, "--faces", "none", "--format", "json")
    rows = json.loads(out)
    assert status == 1
    assert [row["video"] for row in rows] == [str(v) for v in videos]
    for row in rows[: len(good)]:
        assert row["error"] is None, row
        assert 0 <= row["fake_probability"] <= 1
        assert row["fake_probability"] == pytest.approx(np.mean([clip["fake_probability"] for clip in row["clips"]]))
        assert row["verdict"] in ("real", "fake")
    for row in rows[len(good) :]:
        assert row["fake_probability"] is None
        assert row["verdict"] == "failed"
        assert os.path.basename(row["video"]) in row["error"]
    assert len(rows[0]["clips"]) == 2
    assert rows[0]["clips"][1]["start"] == pytest.approx(8 / 25)
    assert rows[2]["clips"][0]["end"] == pytest.approx(15 / 25)  # the eighth frame by its own time
    assert err == ""


def test_a_video_without_faces_says_so(capsys, weights, tmp_path):
    video = write_video(tmp_path / "grey.mp4", 9, ramp((64, 64)))
    status, out, _ = score(capsys, video, "--weights", weights, "--faces", "haar")
    assert status == 1
    assert "failed" in out
    assert "haar finds no face" in out


def test_all_good_is_status_zero_and_a_table(capsys, weights, tmp_path):
    video = write_video(tmp_path / "video.mp4", 9, noise)
    status, out, err = score(capsys, video, "--weights", weights, "--faces", "none")
    assert status == 0
    assert out.splitlines()[0].split()[:4] == ["video", "verdict", "fake", "probability"]
    assert str(video) in out
    assert err == ""


def test_csv(capsys, weights, tmp_path):
    videos = [write_video(tmp_path / "a, b.mp4", 17, noise), tmp_path / "none.mp4"]
    status, out, _ = score(capsys, *videos, "--weights", weights, "--faces", "none", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 1
    assert rows[0]["video"] == str(videos[0])
    assert len(rows[0]["clip_probabilities"].split()) == 2
    assert float(rows[0]["fake_probability"]) == pytest.approx(
        np.mean([float(p) for p in rows[0]["clip_probabilities"].split()])
    )
    assert rows[1]["fake_probability"] == ""
    assert "no such file" in rows[1]["error"]


def test_batches_do_not_change_the_scores(capsys, weights, tmp_path):
    video = write_video(tmp_path / "video.mp4", 40, noise)
    results = []
    for batch in (1, 3):
        _, out, _ = score(
            capsys,
            video,
            "--weights",
            weights,
            "--faces",
            "none",
            "--format",
            "json",
            "--batch",
            batch,
            "--clips",
            "all",
        )
        results.append([clip["fake_probability"] for clip in json.loads(out)[0]["clips"]])
    assert len(results[0]) == 5
    assert results[0] == pytest.approx(results[1], abs=1e-5)


def json_rows(capsys, *arguments):
    status, out, _ = score(capsys, *arguments, "--faces", "none", "--format", "json")
    assert status == 0
    return json.loads(out)


def test_clips_and_average(capsys, weights, tmp_path, monkeypatch):
    video = write_video(tmp_path / "video.mp4", 80, noise)
    given = ["--weights", weights]
    (long,) = json_rows(capsys, video, *given)
    assert len(long["clips"]) == 8  # what the contract of ddl says

    def fake_logits(*shown):
        """A detector whose clips have these fake logits in turn, with the contract of a protocol like STIL's."""
        model = small("ddl")
        model.trained = True
        model.contract = replace(model.contract, sampling="spread", num_clips=2, average="logits")
        turns = iter(shown)
        monkeypatch.setattr(model, "forward", lambda clip: torch.tensor([[0.0, next(turns)]]))
        monkeypatch.setattr("dfmodels.cli.score.load_model", lambda *arguments: model)

    fake_logits(4.0, -1.0)
    (row,) = json_rows(capsys, video, *given)
    assert [clip["fake_probability"] for clip in row["clips"]] == pytest.approx([0.98201379, 0.26894142])
    assert row["fake_probability"] == pytest.approx(0.81757448)  # the sigmoid of 1.5
    first, second = clip_frames(80, 8, 2, "spread")
    assert [clip["start"] for clip in row["clips"]] == [first[0] / 25, second[0] / 25]
    assert [clip["end"] for clip in row["clips"]] == [first[-1] / 25, second[-1] / 25]

    fake_logits(4.0, -1.0)
    (row,) = json_rows(capsys, video, *given, "--average", "probabilities")
    assert row["fake_probability"] == pytest.approx((0.98201379 + 0.26894142) / 2)
    fake_logits(*range(10))
    assert len(json_rows(capsys, video, *given, "--clips", "all")[0]["clips"]) == 10
    fake_logits(*range(5))
    assert json_rows(capsys, video, *given, "--clips", "5")[0]["fake_probability"] == pytest.approx(
        1 / (1 + np.exp(-2))
    )


def catch_bars(monkeypatch):
    """The progress bars that will be drawn."""
    bars = []

    class Bar(progress.tqdm):
        def __init__(self, **options):
            super().__init__(**{**options, "file": io.StringIO(), "disable": False})
            bars.append(self)

    monkeypatch.setattr(progress, "tqdm", Bar)
    return bars


@pytest.mark.parametrize("sampling", ["consecutive", "spread", "even"])
@pytest.mark.parametrize("clips", [[], ["--clips", "3"], ["--clips", "all"]])
@pytest.mark.parametrize("frames", [3, 50])
def test_the_progress_bar_ends_full(weights, tmp_path, monkeypatch, sampling, clips, frames):
    bars = catch_bars(monkeypatch)
    model = dfmodels.load(weights)
    model.contract = replace(model.contract, sampling=sampling)
    monkeypatch.setattr(cli_score, "load_model", lambda *arguments: model)
    video = write_video(tmp_path / "video.mp4", frames, noise)
    assert main(["score", str(video), "--weights", weights, "--faces", "none", *clips]) == 0
    assert [(bar.n, bar.total) for bar in bars] == [(bars[0].total, bars[0].n)]


@pytest.fixture
def frame_weights(tmp_path, monkeypatch):
    """Weights of a detector of single frames, registered for the test."""
    monkeypatch.setitem(registry._BUILDERS, "frame_level", FrameLevel)
    dfmodels.save(FrameLevel(), tmp_path / "frames.safetensors")
    return str(tmp_path / "frames.safetensors")


def test_a_detector_of_single_frames_speaks_of_frames(capsys, frame_weights, tmp_path):
    video, short = write_video(tmp_path / "video.mp4", 50), write_video(tmp_path / "short.mp4", 3)
    given = [video, short, tmp_path / "none.mp4", "--weights", frame_weights, "--faces", "none"]
    _, out, _ = score(capsys, *given)
    header, *lines = out.splitlines()[:4]
    assert "  frames  highest frame (time) " in header
    assert "clip" not in out
    assert len({len(line) for line in (header, *lines)}) == 1
    end = header.index("  highest")
    assert [line[:end].split()[-1] for line in lines] == ["32", "3", "-"]
    assert "(0.96 s)" in lines[0]  # frame 24, the brightest, is one of the 32
    assert "(0.08 s)" in lines[1]
    for clips, count in ([], 32), (["--clips", "7"], 7), (["--clips", "all"], 50):
        rows = json_rows(capsys, *given[:2], *given[3:], *clips)
        assert [len(row["clips"]) for row in rows] == [count, 3]
        times = [index / 25 for (index,) in clip_frames(50, 1, count, "even")]
        assert [clip["start"] for clip in rows[0]["clips"]] == pytest.approx(times)
        assert [clip["end"] for clip in rows[0]["clips"]] == pytest.approx(times)


def test_pictures_and_bar_of_a_detector_of_single_frames(capsys, frame_weights, tmp_path, monkeypatch):
    bars = catch_bars(monkeypatch)
    video = write_video(tmp_path / "video.mp4", 40)
    given = [video, "--weights", frame_weights, "--faces", "none", "--plot", tmp_path / "plots"]
    assert score(capsys, *given)[0] == 0
    assert [(bar.n, bar.total) for bar in bars] == [(40, 40)]
    assert (tmp_path / "plots" / "video.mp4.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_average(capsys, weights):
    with pytest.raises(SystemExit) as stopped:
        score(capsys, "video.mp4", "--weights", weights, "--average", "votes")
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "--average" in error
    assert all(word in error for word in ("votes", "probabilities", "logits"))


def test_plots(capsys, weights, tmp_path):
    videos = [
        write_video(tmp_path / name / "$video.mp4", 17, noise)
        for name in ("a", "b")
        if (tmp_path / name).mkdir() is None
    ]
    out = tmp_path / "plots" / "new"
    status, _, _ = score(capsys, *videos, tmp_path / "none.mp4", "--weights", weights, "--faces", "none", "--plot", out)
    assert status == 1
    pictures = sorted(path.name for path in out.iterdir())
    assert pictures == ["$video.mp4-2.png", "$video.mp4.png"]  # one each, the unreadable video has none
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_no_verdict_without_weights(capsys, tmp_path):
    video = write_video(tmp_path / "video.mp4", 9, noise)
    status, out, err = score(capsys, video, "--model", "ddl")
    assert status == 2
    assert out == ""
    assert "no verdict without trained detector weights" in err
    assert "dfmodels demo" in err


def test_published_checkpoint(capsys, tmp_path):
    video = write_video(tmp_path / "video.mp4", 9, noise)
    model = dfmodels.build("ddl")
    ours = model.state_dict()
    published = {"module." + key: ours[name][index] for key, (name, index) in model.published_layout().items()}
    torch.save(published, tmp_path / "published.pth")
    arguments = [video, "--faces", "none", "--clips", 1, "--format", "json", "--weights", tmp_path / "published.pth"]
    status, out, _ = score(capsys, *arguments, "--model", "ddl")
    assert status == 0
    assert json.loads(out)[0]["fake_probability"] is not None
    status, _, err = score(capsys, *arguments)
    assert status == 2
    assert "does not say which detector" in err


def test_a_stil_checkpoint_as_deepfakebench_leaves_it(capsys, tmp_path):
    video = write_video(tmp_path / "video.mp4", 40, noise)
    model = small("stil").eval()
    bench = write_bench(model, tmp_path / "bench.pth")
    (row,) = json_rows(capsys, video, "--weights", bench, *STIL)
    assert len(row["clips"]) == 4  # its preset: neighbouring frames; as released two clips are spread over the video
    assert row["clips"][0]["end"] == pytest.approx(7 / 25)
    assert len(json_rows(capsys, video, "--weights", bench, *STIL, "--set", "preset=released")[0]["clips"]) == 2
    # the same file, converted
    assert main(["convert", str(bench), str(tmp_path / "ours.safetensors"), *STIL]) == 0
    capsys.readouterr()
    (again,) = json_rows(capsys, video, "--weights", tmp_path / "ours.safetensors")
    assert again["clips"] == row["clips"]


def test_a_backbone_gives_no_verdict(capsys, tmp_path):
    video = write_video(tmp_path / "video.mp4", 9, noise)
    backbone = write_backbone(small("stil"), tmp_path / "imagenet.pth")
    status, out, err = score(capsys, video, "--weights", backbone, *STIL)
    assert status == 2
    assert out == ""
    assert "holds weights of the backbone alone" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "dll"], "did you mean 'ddl'"),
        (["--model", "ddl", "--set", "mask=lt"], "ddl has no option 'mask'; did you mean 'mask_rule'"),
        (["--set", "mask_rule=lt"], "name it with --model"),
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors does not exist"),
        (["--clips", "0"], "--clips must be a number from 1 on or all, got '0'"),
        (["--clips", "many"], "got 'many'"),
        (["--clips", "9" * 5000], "--clips must be a number from 1 on or all"),
        (["--plot", ""], "--plot must be a path, got an empty one"),
        (["--weights", ""], "--weights must be a path, got an empty one"),
        (["--model", "ddl", "--set", "size=" + "[" * 100_000], "size must be"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--faces", "harr"], "haar"),
        (["--faces", "yunet:nowhere.onnx"], "nowhere.onnx"),
        (["--faces", "boxes:nowhere.json"], "nowhere.json"),
        (["--select", "tallest"], "select must be one of"),
        (["--device", "gpu"], "--device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
    ],
)
def test_wrong_arguments(capsys, weights, tmp_path, arguments, message):
    video = write_video(tmp_path / "video.mp4", 9, noise)
    given = arguments if "--weights" in arguments else [*arguments, "--weights", weights]
    status, out, err = score(capsys, video, *given)
    assert status == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is visible")
def test_a_gpu_that_is_not_there(capsys, weights, tmp_path):
    video = write_video(tmp_path / "video.mp4", 9, noise)
    status, _, err = score(capsys, video, "--weights", weights, "--device", "cuda")
    assert status == 2
    assert "no usable GPU" in err


def test_a_plot_folder_that_is_a_file(capsys, weights, tmp_path):
    video = write_video(tmp_path / "video.mp4", 9, noise)
    status, _, err = score(capsys, video, "--weights", weights, "--faces", "none", "--plot", video)
    assert status == 2
    assert "plot must be a folder to write to" in err
    assert "video.mp4 cannot be made: File exists" in err


def test_an_empty_path_is_not_the_folder_at_hand(capsys, weights):
    status, out, err = score(capsys, "", "--weights", weights, "--faces", "none")
    assert (status, out) == (2, "")
    assert "VIDEO must be a path, got an empty one" in err


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_names_that_cannot_be_shown(weights, tmp_path, form):
    """Line breaks, control characters, bytes that are no text: one row each, and nothing of them acts on a terminal."""
    names = [b"a\nb.mp4", b"a\x1b[31m.mp4", b"\xff\xfe.mp4", "ü.mp4".encode(), b"x" * 251 + b".mp4"]
    data = write_video(tmp_path / "video.mp4", 9, noise).read_bytes()
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(data)
    command = [
        sys.executable,
        "-m",
        "dfmodels",
        "score",
        *names,
        b"gone\xff\n.mp4",
        "--format",
        form,
        "--plot",
        "plots",
    ]
    given = [*command, "--weights", weights, "--faces", "none"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(given, capture_output=True, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (1, b"")
    text = done.stdout.decode()
    shown = [r"a\nb.mp4", r"a\x1b[31m.mp4", r"\udcff\udcfe.mp4", "ü.mp4", "x" * 251 + ".mp4"]
    if form == "table":
        assert [line.split("  ")[0] for line in text.splitlines()[1:6]] == shown
        assert r"failed: gone\udcff\n.mp4: there is no such file" in text.splitlines()[7]
    elif form == "json":
        assert [os.fsencode(row["video"]) for row in json.loads(text)[:5]] == names
    else:
        assert len(list(csv.DictReader(io.StringIO(text)))) == 6
    assert len(list((tmp_path / "plots").iterdir())) == 5


def test_piped_output_has_no_progress_bar(weights, tmp_path):
    video = write_video(tmp_path / "video.mp4", 9, noise)
    command = [sys.executable, "-m", "dfmodels", "score", str(video), "--weights", weights, "--faces", "none"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "video.mp4" in done.stdout


def test_info_and_list(capsys):
    assert main(["info"]) == 0
    assert "interframe_difference" in capsys.readouterr().out
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "ddl" in out
    assert "mask_rule=le" in out
    assert "planes=[64, 128, 256, 512]" in out  # as --set takes it
