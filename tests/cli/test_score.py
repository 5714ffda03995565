"""`dfmodels score` as a person meets it: good videos, every kind of bad one, and wrong arguments."""

import csv
import html
import io
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import dfmodels
from dfmodels import progress, registry
from dfmodels.cli import main
from dfmodels.cli import score as cli_score
from dfmodels.scoring.video import score_video
from dfmodels.video import clip_frames
from tests.cli.test_command import Terminal
from tests.cli.test_convert import STIL, write_backbone, write_bench
from tests.models.frame_level import FrameLevel
from tests.models.test_detectors import small
from tests.video.videos import cut, noise, ramp, turn, write_image, write_sound, write_video


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
        "rotated": turn(write_video(tmp_path / "phone.mp4", 12, noise), 0, 1, -1, 0),
        "variable": write_video(tmp_path / "variable.mp4", 10, noise, pts=[0, 1, 2, 5, 6, 9, 14, 15, 16, 30]),
        "shorter than a clip": write_video(tmp_path / "short.mp4", 6, noise),
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
    assert [row["path"] for row in rows] == [str(v) for v in videos]
    for row in rows[: len(good)]:
        assert row["error"] is None, row
        assert 0 <= row["probability"] <= 1
        assert row["probability"] == pytest.approx(np.mean([clip["probability"] for clip in row["clips"]]))
        assert row["verdict"] in ("real", "fake")
    for row in rows[len(good) :]:
        assert row["probability"] is None
        assert row["verdict"] == "failed"
        assert os.path.basename(row["path"]) in row["error"]
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
    assert rows[0]["path"] == str(videos[0])
    assert 0 < float(rows[0]["probability"]) < 1
    assert [rows[0][column] for column in ("clips", "people", "frames_read", "left_out_still")] == ["2", "1", "16", "0"]
    assert rows[1]["probability"] == ""
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
        results.append([clip["probability"] for clip in json.loads(out)[0]["clips"]])
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
    assert [clip["probability"] for clip in row["clips"]] == pytest.approx([0.98201379, 0.26894142])
    assert row["probability"] == pytest.approx(0.81757448)  # the sigmoid of 1.5
    first, second = clip_frames(80, 8, 2, "spread")
    assert [clip["start"] for clip in row["clips"]] == [first[0] / 25, second[0] / 25]
    assert [clip["end"] for clip in row["clips"]] == [first[-1] / 25, second[-1] / 25]

    fake_logits(4.0, -1.0)
    (row,) = json_rows(capsys, video, *given, "--average", "probabilities")
    assert row["probability"] == pytest.approx((0.98201379 + 0.26894142) / 2)
    fake_logits(*range(10))
    assert len(json_rows(capsys, video, *given, "--clips", "all")[0]["clips"]) == 10
    fake_logits(*range(5))
    assert json_rows(capsys, video, *given, "--clips", "5")[0]["probability"] == pytest.approx(1 / (1 + np.exp(-2)))


def catch_bars(monkeypatch):
    """The progress bars that will be drawn."""
    bars = []

    class Bar(progress.tqdm):
        def __init__(self, **options):
            super().__init__(**{**options, "file": io.StringIO(), "disable": options["disable"] is True})
            if not self.disable:
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
    # three frames spread over eight clips are no motion that could be judged
    assert main(["score", str(video), "--weights", weights, "--faces", "none", *clips]) in (0, 1)
    assert [(bar.n, bar.total) for bar in bars] == [(bars[0].total, bars[0].n)]


def test_many_videos_have_a_bar_of_all(weights, tmp_path, monkeypatch, capsys):
    bars = catch_bars(monkeypatch)
    videos = [write_video(tmp_path / f"{i}.mp4", 4, noise) for i in range(3)]
    given = ["--weights", weights, "--faces", "none", "--out", str(tmp_path / "rows.csv")]
    assert main(["score", str(videos[0]), *given]) == 0
    bars.clear()
    assert main(["score", *map(str, videos), *given, "--resume"]) == 0
    whole, *each = bars
    assert (whole.n, whole.total, whole.initial, whole.unit) == (3, 3, 1, "video")
    assert [bar.desc for bar in each] == ["[2/3] 1.mp4", "[3/3] 2.mp4"]


def test_rows_on_a_terminal_stand_on_lines_of_their_own(weights, tmp_path, monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(sys, "stdout", shown)
    videos = [write_video(tmp_path / f"{i}.mp4", 4, noise) for i in range(2)]
    assert main(["score", *map(str, videos), "--weights", weights, "--faces", "none", "--format", "csv"]) == 0
    rows = [line.rpartition("\r")[2] for line in shown.getvalue().splitlines() if line.count(",") > 3]
    assert "2/2" in shown.getvalue()
    assert all(row.startswith(("path,", str(tmp_path))) for row in rows)
    assert len(rows) == 3


@pytest.fixture
def frame_weights(tmp_path, monkeypatch):
    """Weights of a detector of single frames, registered for the test."""
    monkeypatch.setitem(registry._BUILDERS, "frame_level", FrameLevel)
    dfmodels.save(FrameLevel(), tmp_path / "frames.safetensors")
    return str(tmp_path / "frames.safetensors")


def test_a_detector_of_single_frames_speaks_of_frames(capsys, frame_weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # long names would not stand in a column
    video, short = write_video(Path("video.mp4"), 50), write_video(Path("short.mp4"), 3)
    given = [video, short, "none.mp4", "--weights", frame_weights, "--faces", "none"]
    _, out, _ = score(capsys, *given)
    header, *lines = out.splitlines()[:4]
    assert "  frames      highest frame " in header
    assert "clip" not in out
    assert len({len(line) for line in (header, *lines)}) == 1
    end = header.index("      highest")
    assert [line[:end].split()[-1] for line in lines] == ["32", "3", "-"]
    assert " at 0.96 s" in lines[0]  # frame 24, the brightest, is one of the 32
    assert " at 0.08 s" in lines[1]
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
    assert [(bar.n, bar.total) for bar in bars] == [(32, 32)]  # the frames that are judged
    assert (tmp_path / "plots" / "video.mp4.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("option", "choices"),
    [("--average", ["probabilities", "logits"]), ("--select", ["largest", "central", "confident", "all"])],
)
def test_wrong_choices(capsys, weights, option, choices):
    with pytest.raises(SystemExit) as stopped:
        score(capsys, "video.mp4", "--weights", weights, option, "votes")
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert all(word in error for word in (option, "votes", *choices))


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
    assert json.loads(out)[0]["probability"] is not None
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
        (["--out", ""], "--out must be a path, got an empty one"),
        (["--out", "scores.txt"], "must end in .csv or .jsonl, got 'scores.txt'"),
        (["--out", "nowhere/scores.csv"], "--out must be in a folder that is there, nowhere is not"),
        (["--resume"], "--resume goes on with the file of --out: give --out FILE"),
        (["--report", "page.pdf"], "--report must end in .html or .htm, got 'page.pdf'"),
        (["--report", "nowhere/page.html"], "--report must be in a folder that is there, nowhere is not"),
        (["--weights", ""], "--weights must be a path, got an empty one"),
        (["--model", "ddl", "--set", "size=" + "[" * 100_000], "size must be"),
        (["--batch", "0"], "--batch must be at least 1"),
        (["--faces", "harr"], "haar"),
        (["--faces", "yunet:nowhere.onnx"], "nowhere.onnx"),
        (["--faces", "boxes:nowhere.json"], "nowhere.json"),
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
        assert [os.fsencode(row["path"]) for row in json.loads(text)[:5]] == names
    else:
        assert len(list(csv.DictReader(io.StringIO(text, newline="")))) == 6
    assert len(list((tmp_path / "plots").iterdir())) == 5


def test_a_terminal_of_another_encoding(weights, tmp_path):
    video = write_video(tmp_path / "тест 😀 ü.mp4", 9, noise)
    command = [sys.executable, "-m", "dfmodels", "score", str(video), "--weights", weights, "--faces", "none"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*command, "--format", "json"], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)[0]["path"] == str(video)


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


# --- many videos


def three(folder):
    (folder / "films" / "deep").mkdir(parents=True)
    return [
        str(write_video(folder / "films" / name, 8, lambda i, shift=shift: noise(i + shift)))
        for shift, name in enumerate(["2.mp4", "10.mp4", "deep/1.mp4"])
    ]


def at_video(monkeypatch, number, act):
    """Let something happen when a video is scored, the first is 1."""
    turns = itertools.count(1)

    def scored(model, path, **options):
        if next(turns) == number:
            act()
        return score_video(model, path, **options)

    monkeypatch.setattr("dfmodels.scoring.batch.score_video", scored)


def rows_of(path):
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_folders_are_searched(capsys, weights, tmp_path):
    videos = three(tmp_path)
    (tmp_path / "empty").mkdir()
    given = ["--weights", weights, "--faces", "none", "--format", "json"]
    status, out, err = score(capsys, tmp_path / "films", videos[1], *given)
    assert status == 0
    assert [row["path"] for row in json.loads(out)] == videos
    assert f"taken once: {videos[1]}" in err
    status, out, err = score(capsys, tmp_path / "empty", videos[0], *given)
    assert status == 1
    assert [row["verdict"] == "failed" for row in json.loads(out)] == [True, False]
    assert f"no video in {tmp_path / 'empty'}: looked there and in the folders below for files ending in" in err
    status, out, err = score(capsys, tmp_path / "empty", *given)
    assert (status, out) == (2, "")
    assert f"no video in {tmp_path / 'empty'}" in err


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_rows_are_printed_when_they_are_ready(capsys, weights, tmp_path, monkeypatch, form):
    videos = three(tmp_path)
    printed = []
    for number in (1, 2, 3):
        at_video(monkeypatch, number, lambda: printed.append(capsys.readouterr().out))
        score(capsys, *videos, "--weights", weights, "--faces", "none", "--format", form)
    counts = [[name in text for name in ("2.mp4", "10.mp4", "deep/1.mp4")] for text in printed]
    assert counts == [[False] * 3, [True, False, False], [True, True, False]]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_out_and_resume(capsys, weights, tmp_path, monkeypatch, suffix):
    videos = [*three(tmp_path), str(tmp_path / "gone.mp4")]
    out, page = tmp_path / f"scores{suffix}", tmp_path / "page.html"
    given = ["--weights", weights, "--faces", "none", "--out", out]
    status, shown, _ = score(capsys, *videos[2:], *given)
    assert status == 1
    assert shown.startswith("2 videos: ")
    assert shown.endswith(f", 1 failed; rows in {out}\n")
    assert [row["path"] for row in rows_of(out)] == videos[2:]
    before = out.read_bytes()
    status, shown, err = score(capsys, *videos, *given)
    assert (status, shown) == (2, "")
    assert f"{out} holds rows already: --resume goes on with them, or give another file" in err
    assert out.read_bytes() == before

    status, shown, err = score(capsys, *videos, *given, "--resume", "--report", page)
    assert (status, err) == (1, "")  # the one that failed before is passed over, and counts
    assert shown.startswith("4 videos: ")
    assert shown.endswith(f", 1 failed; rows in {out}; 2 of the rows were there before\n")
    assert out.read_bytes().startswith(before)
    assert [row["path"] for row in rows_of(out)] == [*videos[2:], *videos[:2]]
    assert "deep/1.mp4" not in page.read_text().rpartition("<pre")[0]  # behind it is the command

    before = page.read_bytes()
    status, _, err = score(capsys, *videos, *given, "--resume", "--report", page)
    assert status == 2
    assert "is there already, and --resume would replace it by a page about the videos that are left" in err
    assert page.read_bytes() == before

    status, _, err = score(capsys, *videos, *given, "--resume", "--clips", "3")
    assert status == 2
    assert f"{out} was made with --clips 8, this run has --clips 3" in err
    other = tmp_path / "other.safetensors"
    dfmodels.save(dfmodels.load(weights), other, data="others")
    status, _, err = score(capsys, *videos, "--weights", other, "--faces", "none", "--out", out, "--resume")
    assert status == 2
    assert f"{out} was made with weights {weights} (SHA-256 " in err
    assert f"), this run has weights {other} (SHA-256 " in err


def test_rows_may_go_to_both(capsys, weights, tmp_path):
    video = write_video(tmp_path / "video.mp4", 9, noise)
    out = tmp_path / "scores.jsonl"
    given = [video, "--weights", weights, "--faces", "none", "--out", out]
    status, shown, _ = score(capsys, *given, "--format", "json")
    assert status == 0
    assert json.loads(shown) == rows_of(out)


def test_what_is_done_stays_when_a_run_is_ended_by_sigterm(capsys, weights, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    videos = three(tmp_path)
    out, page = tmp_path / "scores.csv", tmp_path / "page.html"
    at_video(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGTERM))
    given = ["--weights", weights, "--faces", "none", "--out", out, "--report", page]
    status, shown, err = score(capsys, *videos, *given)
    assert status == 143
    assert shown.startswith("1 of 3 videos: ")
    assert err.endswith("dfmodels: ended by SIGTERM\n")
    assert "The run was broken off by SIGTERM" in html.unescape(page.read_text())
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_is_done_stays_when_a_run_is_interrupted(capsys, weights, tmp_path, monkeypatch):
    videos = three(tmp_path)
    out, page = tmp_path / "scores.csv", tmp_path / "page.html"
    at_video(monkeypatch, 3, lambda: signal.raise_signal(signal.SIGINT))
    given = [*videos, "--weights", weights, "--faces", "none", "--out", out]
    status, shown, err = score(capsys, *given, "--report", page)
    assert status == 130
    assert shown.startswith("2 of 3 videos: ")
    assert shown.endswith(f"; rows in {out}; --resume goes on with the others\n")
    assert "interrupted" in err
    assert [row["path"] for row in rows_of(out)] == videos[:2]
    text = page.read_text()
    assert all(name in text for name in ("2.mp4", "10.mp4", "incomplete"))

    at_video(monkeypatch, 3, lambda: signal.raise_signal(signal.SIGINT))
    status, shown, _ = score(capsys, *given[:-2], "--format", "json")
    assert status == 130
    assert [row["path"] for row in json.loads(shown)] == videos[:2]
    at_video(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGINT))
    status, shown, _ = score(capsys, *given[:-2], "--format", "json")
    assert (status, json.loads(shown)) == (130, [])
    status, shown, _ = score(capsys, *given, "--resume")
    assert (status, len(rows_of(out))) == (0, 3)


def test_the_report_knows_the_command(capsys, weights, tmp_path):
    video, page = write_video(tmp_path / "video.mp4", 17, noise), tmp_path / "page.html"
    given = [video, "--weights", weights, "--faces", "none", "--report", page]
    status, shown, _ = score(capsys, *given)
    assert status == 0
    assert "video.mp4" in shown
    text = html.unescape(page.read_text())
    assert shlex.join(["dfmodels", "score", *map(str, given)]) in text


@pytest.mark.parametrize("options", [["--plot", "plots"], ["--report", "page.html"]])
def test_a_full_disk_is_said_and_leaves_what_is_written(weights, tmp_path, options):
    videos = three(tmp_path)
    command = [sys.executable, "-m", "dfmodels", "score", *videos, "--weights", weights, "--faces", "none"]
    command += ["--out", "scores.csv", *options]
    limited = f"ulimit -f 4; exec {shlex.join(command)}"  # no file above 4 KiB
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert re.search(rf"{options[1]}.* cannot be written: File too large", done.stderr)
    assert not (tmp_path / "page.html").exists()
    assert list((tmp_path / "plots").glob("*")) == []
    assert len(rows_of(tmp_path / "scores.csv") if (tmp_path / "scores.csv").stat().st_size else []) == 0


def test_an_output_that_is_full(weights, tmp_path):
    video = write_video(tmp_path / "video.mp4", 9, noise)
    command = [sys.executable, "-m", "dfmodels", "score", str(video), "--weights", weights, "--faces", "none"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "dfmodels score: the output cannot be written: No space left on device\n"


def test_an_output_that_is_closed(weights, tmp_path):
    video = write_video(tmp_path / "video.mp4", 9, noise)
    command = [sys.executable, "-m", "dfmodels", "score", str(video), "--weights", weights, "--faces", "none"]
    done = subprocess.run(f"{shlex.join(map(str, command))} >&-", shell=True, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "dfmodels score: the output cannot be written: it is closed\n"
