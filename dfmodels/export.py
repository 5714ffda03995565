"""Detectors as files for other runtimes."""

import copy
import json
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from dfmodels.files import atomic_write
from dfmodels.optional import require
from dfmodels.weights import unwrap


def export_onnx(model: nn.Module, path: str | Path, *, size: tuple[int, int] | None = None) -> None:
    """Write a detector as an ONNX file, which runs without torch and dfops.

    The file holds the detector in evaluation mode, with the plain formulas of `dfops.reference` in the place of its
    operators: input `clip` (B, T, 3, H, W), normalised as `contract` says, output `logits` (B, num_classes), in the
    dtype of the weights. onnxruntime agrees with the detector to 1e-5. B, H and W are free, and so is T where the
    detector takes any; below the sizes that the detector accepts the result means nothing. The metadata `name`,
    `config`, `contract` (JSON) and `trained` ("True" or "False") say what it is.

    Args:
        model: any detector, also an optimized one or one inside the wrappers that `dfmodels.save` takes; it stays as
            it is.
        path: of the file to write, as "detector.onnx".
        size: height and width of the clip that is traced, if not those of the contract; the larger, the slower.

    Raises:
        ImportError: onnx or onnxscript is not installed.
        TypeError: no detector.
        OSError: the file cannot be written.
    """
    detector = copy.deepcopy(unwrap(model)).eval()
    for package in ("onnx", "onnxscript"):
        require(package, "export_onnx")
    weight = next(detector.parameters())
    # what is 1 in the example stays 1: two clips of two frames at least
    shape = (2, max(2, detector.contract.num_frames), 3, *(size or detector.contract.size))
    free = dict.fromkeys((0, 1, 3, 4), torch.export.Dim.AUTO)
    with atomic_write(path) as partial, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        program = torch.onnx.export(
            detector,
            (torch.zeros(shape, dtype=weight.dtype, device=weight.device),),
            input_names=["clip"],
            output_names=["logits"],
            dynamic_shapes=(free,),
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.model.metadata_props.update(
            name=detector.name,
            config=json.dumps(detector.config),
            contract=json.dumps(detector.contract.as_dict()),
            trained=str(detector.trained),
            weights=json.dumps(asdict(detector.origin)),
        )
        program.save(partial)
