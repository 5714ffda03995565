"""Detectors in folders, and on the Hugging Face Hub, by the mixin of `huggingface_hub`.

A folder holds `model.safetensors` as `dfmodels.save` writes it, `config.json` for the hub's own pages, and the model
card `README.md`. Nothing is fetched but by the name of a repository on the hub.
"""

import json
import re
from pathlib import Path
from typing import Any

from dfmodels import registry, weights
from dfmodels.detector import Detector
from dfmodels.optional import require

FILE = "model.safetensors"
CARD = "README.md"
# the rest of what a card says of the weights comes under its own name
SECTIONS = {"recipe": "Recipe", "metrics": "Metrics", "data": "Training data"}
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def save_pretrained(detector: Detector, folder: str | Path, **notes: Any) -> None:
    """`Detector.save_pretrained`."""
    weights.check_savable(detector)
    if str(folder) == "":
        raise ValueError("folder must be a folder or new, got an empty name, which would be the folder at hand")
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"folder must be a folder or new, but {folder} is a file")
    if (folder / FILE).is_file():
        (folder / CARD).unlink(missing_ok=True)  # the mixin would keep it, and it tells of those weights
    _mixin()(detector, notes).save_pretrained(folder, config=_config(detector))


def push_to_hub(detector: Detector, repository: str, options: dict[str, Any], notes: dict[str, Any]) -> str:
    """`Detector.push_to_hub`."""
    weights.check_savable(detector)
    url: str = _mixin()(detector, notes).push_to_hub(repository, config=_config(detector), **options)
    return url


def from_pretrained(source: str | Path, **options: Any) -> Detector:
    """`Detector.from_pretrained`."""
    if str(source) == "":
        raise ValueError("source must be a folder or the name of a repository, got an empty one")
    local = Path(source)
    if local.is_dir():
        if not (local / FILE).is_file():
            raise FileNotFoundError(f"{local} holds no {FILE}; save_pretrained writes it, a file alone: dfmodels.load")
        return registry.load(local / FILE)  # without the hub's package, which it does not take
    if local.exists():
        raise NotADirectoryError(f"{source} is a file, not a folder; load it with dfmodels.load({str(source)!r})")
    if not isinstance(source, str) or not _REPOSITORY.fullmatch(source):
        raise FileNotFoundError(
            f"{source} is no folder here, and no name of a repository on the hub, which is OWNER/NAME"
        )
    detector: Detector = _mixin().from_pretrained(source, **options).detector
    return detector


def card(detector: Detector, notes: dict[str, Any]) -> str:
    """The model card: what the detector is and wants to see, and what the notes tell of its weights."""
    contract = detector.contract
    rest = {key: value for key, value in notes.items() if key not in (*SECTIONS, "licence", "license")}
    head = {
        "library_name": "dfmodels",
        "pipeline_tag": "video-classification",
        "tags": ["deepfake-detection", detector.name],
    }
    licence = notes.get("licence", notes.get("license"))
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items())]
    if licence is not None:
        lines += ["license: other", f"license_name: {json.dumps(str(licence))}"]
    sees = "single frames" if contract.num_frames == 1 else f"clips of {contract.num_frames} frames"
    options = {key: value for key, value in detector.config.items() if value is not None}
    lines += [
        "---",
        f"# {detector.name}: a deepfake detector of dfmodels",
        "",
        "```python",
        "import dfmodels",
        "",
        'detector = dfmodels.Detector.from_pretrained("THIS_FOLDER_OR_REPOSITORY")',
        "```",
        "",
        f"Sees {sees}, face crops of {contract.size[0]} x {contract.size[1]} pixels "
        f"({contract.crop}, margin {contract.margin}); gives logits of class 0, real, and class 1, fake.",
        "",
        f"Options: `{json.dumps(options)}`",
    ]
    for key, title in SECTIONS.items():
        lines += ["", f"## {title}", "", *_said(notes.get(key, "Not recorded."))]
    lines += ["", "## Licence", "", *_said("Not recorded." if licence is None else licence)]
    if rest:
        lines += ["", "## Notes", "", *_said(rest)]
    source = detector.origin
    if source.file is not None:
        lines += ["", f"The weights were read from `{Path(source.file).name}`, SHA-256 `{source.sha256}`."]
    return "\n".join(lines) + "\n"


def _said(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"- {key}: {entry if isinstance(entry, str) else json.dumps(entry)}" for key, entry in value.items()]
    return [value if isinstance(value, str) else json.dumps(value)]


def _config(detector: Detector) -> dict[str, Any]:
    return {"detector": detector.name, "options": detector.config, "contract": detector.contract.as_dict()}


def _mixin() -> Any:
    """A class on the mixin of the hub, whose package is imported here, around a detector."""
    hub = require("huggingface_hub", "the Hugging Face Hub")

    class OnHub(hub.ModelHubMixin):  # type: ignore[name-defined]
        def __init__(self, detector: Detector, notes: dict[str, Any]):
            self.detector = detector
            self.notes = {**weights.notes_of(detector.origin), **notes}

        def _save_pretrained(self, save_directory: Path) -> None:
            weights.save(self.detector, save_directory / FILE, **self.notes)

        def generate_model_card(self, *args: Any, **options: Any) -> Any:
            return hub.ModelCard(card(self.detector, self.notes))

        @classmethod
        def _from_pretrained(cls, *, model_id: str, **options: Any) -> Any:
            known = ("revision", "cache_dir", "force_download", "local_files_only", "token")
            fetched = {key: options[key] for key in known if key in options}
            return cls(registry.load(hub.hf_hub_download(model_id, FILE, **fetched)), {})

    return OnHub
