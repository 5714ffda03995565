"""Files of weights as people have them: what trainers leave around the tensors, what is no weights, hostile pickles."""

import argparse
import collections
import copyreg
import datetime
import enum
import functools
import io
import os
import pathlib
import pickle
import random
import stat
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import dfmodels
from dfmodels import inert, weights
from dfmodels.files import atomic_write
from tests.models.test_detectors import SMALL, small


@pytest.fixture(scope="module")
def model():
    return small("stil", seed=1).eval()


@pytest.fixture(scope="module")
def state(model):
    """The detector in the layout of its release."""
    ours = model.state_dict()
    return {key: ours[name][index].clone() for key, (name, index) in model.published_layout().items()}


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def built(content, path, **how):
    torch.save(content, path, **how)
    return dfmodels.build("stil", weights=path, **SMALL["stil"])


def same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


# ---------------------------------------------------------------------- what trainers leave around the tensors


class Mode(enum.Enum):
    TRAIN = 1


class Number(enum.IntEnum):
    ONE = 1


class Options(dict):  # as Lightning's AttributeDict and EasyDict: items, and attributes beside them
    pass


class Node:  # as OmegaConf's, wandb's
    def __init__(self, content):
        self.content = content

    def __setstate__(self, state):
        raise AssertionError("a class of the file was looked up")


class Slots:
    __slots__ = ("value",)

    def __init__(self):
        self.value = 3


def options():
    attributes = Options(lr=0.1)
    attributes.extra = 1
    return {
        "node": Node({"a": Node([1, 2])}),
        "options": attributes,
        "namespace": argparse.Namespace(lr=1e-3, path=Path("data")),
        "path": pathlib.PurePosixPath("data/train"),
        "number": np.float64(0.93),
        "array": np.arange(3),
        "dtype": np.dtype("float32"),
        "when": datetime.datetime(2024, 5, 1, tzinfo=datetime.timezone.utc),
        "mode": {Mode.TRAIN: Number.ONE},
        "queue": collections.deque([1, 2], 3),
        "default": collections.defaultdict(list, {"a": [1]}),
        "counter": collections.Counter("aab"),
        "partial": functools.partial(sorted, reverse=True),
        "set": {Mode.TRAIN, frozenset([1])},
        "slots": Slots(),
        "bytes": bytearray(b"a"),
        "function": np.mean,
        "class": Node,
        "range": range(3),
        "complex": 1j,
    }


FORMS = {"zip": {}, "older": {"_use_new_zipfile_serialization": False}, "protocol 4": {"pickle_protocol": 4}}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_objects_of_any_class_may_lie_beside_the_weights(form, model, state, tmp_path):
    for name, value in options().items():
        assert same(built({"state_dict": state, name: value}, tmp_path / "one.pth", **FORMS[form]), model), name
    everything = Options(hyper_parameters=options(), state_dict=collections.OrderedDict(prefixed(state, "module.")))
    assert same(built(everything, tmp_path / "all.pth", **FORMS[form]), model)
    parameters = {key: nn.Parameter(value, value.is_floating_point()) if value.is_floating_point() else value
                  for key, value in state.items()}  # fmt: skip
    assert same(built({"model": parameters, "o": Node(1)}, tmp_path / "parameters.pth", **FORMS[form]), model)


def test_a_whole_module_says_what_to_save(tmp_path):
    with pytest.raises(weights.WeightsError, match=r"got torch\.nn\.modules\.linear\.Linear; save model\.state_dict"):
        built(nn.Linear(2, 2), tmp_path / "module.pth")


PREFIXES = ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module.", "net._orig_mod.model."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_wrappers_in_any_nesting(prefix, model, state, tmp_path):
    assert same(built(prefixed(state, prefix), tmp_path / "a.pth"), model)
    averaged = {**prefixed(state, prefix), "n_averaged": torch.tensor(12)}
    assert same(built(averaged, tmp_path / "a.pth"), model)
    assert same(built({"state_dict": prefixed(averaged, "module.")}, tmp_path / "a.pth"), model)


def test_wrappers_of_a_part_of_the_model(model, state, tmp_path):
    inner = {key.replace(".", ".module._orig_mod.", 1): value for key, value in state.items()}
    assert inner.keys() != state.keys()
    assert same(built(inner, tmp_path / "a.pth"), model)


def test_prefix_of_deepfakebench_under_wrappers_implies_its_preset(model, state, tmp_path):
    loaded = built(prefixed(state, "_orig_mod.module.model.base_model."), tmp_path / "a.pth")
    assert loaded.config["preset"] == "deepfakebench"


def test_half_precision(model, state, tmp_path):
    half = {key: v.half() if v.is_floating_point() else v for key, v in state.items()}
    loaded = built(half, tmp_path / "a.pth")
    for key, value in loaded.state_dict().items():
        expected = model.state_dict()[key]
        assert value.dtype == expected.dtype
        torch.testing.assert_close(value, expected.half().to(value.dtype) if value.is_floating_point() else expected)


def test_an_average_alone_is_taken(model, state, tmp_path):
    for name in ("model_ema", "ema", "ema_state_dict", "state_dict_ema", "teacher", "swa_model", "averaged_model"):
        content = {name: prefixed(state, "module."), "epoch": 3, "optimizer": {"state": {"a.b": torch.zeros(1)}}}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert same(built(content, tmp_path / "a.pth"), model), name


def test_beside_its_average_the_model_is_taken_and_said(model, state, tmp_path):
    average = {key: value + 1 for key, value in state.items()}
    for content, taken, left in (
        ({"model_ema": average, "model": state}, "'model' is taken", "'model_ema' left"),
        ({"teacher": average, "student": state}, "'student' is taken", "'teacher' left"),
        ({"net": {"ema": average, "weights": state}}, r"'net\.weights' is taken", r"'net\.ema' left"),
        (
            prefixed(average, "ema_model.") | prefixed(state, "online_model."),
            "'online_model.' is taken",
            "'ema_model.'",
        ),
    ):
        with pytest.warns(UserWarning, match=f"{taken}, {left}"):
            assert same(built(content, tmp_path / "a.pth"), model), left


def test_several_sets_of_weights_are_not_guessed_between(state, tmp_path):
    with pytest.raises(weights.WeightsError, match="holds several state dicts: netD, netG; save the one that is meant"):
        built({"netD": state, "netG": state}, tmp_path / "a.pth")
    with pytest.raises(weights.WeightsError, match=r"holds .* twice, as "):
        built(state | prefixed(state, "module."), tmp_path / "a.pth")


def test_names_are_found_by_content(model, state, tmp_path):
    assert same(built(state, tmp_path / "pickle.safetensors"), model)
    dfmodels.save(model_of(model), tmp_path / "ours.safetensors")
    (tmp_path / "ours.safetensors").rename(tmp_path / "ours.pth")
    assert same(dfmodels.load(tmp_path / "ours.pth"), model)


def model_of(model):
    model.trained = True
    return model


def test_where_nothing_matches_the_names_of_both_are_listed(tmp_path):
    content = {f"encoder.{i}.weight": torch.zeros(2) for i in range(20)}
    with pytest.raises(weights.WeightsError) as caught:
        built(content, tmp_path / "a.pth")
    message = str(caught.value)
    assert "none of its 20 tensors has a name that stil knows" in message
    assert "names in the file: encoder.0.weight, encoder.1.weight" in message
    assert "and 12 more" in message
    assert "names of stil: conv1.0.weight" in message


def test_tensors_without_plain_numbers(state, tmp_path):
    key = next(key for key, value in state.items() if value.dim() == 4)
    for value in (state[key].to("meta"), state[key].to_sparse()):
        with pytest.raises(weights.WeightsError, match=rf"{key} is no tensor of plain numbers"):
            built({**state, key: value}, tmp_path / "a.pth")


def test_integers_and_complex_numbers_are_no_weights(state, tmp_path):
    key = next(key for key, value in state.items() if value.dim() == 4)
    for dtype in (torch.int8, torch.int64, torch.bool, torch.complex64):
        with pytest.raises(weights.WeightsError, match=rf"1 wrongly typed: {key} {dtype}, expected floating point"):
            built({**state, key: state[key].to(dtype)}, tmp_path / "a.pth")


# ---------------------------------------------------------------------- what is no file of weights


def test_files_that_are_something_else(model, state, tmp_path):
    torch.save(state, tmp_path / "a.pth")
    dfmodels.save(model_of(model), tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    whole, ours, old = ((tmp_path / name).read_bytes() for name in ("a.pth", "a.safetensors", "old.pth"))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    torch.jit.script(nn.Linear(1, 1)).save(tmp_path / "script.pt")
    torch.export.save(torch.export.export(nn.Linear(1, 1), (torch.rand(1, 1),)), tmp_path / "program.pt2")
    path = tmp_path / "file.pth"
    for content, message in {
        b"": r"is empty \(0 bytes\)",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n": "pointer of Git LFS.*git lfs pull",
        b"\n<!DOCTYPE html><html></html>": r"web page \(HTML\)",
        b"Quota exceeded": "text that begins with 'Quota exceeded'",
        b"\0" * 4096: "are zero",
        b"\x1f\x8b\x08\0": "compressed by gzip",
        b"\xde\xad\xbe\xef" * 20: "neither safetensors nor what torch.save writes",
        whole[: len(whole) // 2]: "checkpoint of torch that is cut off or damaged",
        whole[:-1]: "checkpoint of torch that is cut off or damaged",
        old[: len(old) // 2]: "cut off or damaged",
        old[:40]: "cut off or damaged",
        ours[:300]: "not a readable safetensors file: it is cut off after 300 bytes",
        ours[:-5]: "not a readable safetensors file",
        (tmp_path / "z.zip").read_bytes(): "zip archive, but no checkpoint of torch; it holds readme.txt",
        (tmp_path / "script.pt").read_bytes(): "TorchScript program",
        (tmp_path / "program.pt2").read_bytes(): r"program of torch.export.*`import dfops`, torch.export.load\(FILE\)",
        pickle.dumps({"a": 1}): "no readable checkpoint of torch",
    }.items():
        path.write_bytes(content)
        with pytest.raises(weights.WeightsError, match=message) as caught:
            dfmodels.build("stil", weights=path, **SMALL["stil"])
        assert "file.pth" in str(caught.value)
    for folder in (dfmodels.load, lambda path: dfmodels.build("stil", weights=path)):
        with pytest.raises(FileNotFoundError, match="is a folder"):
            folder(tmp_path)
        with pytest.raises(FileNotFoundError, match="/dev/null is no regular file"):
            folder("/dev/null")


def test_a_file_that_asks_for_more_than_there_is(model, tmp_path):
    """Options of a damaged file are tried without memory first."""
    path = tmp_path / "a.safetensors"
    dfmodels.save(model_of(model), path)
    content = path.read_bytes()
    for wrong, reason in (
        (b"[32, 9999984]", "they make a larger detector than the file holds"),  # terabytes
        (b"[{}, 32, 3]", "planes must be"),
        (b"true       ", "planes must be several values"),
    ):
        planes = b"[32, 32]"
        damaged = content.replace(planes, wrong, 1)
        header = int.from_bytes(content[:8], "little") + len(wrong) - len(planes)
        path.write_bytes(struct.pack("<Q", header) + damaged[8:])
        with pytest.raises(weights.WeightsError, match=rf"a\.safetensors was written by .* as 'stil' .*: {reason}"):
            dfmodels.load(path)


# ---------------------------------------------------------------------- hostile pickles


CANARY = "tests.test_weights"
fired = []


def fire(*arguments, **keywords):
    fired.append(arguments)
    return fired


class Canary:
    def __new__(cls, *arguments):
        fire("new")
        return super().__new__(cls)

    def __setstate__(self, state):
        fire("state")

    def __setitem__(self, key, value):
        fire("item")

    def append(self, value):
        fire("append")

    def __call__(self, *arguments):
        fire("call")


def name(module, function):
    return b"c" + module.encode() + b"\n" + function.encode() + b"\n"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


FIRE, KLASS = name(CANARY, "fire"), name(CANARY, "Canary")
ATTACKS = {
    "reduce": FIRE + b")R",
    "newobj": KLASS + b")\x81",
    "newobj_ex": KLASS + b")}\x92",
    "build": KLASS + b")\x81}b",
    "build, slots": KLASS + b")\x81N}" + text("a") + b"K\x01s\x86b",
    "inst": b"(i" + CANARY.encode() + b"\nfire\n",
    "inst of a class": b"(i" + CANARY.encode() + b"\nCanary\n",
    "obj": b"(" + KLASS + b"o",
    "obj with arguments": b"(" + FIRE + b"K\x01o",
    "set an item": KLASS + b")\x81K\x01K\x02s",
    "append": KLASS + b")\x81K\x01a",
    "call an instance": KLASS + b")\x81)R",
    "getattr": name("builtins", "getattr") + name(CANARY, "fired") + text("clear") + b"\x86R)R",
    "eval": name("builtins", "eval") + text("__import__('tests.test_weights').test_weights.fire()") + b"\x85R",
    "exec": name("builtins", "exec") + text("from tests.test_weights import fire; fire()") + b"\x85R",
    "os.system": name("os", "system") + text("touch attacked") + b"\x85R",
    "posix.system": name("posix", "system") + text("touch attacked") + b"\x85R",
    "subprocess": name("subprocess", "check_output") + b"]" + text("touch") + b"a" + text("attacked") + b"a\x85R",
    "dotted": text("tests") + text("test_weights.fire") + b"\x93)R",
    "map": name("builtins", "list") + name("builtins", "map") + FIRE + b"]K\x01a\x86R\x85R",
    "partial": name("functools", "partial") + FIRE + b"\x85R)R",
    "a maker of a maker": name("torch._tensor", "_rebuild_from_type_v2") + b"(" + FIRE + b"N))tR",
    "a class of torch": name("torch", "Tensor") + b"N}" + text("__add__") + FIRE + b"s\x86b",
    "a function of torch": name("torch._utils", "_rebuild_tensor_v2") + b"N}" + text("__defaults__") + FIRE + b"s\x86b",
    "an ordered dict": name("collections", "OrderedDict") + b"](" + FIRE + FIRE + b"la\x85R",
    "torch.hub": name("torch.hub", "load") + text("a/b") + text("c") + b"\x86R",
    "by number": b"\x82\x07)R",
    "by a larger number": b"\x83\x07\x00)R",
    "by a four byte number": b"\x84\x07\x00\x00\x00)R",
    "persistent": FIRE + b"Q",
    "persistent, old": b"Ptests\n",
    "module": b"(" + text("module") + KLASS + text("a.py") + text("source") + b"tQ",
}


def archive(path, program):
    """A checkpoint whose pickle is `program`."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", program)
        file.writestr("archive/version", "3\n")


def older(path, program):
    start = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    path.write_bytes(start + program + pickle.dumps([], 2))


@pytest.fixture
def by_number():
    """What a program in this process has registered under a number, as the first unpickling leaves it."""
    copyreg.add_extension(CANARY, "fire", 7)
    copyreg._extension_cache[7] = fire
    yield
    copyreg._extension_cache.clear()
    copyreg.remove_extension(CANARY, "fire", 7)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_of_a_pickle_runs(attack, by_number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fired.clear()
    before = torch.Tensor.__add__, torch._utils._rebuild_tensor_v2.__defaults__
    program = ATTACKS[attack]
    # beside a key, as a key, inside of everything, and under a class that weights_only refuses at once
    for form in (
        b"\x80\x02}" + text("a") + program + b"s.",
        b"\x80\x02}" + program + b"K\x01s.",
        b"\x80\x04](" + program + program + b"e.",
        b"\x80\x02}" + text("a") + name("nowhere", "Klass") + b"](" + program + b"e\x85Rs.",
    ):
        for write in (archive, older):
            write(tmp_path / "file.pth", form)
            with pytest.raises(weights.WeightsError):
                weights.read(tmp_path / "file.pth")
    for form in (b"\x80\x02" + program + b".",):
        for write in (archive, older):
            write(tmp_path / "file.pth", form)
            with pytest.raises(weights.WeightsError):
                weights.read(tmp_path / "file.pth")
    assert not fired
    assert (torch.Tensor.__add__, torch._utils._rebuild_tensor_v2.__defaults__) == before
    assert [path.name for path in tmp_path.iterdir()] == ["file.pth"]


def test_the_canary_can_fire(by_number):
    """The same programs do run in Python's own unpickler."""
    silent = []
    for attack in ("reduce", "newobj", "newobj_ex", "build", "inst", "obj", "append", "eval", "partial", "by number"):
        fired.clear()
        pickle.loads(b"\x80\x02" + ATTACKS[attack] + b".")
        silent += [] if fired else [attack]
    assert not silent


def test_nothing_runs_in_programs_of_any_order(by_number):
    pieces = [b"(", b")", b"}", b"]", b"0", b"N", b"K\x01", b"2", b"R", b"b", b"\x81", b"\x85", b"t", b"o", b"s", b"a"]
    attacks = [*ATTACKS.values(), FIRE, KLASS]
    fired.clear()
    ended = 0
    for seed in range(4000):
        draw = random.Random(seed)
        middle = draw.choices([draw.choice(attacks), draw.choice(pieces)], k=draw.randint(1, 6))
        try:
            inert.load(io.BytesIO(b"\x80\x04](" + draw.choice(attacks) + b"".join(middle) + b"."))
            ended += 1
        except Exception:
            pass
        assert not fired, seed
    assert ended > 1000


def test_names_are_not_imported(tmp_path):
    archive(tmp_path / "file.pth", b"\x80\x02}" + text("a") + name("antigravity_of_the_file", "Klass") + b")Rs.")
    found = weights.unpickle(tmp_path / "file.pth")["a"]
    assert type(found) is inert.StandIn
    assert found.origin == "antigravity_of_the_file.Klass"


# ---------------------------------------------------------------------- writing


WRAPPERS = {
    "compile": lambda model: torch.compile(model, backend="eager"),
    "DataParallel": nn.DataParallel,
    "AveragedModel": AveragedModel,
    "all": lambda model: AveragedModel(nn.DataParallel(torch.compile(model, backend="eager"))),
    "compile of all": lambda model: torch.compile(nn.DataParallel(AveragedModel(model)), backend="eager"),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_of_a_wrapped_model_the_detector_is_saved(wrapper, model, tmp_path):
    dfmodels.save(WRAPPERS[wrapper](model_of(model)), tmp_path / "a.safetensors")
    assert same(dfmodels.load(tmp_path / "a.safetensors"), model)


def test_of_a_distributed_model_the_detector_is_saved(model, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model_of(model))
        dfmodels.save(torch.compile(wrapped, backend="eager"), tmp_path / "a.safetensors")
        torch.save({"state_dict": wrapped.state_dict()}, tmp_path / "a.pth")
    finally:
        torch.distributed.destroy_process_group()
    assert same(dfmodels.load(tmp_path / "a.safetensors"), model)
    assert same(dfmodels.build("stil", weights=tmp_path / "a.pth", **SMALL["stil"]), model)


def test_a_compiled_part_is_saved_and_loaded(tmp_path):
    model = model_of(small("lsda"))
    model.encoder = torch.compile(model.encoder, backend="eager")
    dfmodels.save(model, tmp_path / "a.safetensors")
    assert torch.equal(dfmodels.load(tmp_path / "a.safetensors").head[2].weight, model.head[2].weight)


def test_what_cannot_be_saved(model, tmp_path):
    for wrong in (nn.Linear(1, 1), nn.DataParallel(nn.Linear(1, 1)), {"a": 1}):
        with pytest.raises(TypeError, match="model must be a Detector or a wrapper of one, got"):
            dfmodels.save(wrong, tmp_path / "a.safetensors")
    for other in ("a.pth", "a", "a.tar"):
        with pytest.raises(
            ValueError, match=r"path must end in \.safetensors, .*torch\.save\(model\.state_dict\(\), path\)"
        ):
            dfmodels.save(model_of(model), tmp_path / other)
    with pytest.raises(TypeError, match=r"notes must be JSON values, got {'data': PosixPath"):
        dfmodels.save(model_of(model), tmp_path / "a.safetensors", data=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"):
        dfmodels.save(model_of(model), tmp_path / "nowhere" / "a.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(OSError, match="cannot be written: it is a folder"):
        dfmodels.save(model_of(model), tmp_path / "folder.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.safetensors"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_have_the_permissions_of_the_user(umask, model, tmp_path):
    before = os.umask(umask)
    try:
        dfmodels.save(model_of(model), tmp_path / "a.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o666 & ~umask


def interrupted(path, names):
    with atomic_write(path) as partial:
        partial.write_text("half")
        names.append(partial)
        raise KeyboardInterrupt


def test_atomic_write(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_text("old")
    link.symlink_to(path)
    names = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            interrupted(path, names)
    assert names[0] != names[1]
    assert path.read_text() == "old"
    with atomic_write(link) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.parent == path.parent
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [path, link]
