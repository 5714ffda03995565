"""What README, CONTRIBUTING and docs show runs as it stands there.

Every block of code is fenced and says what it is:

- `python` runs, in a folder with the files it names (FILES). A block that imports something stands alone; another
  one goes on where the block before it ended. What would take minutes is replaced before it runs (REDUCED).
- `python signature` is compared with the function of that name.
- `sh` is read by a shell; its `dfmodels` commands must be accepted, and cheap ones run (RUN).
- `json` and `toml` are parsed, `text` is a formula or a grammar; options of `dfmodels` named in one must exist.
"""

import ast
import inspect
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch

import dfmodels
import dfops
from dfmodels.cli import COMMANDS, main, make_parser
from dfmodels.data import load_videos, write_index
from dfmodels.detectors.stil import STILBlock
from dfmodels.registry import builder
from dfmodels.synthetic import write_miniature
from tests.cli.test_convert import published, write_backbone, write_bench
from tests.models.test_detectors import small
from tests.training.test_lsda import distillation, groups
from tests.video.videos import noise, write_image, write_video

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(.+)\n((?:.*\n)*?)```$", re.MULTILINE)


def page_text(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page, language):
    return [code for found, code in FENCE.findall(page_text(page)) if found == language]


def shown(language):
    return [
        pytest.param(page, code, id=f"{page}-{i}") for page in PAGES for i, code in enumerate(blocks(page, language))
    ]


# ---------------------------------------------------------------------- files the pages name


def frame_files():
    torch.save(published(dfmodels.build("frame")), "effnb4_best.pth")


def readme_files():
    frame_files()
    torch.save(dfmodels.build("ddl").state_dict(), "checkpoint.pth")
    torch.save({"state_dict": published(dfmodels.build("stil"), "module.base_model.")}, "checkpoint.tar")
    detector = small("ddl")
    detector.trained = True
    dfmodels.save(detector, "detector.safetensors")
    for name in ("video.mp4", "phone.mov"):
        write_video(Path(name), 8, noise)
    Path("films", "frames").mkdir(parents=True, exist_ok=True)
    for i in range(8):
        write_image(Path("films", "frames", f"{i}.png"), noise(i))


def stil_files():
    model = dfmodels.build("stil")
    torch.save({"state_dict": published(model, "module.base_model.")}, "epoch_12.tar")
    write_bench(model, "stil_bench.pth")
    write_backbone(model, "scnet50_v1d.pth")
    write_backbone(dfmodels.build("stil", backbone="resnet50"), "resnet50.pth")


def faces():
    """A data set of the layout of FaceForensics++ with five pairs, split files beside it."""
    write_miniature("FaceForensics++", pairs=(5, 0, 0), frames=2, size=32)
    Path("FaceForensics++", "splits").rename("splits")


def data_files():
    """A data set with its split files, and its index."""
    write_miniature("FaceForensics++", pairs=(1, 1, 1), frames=1, size=16)
    write_index("videos.csv", load_videos("FaceForensics++"))


def training_files():
    for root in ("FaceForensics++", "Celeb-DF-v2"):
        if not Path(root).exists():
            write_miniature(root, pairs=(2, 1, 1), frames=1, size=16)
    write_index("ff.csv", load_videos("FaceForensics++"))


def lsda_files():
    faces()
    for name in ("efficientnet-b4.pth", "arcface_iresnet100.pth"):
        Path(name).touch()


FILES = {
    "README.md": readme_files,
    "docs/data.md": data_files,
    "docs/scoring.md": readme_files,
    "docs/frame.md": frame_files,
    "docs/stil.md": stil_files,
    "docs/lsda.md": lsda_files,
    "docs/training-data.md": faces,
    "docs/training.md": training_files,
}


def small_training():
    """In place of five EfficientNet-B4 and an IResNet-100; that these load such files is tested with LSDA."""
    training = distillation()
    for name in ("load_backbones", "load_real_encoder"):
        setattr(training, name, lambda path: Path(path).resolve(strict=True))
    return training


# by page: what is shown, and what runs in its place; names the page takes for granted
REDUCED = {
    "docs/lsda.md": [
        ("training = LSDADistillation()", "training = small_training()"),
        ("pairs=(48, 8, 16)", "pairs=(1, 0, 1)"),
    ],
    "docs/training-data.md": [
        ("num_workers=8, persistent_workers=True", "num_workers=0"),
        ("range(50)", "range(1)"),
    ],
}
GIVEN = {"docs/lsda.md": lambda: {"small_training": small_training, "images": groups()}}


def reduced(page, code):
    for before, after in REDUCED.get(page, []):
        code = code.replace(before, after)
    return code


# ---------------------------------------------------------------------- Python


def check_stil(spaces):
    first, network = spaces[0], spaces[-1]
    assert first["logits"].shape == (1, 2)
    assert {kind: len(maps) for kind, maps in first["maps"].items()} == {"SIM": 16, "TIM": 16}
    assert network["losses"][-1] < 0.7 * network["losses"][0]
    stil_blocks = [module for module in network["network"].modules() if isinstance(module, STILBlock)]
    assert len(stil_blocks) == 8
    for block in stil_blocks:
        assert not [name for name, p in block.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert all(p.grad.count_nonzero() for p in block.parameters() if p.dim() > 1)


def check_lsda(spaces):
    assert spaces[0]["logits"].shape == (1, 2)
    assert spaces[1]["losses"]["overall"].isfinite()
    assert Path("miniature", "splits", "train.json").is_file()


def check_training_data(spaces):
    assert spaces[-1]["batch"]["images"].shape[1:] == (5, 3, 256, 256)


def check_data(spaces):
    assert len(spaces[0]["videos"]) == 30


def check_training(spaces):
    assert dfmodels.load("runs/smooth/final.safetensors").trained


CHECKS = {
    "docs/data.md": check_data,
    "docs/training.md": check_training,
    "docs/stil.md": check_stil,
    "docs/lsda.md": check_lsda,
    "docs/training-data.md": check_training_data,
}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_runs(page, tmp_path, monkeypatch, own_registry):
    monkeypatch.chdir(tmp_path)
    FILES.get(page, lambda: None)()
    shown_code = "".join(blocks(page, "python"))
    for before, _ in REDUCED.get(page, []):
        assert before in shown_code, f"{page} no longer shows {before}"
    spaces = []
    for code in blocks(page, "python"):
        if re.search(r"^(import|from) ", code, re.MULTILINE):
            spaces.append(GIVEN.get(page, dict)())
        exec(compile(reduced(page, code), page, "exec"), spaces[-1])
    CHECKS.get(page, lambda spaces: None)(spaces)


@pytest.mark.parametrize(("page", "code"), shown("python signature"))
def test_signatures_are_those_of_the_functions(page, code):
    for line in code.splitlines():
        name, arguments = re.fullmatch(r"dfops\.(\w+)\((.*?)\)(?: -> .*)?", line).groups()
        real = inspect.signature(getattr(dfops, name))
        plain = real.replace(
            parameters=[p.replace(annotation=p.empty) for p in real.parameters.values()],
            return_annotation=real.empty,
        )
        if arguments.endswith(", ..."):
            assert str(plain).startswith(f"({arguments.removesuffix(', ...')}, "), line
        else:
            assert ast.dump(ast.parse(f"def f{plain}: ...")) == ast.dump(ast.parse(f"def f({arguments}): ...")), line


def test_the_network_of_stil_takes_five_lines():
    code = blocks("docs/stil.md", "python")[-1]
    network = code[code.index("class Basic") : code.index("# rendered clips")]
    lines = [line for line in network.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) == 5
    assert max(map(len, lines)) <= 120


STIL_OPTIONS = re.findall(r"`(\w+)=", page_text("docs/stil.md").split("## Options")[1].split("## Frames")[0])


@pytest.mark.parametrize("option", STIL_OPTIONS)
def test_options_of_stil_exist(option):
    assert option in inspect.signature(builder("stil")).parameters


# ---------------------------------------------------------------------- command lines


def commands(code):
    """The `dfmodels` commands in lines of a shell, as lists of arguments."""
    parts = re.split(r"\n|&&|\|", code.replace("\\\n", " "))
    return [shlex.split(part, comments=True)[1:] for part in parts if part.strip().startswith("dfmodels ")]


RUN = {
    "score": 1,
    "index": 0,
    "convert": 0,
    "list": 0,
    "info": 0,
}  # status; in the noise that is scored here there are no faces


@pytest.mark.parametrize(("page", "code"), shown("sh"))
def test_commands_are_accepted(page, code, tmp_path, monkeypatch, capsys):
    subprocess.run(["bash", "-n"], input=re.sub(r"<[\w ]+>", "X", code), text=True, check=True)
    monkeypatch.chdir(tmp_path)
    for arguments in commands(code):
        make_parser().parse_args(arguments)
        if arguments[0] in RUN:
            FILES[page]()
            assert main(arguments) == RUN[arguments[0]], capsys.readouterr().err


def named_commands():
    """Commands in running text and in grammars: a name, then what follows it."""
    found = []
    for page in PAGES:
        text = FENCE.sub(lambda block: block[0] if block[1] == "text" else "", page_text(page))
        for name, rest in re.findall(r"(?:`|^)dfmodels ([a-z]+)((?:[^`\n]|\n +)*)", text, re.MULTILINE):
            found.append(pytest.param(name, rest, id=f"{page}-{name}{rest[:20]!r}"))
    return found


@pytest.mark.parametrize(("name", "rest"), named_commands())
def test_named_commands_and_options_exist(name, rest):
    assert name in COMMANDS
    parser = make_parser()
    for option in re.findall(r"--[a-z-]+", rest):
        assert option in parser._subparsers._group_actions[0].choices[name]._option_string_actions, option


# ---------------------------------------------------------------------- pages


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page):
    languages = {"python", "python signature", "sh", "json", "toml", "text"}
    text = page_text(page)
    assert {language for language, _ in FENCE.findall(text)} <= languages
    assert text.count("```") == 2 * len(FENCE.findall(text))
    rest = FENCE.sub("", text)
    indented = re.findall(r"^\n    \S.*", rest, re.MULTILINE)
    assert not indented, "code is fenced, so that it says what it is"
    for code in blocks(page, "json"):
        json.loads(code)


@pytest.mark.parametrize(("page", "code"), shown("toml"))
def test_toml_is_valid(page, code):
    pytest.importorskip("tomllib", reason="in Python from 3.11 on").loads(code)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)#\s]+)[)#]", FENCE.sub("", page_text(page))):
        assert (ROOT / page).parent.joinpath(link).exists(), link
