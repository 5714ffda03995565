"""Detector weights in files: our safetensors, with all that builds the detector again, and published checkpoints."""

import json
import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dfmodels import inert
from dfmodels.detector import Calibration, Detector, Origin, Published, check_detector
from dfmodels.files import atomic_write, sha256

# published key -> our key, and the index of the published tensor in ours where several are kept in one
Layout = dict[str, tuple[str, tuple[int, ...]]]

PARAMETERS = {name: name for name in ("weight", "bias")}
NORM = {name: name for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}

_META = "dfmodels"
IN_FOLDERS = ("best.safetensors", "final.safetensors", "model.safetensors")  # the first that is there
_COUNTER = "num_batches_tracked"  # missing in files written before torch 0.4.1
_MOST_LISTED = 8

# what wrappers put into the names of tensors, in front or in the middle: DataParallel, DistributedDataParallel and
# AveragedModel; torch.compile; FSDP; activation checkpointing
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_AVERAGES_SEEN = "n_averaged"  # AveragedModel's count beside the tensors of its module
# what training scripts call the weights, the first ones first; their running average; and what holds no weights
_NAMES = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "detector", "student")
_AVERAGE = re.compile(r"(^|[_.])(ema|swa|teacher|averaged?|avg|shadow|polyak)(?![a-z])", re.IGNORECASE)
_NO_WEIGHTS = re.compile(r"optim|sched|scaler|rng|random|callback|loops|hyper|config|args", re.IGNORECASE)


def renamed(published: str, ours: str, leaves: dict[str, str]) -> Layout:
    """Tensors `leaves` (published -> ours) of one module."""
    return {f"{published}.{a}": (f"{ours}.{b}", ()) for a, b in leaves.items()}


def inside(published: str, ours: str, layout: Layout) -> Layout:
    """`layout` with prefixes in front of both names."""
    return {published + key: (ours + our_key, index) for key, (our_key, index) in layout.items()}


class WeightsError(ValueError):
    """A file does not hold the weights asked for; the message names the file and what differs."""


@dataclass(frozen=True)
class Meta:
    """What `save` writes beside the tensors: registered name, options, input contract, library version, and notes."""

    name: str
    config: dict[str, Any]
    contract: dict[str, Any]
    version: str
    notes: dict[str, Any]


def save(model: nn.Module, path: str | Path, **notes: Any) -> None:
    """Write a detector as safetensors with its name, options, input contract and the library version.

    Args:
        model: a detector on any device, or one inside torch.compile, DataParallel, DistributedDataParallel or
            AveragedModel: the detector itself is written.
        path: file to write, .safetensors; an existing one is replaced only once the new one is complete, and its
            calibration removed.
        notes: further facts to keep (JSON values): training data, licence, scores. Every verdict shows them, the one
            called `note` first; those that hold names and values only a model card does.

    Raises:
        ValueError: the model has no trained weights: a file of random ones would be taken for a detector; it is an
            optimized copy, which could not be trained on; or `path` ends otherwise.
        TypeError: no detector, or notes that JSON does not know.
        WeightsError: what lies in the place of a calibration is none, and is left as it is.
        OSError: the file cannot be written.
    """
    from dfops import __version__

    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise ValueError(
            f"path must end in .safetensors, the form that is written, got {path}; "
            "for a file that torch.load reads: torch.save(model.state_dict(), path)"
        )
    detector = unwrap(model)
    check_savable(detector)
    try:
        meta = json.dumps(
            Meta(detector.name, detector.config, detector.contract.as_dict(), __version__, notes).__dict__
        )
    except (TypeError, ValueError) as error:
        raise TypeError(f"notes must be JSON values, got {notes!r}: {error}") from error
    # cloned, since safetensors takes no tensors that share memory
    tensors = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in detector.state_dict().items()
    }
    beside = calibration_file(path)
    if beside.exists():
        _calibration_in(beside)
    with atomic_write(path) as partial:
        try:
            save_file(tensors, partial, metadata={_META: meta})
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        beside.unlink(missing_ok=True)  # before other weights are there, to which it was not fitted


def check_savable(detector: Detector) -> None:
    """Raise ValueError when a detector is an optimized copy or has no trained weights."""
    if detector.optimized:
        raise ValueError("an optimized detector cannot be saved; save the model it was made from")
    if not detector.trained:
        raise ValueError(
            f"this {detector.name} detector has random weights; saved, they would be taken for a detector. "
            "Train or load it first (after a training loop of your own set model.trained = True)"
        )


def unwrap(model: nn.Module) -> Detector:
    """The detector inside the wrappers of torch, in any nesting; TypeError for anything else."""
    inner = model
    while not isinstance(inner, Detector):
        parts = dict(inner.named_children()) if isinstance(inner, nn.Module) else {}
        name = next((name for name in parts if name in _WRAPPERS), None)
        if name is None:
            raise TypeError(f"model must be a Detector or a wrapper of one, got {type(model).__name__}")
        inner = parts[name]
    check_detector(inner)
    return inner


def read(path: str | Path) -> tuple[dict[str, Tensor], Meta | None]:
    """Tensors of a file by key, and what `save` wrote about them, if it did.

    What the file is, its content tells, not its name. In a training script's file the weights are the mapping of
    tensors called "state_dict", "model" or the like, or the only one; a running average of them ("ema", "teacher") is
    taken where it is alone, and left with a warning where it is not. Objects of other classes beside the tensors are
    not looked at.

    Raises:
        WeightsError: neither safetensors nor a pickle of tensors that torch.save wrote, or more than one set of them.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"
        raise FileNotFoundError(f"weights file {path} {kind}")
    if _form(path) == "safetensors":
        return _safetensors(path)
    return _state_dict(unpickle(path), path), None


def find(source: str | Path) -> Path:
    """The file of weights in a folder: of a run, `best` before `final`, or of `save_pretrained`; a file is itself.

    Raises:
        FileNotFoundError: there is none in the folder.
    """
    source = Path(source)
    if not source.is_dir():
        return source
    for name in IN_FOLDERS:
        if (source / name).is_file():
            return source / name
    raise FileNotFoundError(
        f"{source} is no folder with weights: none of {', '.join(IN_FOLDERS)} is in it; `dfmodels train` and "
        "save_pretrained write them, or give a file of weights"
    )


def origin(path: str | Path, meta: Meta | None) -> Origin:
    """What a verdict says of the weights in the file `path`, of which `read` gave `meta`."""
    notes = {} if meta is None else dict(meta.notes)
    note = notes.pop("note", None)
    texts = [] if note is None else [str(note)]
    shown = (f"{key}: {value}" for key, value in notes.items() if not isinstance(value, dict))
    text = "; ".join([*texts, *shown])
    digest = sha256(path)
    return Origin(str(path), digest, text, _calibration(path, digest))


def calibration_file(path: str | Path) -> Path:
    """Where the calibration of the weights in `path` lies: beside them."""
    return Path(f"{path}.calibration.json")


def save_calibration(calibration: Calibration, weights: str | Path) -> Path:
    """Write a calibration beside the file of the weights that it was fitted to; they go on together.

    Returns:
        The file written.

    Raises:
        WeightsError: what lies there is no calibration, and is left as it is.
        OSError: the weights cannot be read, or the file not be written.
    """
    path = calibration_file(weights)
    if path.exists():
        _calibration_in(path)
    with atomic_write(path) as partial:
        partial.write_text(json.dumps({"weights_sha256": sha256(weights), **calibration.as_dict()}, indent=2) + "\n")
    return path


def _calibration(weights: str | Path, digest: str) -> Calibration | None:
    path = calibration_file(weights)
    if not path.exists():
        return None
    fitted_to, calibration = _calibration_in(path)
    if fitted_to != digest:
        raise WeightsError(
            f"{path} was fitted to other weights (SHA-256 {fitted_to[:12]}...) than those of {weights} "
            f"({digest[:12]}...): remove it; `dfmodels evaluate --calibrate` fits another one"
        )
    return calibration


def _calibration_in(path: Path) -> tuple[str, Calibration]:
    """SHA-256 of the weights that the file `path` calibrates, and how."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return str(content.pop("weights_sha256")), Calibration(**content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(
            f"{path} is not a calibration that `dfmodels evaluate --calibrate` wrote, move it away: "
            f"{type(error).__name__}: {error}"
        ) from error


def notes_of(origin: Origin) -> dict[str, Any]:
    """The notes beside the weights that `origin` tells of: those of its file, or as one where it is gone or another."""
    if origin.file is not None and Path(origin.file).is_file() and sha256(origin.file) == origin.sha256:
        meta = read(origin.file)[1]
        return {} if meta is None else dict(meta.notes)
    return {"note": origin.note} if origin.note else {}


def _form(path: Path) -> str:
    """What the first bytes of a file say that it is: "safetensors" or "torch"; WeightsError for anything else."""
    with path.open("rb") as file:
        head = file.read(1024)
    size = path.stat().st_size
    if not head:
        raise WeightsError(f"{path} is empty (0 bytes); download or write it again")
    header = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{":
        if 8 + header > size:
            raise WeightsError(f"{path} is not a readable safetensors file: it is cut off after {size} bytes")
        return "safetensors"
    if head.startswith(b"PK"):
        _check_archive(path, size)
        return "torch"
    if head.startswith(b"\x80"):
        return "torch"
    raise WeightsError(f"{path} is no weights file: {_guess(path, head, size)}")


def _guess(path: Path, head: bytes, size: int) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file itself; fetch that with `git lfs pull`"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<script")):
        return "it is a web page (HTML), which a download ended at; download the file itself"
    for magic, kind in _FORMATS.items():
        if head.startswith(magic):
            return f"it is {kind}"
    if head[257:262] == b"ustar":
        return (
            "it is a tar archive; unpack it and give the checkpoint inside (a file of torch before 0.1.10 has to be "
            "written again by torch.save)"
        )
    if all(byte in _TEXT for byte in head):
        return f"it is text that begins with {head[:40].decode('ascii')!r}; was the download an error message?"
    if not any(head):
        return f"its first {len(head)} bytes are zero, as a download that was broken off leaves them"
    return (
        f"its {size} bytes are neither safetensors nor what torch.save writes, they begin with {head[:8].hex(' ')}; it "
        "may be damaged"
    )


_TEXT = {*range(32, 127), *b"\t\r\n\f"}
_FORMATS = {
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"BZh": "compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "compressed by xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"\x93NUMPY": "a NumPy array",
    b"%PDF": "a PDF",
}


def _check_archive(path: Path, size: int) -> None:
    """Raise WeightsError unless a zip archive is one that torch.save wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except Exception as error:  # zipfile raises anything for damaged ones
        raise WeightsError(
            f"{path} is a checkpoint of torch that is cut off or damaged ({size} bytes): {error}; download it again"
        ) from error
    names = {name.filename.rpartition("/")[2] for name in infos}
    if "constants.pkl" in names:
        raise WeightsError(
            f"{path} is a TorchScript program, which would run: if you trust it, save the state_dict() of "
            "torch.jit.load(FILE)"
        )
    if names & {"archive_format", "serialized_exported_program.json"}:
        raise WeightsError(
            f"{path} is a program of torch.export, not weights: after `import dfops`, torch.export.load(FILE).module() "
            "runs it. Give the file that dfmodels.save or torch.save wrote of the detector"
        )
    if "data.pkl" not in names:
        raise WeightsError(f"{path} is a zip archive, but no checkpoint of torch; it holds {_some(sorted(names))}")
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos) or sum(i.file_size for i in infos) > size:
        raise WeightsError(f"{path} claims to hold more than its {size} bytes; torch.save writes nothing like it")


def _safetensors(path: Path) -> tuple[dict[str, Tensor], Meta | None]:
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(_META)
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        meta = Meta(**json.loads(text)) if text else None
    except Exception as error:  # of a damaged file, anything
        raise WeightsError(f"{path} is not a readable safetensors file: {_reason(error)}") from error
    if meta is not None and not (
        isinstance(meta.name, str) and isinstance(meta.config, dict) and isinstance(meta.notes, dict)
    ):
        raise WeightsError(f"{path} is damaged where it says which detector it holds: {text!r:.200}")
    return state, meta


def unpickle(path: str | Path, device: str | torch.device = "cpu") -> Any:
    """What a file of `torch.save` holds; objects that are neither tensors nor plain values are `inert.StandIn`.

    Nothing in the file runs.

    Raises:
        WeightsError: any other file, or a damaged one.
    """
    if _form(Path(path)) != "torch":
        raise WeightsError(f"{path} is safetensors, not a checkpoint that torch.save wrote")
    try:
        with open(path, "rb") as file:  # of a path, newer torch goes by the name
            try:
                return torch.load(file, map_location=device, weights_only=True)
            except pickle.UnpicklingError:
                file.seek(0)
                # there is more in it than weights_only knows. Without weights_only torch uses the unpickler given here,
                # which knows less: every class is a stand-in
                return torch.load(file, map_location=device, weights_only=False, pickle_module=inert)
    except Exception as error:  # of a damaged file an unpickler raises anything
        raise WeightsError(
            f"{path} is no readable checkpoint of torch (nothing but tensors is taken from one, code in a file never "
            f"runs): {_reason(error)}; it may be cut off or damaged"
        ) from error


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The weights in the content of a training script's file."""
    found = dict(_state_dicts(content))
    if not found:
        what = content.origin if isinstance(content, inert.StandIn) else type(content).__name__
        if isinstance(content, Mapping) and content:
            what += f" of {_some(map(str, content))}"
        raise WeightsError(f"{path} must hold a state dict (key -> tensor), got {what}; save model.state_dict()")

    def rank(names: tuple[str, ...]) -> tuple[bool, int]:
        order = [_NAMES.index(name) if name in _NAMES else len(_NAMES) for name in names]
        return any(map(_AVERAGE.search, names)), max(order, default=0)

    best, *others = sorted(found, key=rank)
    same = [names for names in others if rank(names) == rank(best)]
    if same:
        choices = ", ".join(".".join(names) for names in (best, *same))
        raise WeightsError(f"{path} holds several state dicts: {choices}; save the one that is meant alone")
    average = next((names for names in others if rank(names)[0]), None)
    if average is not None and not rank(best)[0]:
        _warn_of_average(path, ".".join(best) or "its own tensors", ".".join(average))
    return {key: value.detach() for key, value in found[best].items()}


def _warn_of_average(source: str | Path, taken: str, average: str) -> None:
    warnings.warn(
        f"{source} holds weights and their running average: {taken!r} is taken, {average!r} left; to take the average, "
        "save it alone",
        stacklevel=2,
    )


def _state_dicts(
    content: Any, names: tuple[str, ...] = (), above: tuple[int, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """State dicts inside a mapping, each with the names that lead to it."""
    if not isinstance(content, Mapping) or id(content) in above:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors and (len(tensors) == len(content) or any("." in key for key in tensors)):
        yield names, tensors
        return
    for name, value in content.items():
        if isinstance(name, str) and not _NO_WEIGHTS.search(name):
            yield from _state_dicts(value, (*names, name), (*above, id(content)))


def _reason(error: Exception) -> str:
    """What torch says of the file, without its advice to load it unsafely."""
    lines = str(error).split("WeightsUnpickler error:")[-1].strip().split("\n")
    return f"{type(error).__name__}: {lines[0].split(' Please use')[0]:.300}".removesuffix(": ")


def load_into(model: Published, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load every tensor of `state`, in our layout or the published one, or raise WeightsError with all differences."""
    ours = model.state_dict()
    own_layout: Layout = {key: (key, ()) for key in ours}
    published = model.published_layout()
    found = _named(state, own_layout.keys() | published.keys(), source)
    layout = max(own_layout, published, key=lambda keys: len(keys.keys() & found.keys()))
    _refuse_backbone(model, state, found, source)
    if not layout.keys() & found.keys():
        raise WeightsError(
            f"{source} does not fit {model.name} with options {model.config}: none of its {len(state)} tensors has a "
            f"name that {model.name} knows\n  names in the file: {_some(state)}\n"
            f"  names of {model.name}: {_some(published)}"
        )
    found = {name: key for name, key in found.items() if name in layout or not model.published_leaves_out(name)}
    problems = _differences(ours, layout, found, state)
    if problems:
        raise WeightsError(f"{source} does not fit {model.name} with options {model.config}:\n" + "\n".join(problems))
    model.load_state_dict(convert(model, layout, _renamed(found, state), source))


def _refuse_backbone(
    model: Published, state: Mapping[str, Tensor], found: Mapping[str, str], source: str | Path
) -> None:
    """Raise WeightsError for a file of the backbone alone; `found` are its names in the layout of the detector."""
    backbone, ours = model.backbone_layout(), model.state_dict()
    shared = {name for name, _ in backbone.values()}
    own_parts = {key: part for key, part in ours.items() if key not in shared}
    own_parts |= {key: ours[name][i] for key, (name, i) in model.published_layout().items() if name not in shared}
    # the classifier of a backbone may have the name of the detector's, but tells other classes apart
    fits = (_core(state[found[key]].shape) == _core(part.shape) for key, part in own_parts.items() if key in found)
    if not backbone or any(fits):
        return
    if {key for key in backbone if not key.endswith(_COUNTER)} <= _named(state, backbone, source).keys():
        raise WeightsError(
            f"{source} holds weights of the backbone alone, not of a {model.name} detector, so it gives no verdict; to "
            f'start a training from it: dfmodels.build("{model.name}", backbone_weights={str(source)!r})'
        )


def load_backbone(model: Published, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Load the backbone out of a file of it alone, or raise WeightsError with all differences; not trained by that."""
    layout = model.backbone_layout()
    if not layout:
        raise WeightsError(f"{model.name} knows no backbone weights; leave backbone_weights out")
    load_part(model, layout, state, source, f"the backbone of {model.name}", model.backbone_leaves_out)


def load_part(
    module: nn.Module,
    layout: Layout,
    state: Mapping[str, Tensor],
    source: str | Path,
    what: str,
    leaves_out: Callable[[str], bool] = lambda key: False,
) -> None:
    """Load a file of a part of `module`, called `what`, or raise WeightsError with all differences.

    Wrappers may have put prefixes in front of its keys, and counters of batches may be missing. Keys that `leaves_out`
    names have no counterpart.
    """
    found = _named(state, layout, source)
    found = {name: key for name, key in found.items() if name in layout or not leaves_out(name)}
    layout = {key: place for key, place in layout.items() if key in found or not key.endswith(_COUNTER)}
    problems = _differences(module.state_dict(), layout, found, state)
    if problems:
        raise WeightsError(f"{source} does not fit {what}:\n" + "\n".join(problems))
    converted = convert(module, layout, _renamed(found, state), source)
    module.load_state_dict({our_key: converted[our_key] for our_key, _ in layout.values()}, strict=False)


def unwrapped(key: str) -> str:
    """The name of a tensor without what wrappers of torch have put into it."""
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _named(keys: Collection[str], known: Collection[str], source: str | Path) -> dict[str, str]:
    """Keys of a file by what a layout with the keys `known` calls them.

    Wrappers are left out, and so is what most keys have in front of a known one.
    """
    names = {key: key if key in known else unwrapped(key) for key in keys}
    names = {key: name for key, name in names.items() if name in known or name.rpartition(".")[2] != _AVERAGES_SEEN}
    fronts: Counter[str] = Counter()
    for name in names.values():
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in known:
                fronts["".join(part + "." for part in parts[:i])] += 1
    front, average = "", ""
    if fronts:
        most = max(fronts.values())
        front, *rest = sorted(fronts, key=lambda f: (-fronts[f], _AVERAGE.search(f) is not None, len(f)))
        average = next((f for f in rest if fronts[f] == most and f != front and _AVERAGE.search(f)), "")
    if average:
        _warn_of_average(source, front, average)
        names = {key: name for key, name in names.items() if not name.startswith(average)}
    found: dict[str, str] = {}
    for key, name in names.items():
        if found.setdefault(name.removeprefix(front), key) != key:
            raise WeightsError(
                f"{source} holds {name.removeprefix(front)} twice, as {found[name.removeprefix(front)]} and {key}; "
                "save the weights that are meant alone"
            )
    return found


def _renamed(found: Mapping[str, str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: state[key] for name, key in found.items()}


def convert(
    module: nn.Module, layout: Layout, state: Mapping[str, Tensor], source: str | Path = "the state dict"
) -> dict[str, Tensor]:
    """State dict of `module` from one in `layout`; fitting it is the caller's business."""
    converted = {key: torch.empty_like(value) for key, value in module.state_dict().items()}
    for key, (our_key, index) in layout.items():
        target = converted[our_key][index]
        try:
            target.copy_(state[key].reshape(target.shape))
        except (RuntimeError, NotImplementedError) as error:  # sparse, quantized, without data
            raise WeightsError(f"{source}: {key} is no tensor of plain numbers: {_reason(error)}") from error
    return converted


def _differences(
    ours: Mapping[str, Tensor], layout: Layout, found: Mapping[str, str], state: Mapping[str, Tensor]
) -> list[str]:
    pairs = {key: (state[found[key]], ours[name][index]) for key, (name, index) in layout.items() if key in found}
    wrong = [
        f"{key} {tuple(theirs.shape)}, expected {tuple(own.shape)}"
        for key, (theirs, own) in pairs.items()
        if _core(theirs.shape) != _core(own.shape)
    ]
    # integers would be scaled codes, whose scale is not known here
    kind = [
        f"{key} {theirs.dtype}, expected floating point"
        for key, (theirs, own) in pairs.items()
        if own.is_floating_point() and not theirs.is_floating_point()
    ]
    kinds = {
        "missing": [key for key in layout if key not in found],
        "unexpected": [key for name, key in found.items() if name not in layout],
        "wrongly shaped": wrong,
        "wrongly typed": kind,
    }
    return [f"  {len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names]


def _some(names: Iterable[str]) -> str:
    """The first of some names, and how many there are beside them."""
    names = list(names)
    more = f", and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more


def _core(shape: torch.Size) -> list[int]:
    # the published layout writes matrices as 1x1 convolutions
    return [n for n in shape if n != 1]
