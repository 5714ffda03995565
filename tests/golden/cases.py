"""Golden cases as objects: inputs and weights from the fixed generator, stored results, and the rules of comparison."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfmodels import weights
from tests.golden import synthetic


@dataclass
class Run:
    """What a module made of a case: outputs by name, and how its gradients are named in the published layout."""

    outputs: dict[str, Tensor]
    inputs: dict[str, Tensor]
    module: nn.Module | None = None
    layout: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    derive: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda results: {}  # what follows from the gradients


class Case:
    def __init__(self, folder: Path, facts: dict[str, Any]):
        self.folder = folder
        self.facts = facts
        self.name: str = facts["case"]
        self.args: dict[str, Any] = facts.get("args") or facts.get("config") or {}
        self.train: bool = facts["mode"] == "train"
        self.dtype = getattr(torch, facts.get("dtype", "float32"))

    @cached_property
    def stored(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / self.facts.get("npz", f"{self.name}.npz")))

    def array(self, entry: dict[str, Any]) -> Tensor:
        """An input or upstream gradient as the case describes it."""
        if "npz" in entry:
            value = torch.from_numpy(self.stored[entry["npz"]])
        elif "values" in entry:
            return torch.tensor(entry["values"], dtype=getattr(torch, entry.get("dtype", "float32")))
        else:
            drawn = synthetic.array(entry["name"], tuple(entry["shape"]), self.facts["seed"])
            value = torch.from_numpy(drawn * np.float32(entry["scale"]))
        return value.to(torch.get_default_device(), self.dtype if value.is_floating_point() else value.dtype)

    def inputs(self) -> dict[str, Tensor]:
        drawn = {argument: self.array(entry) for argument, entry in self.facts["inputs"].items()}
        return {name: x.requires_grad_(x.is_floating_point() and "upstream" in self.facts) for name, x in drawn.items()}

    def weights(self) -> dict[str, Tensor]:
        """State dict in the published layout."""
        keys = synthetic.load_keys(self.folder / self.facts["keys"])
        state = synthetic.state_dict(keys, self.facts["seed"])
        for suffix, factor in self.facts.get("weight_scale", {}).items():
            state |= {key: value * np.float32(factor) for key, value in state.items() if key.endswith(suffix)}
        tensors = {key: torch.from_numpy(value) for key, value in state.items()}
        return {key: x.to(self.dtype) if x.is_floating_point() else x for key, x in tensors.items()}

    def protocol(self) -> dict[str, Any]:
        return json.loads((self.folder / self.facts["file"]).read_text())

    def gradients(self, run: Run) -> dict[str, Tensor]:
        """`grad_<input>` and `grad_param.<published parameter>` of the upstream gradients.

        Those of an output that is differentiated alone may carry its name in front.
        """
        upstream = self.facts.get("upstream", {})
        together = {name: entry for name, entry in upstream.items() if "for" not in entry}
        result = self._differentiate(run, together) if together else {}
        for name, entry in upstream.items():
            if "for" in entry:
                alone = self._differentiate(run, {name: entry})
                named = {key: key.removeprefix(f"{name}_") for key in entry["for"]}
                result |= {key: alone[short] for key, short in named.items() if short in alone}
        return result

    def _differentiate(self, run: Run, upstream: dict[str, Any]) -> dict[str, Tensor]:
        total = sum(
            (run.outputs[name] * self.array(entry).to(self.dtype).reshape(run.outputs[name].shape)).sum()
            for name, entry in upstream.items()
        )
        inputs = {name: x for name, x in run.inputs.items() if x.requires_grad}
        parameters = dict(run.module.named_parameters()) if run.module is not None else {}
        parameters = {name: x for name, x in parameters.items() if x.requires_grad}
        wanted = [*inputs.values(), *parameters.values()]
        grads = torch.autograd.grad(total, wanted, allow_unused=True, retain_graph=True)
        grads = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, wanted, strict=True)]
        result = {f"grad_{name}": g for name, g in zip(inputs, grads, strict=False)}
        ours = dict(zip(parameters, grads[len(inputs) :], strict=True))
        for published, (key, index) in run.layout.items():
            if key in ours:
                result[f"grad_param.{published}"] = ours[key][index]
        return result

    def compare(self, name: str, actual: Tensor) -> None:
        stored = self.stored[name]
        value = actual.detach().cpu().numpy()
        if stored.dtype.kind in "iub":
            np.testing.assert_array_equal(value.reshape(stored.shape), stored, err_msg=f"{self.name}: {name}")
            return
        value = value.reshape(stored.shape)  # matrices are published as 1x1 convolutions
        tolerance = self.facts["tolerance"]
        if "grad_max_error_over_max_abs" in tolerance and name.startswith("grad"):
            bound = np.full(stored.shape, tolerance["grad_max_error_over_max_abs"] * np.abs(stored).max())
        else:
            atol = tolerance.get("atol_per_output", {}).get(name, tolerance["atol"])
            bound = atol + tolerance["rtol"] * np.abs(stored)
        error = np.abs(value.astype(np.float64) - stored)
        excess = np.where(np.isfinite(error), error - bound, np.inf)
        assert stored.size == 0 or excess.max() <= 0, (
            f"{self.name}: {name} differs by {np.nanmax(error):.3g} where {bound.flat[excess.argmax()]:.3g} is allowed "
            f"(worst at {np.unravel_index(excess.argmax(), stored.shape)})"
        )


def load_cases(folder: Path) -> list[Case]:
    return [
        Case(folder, facts) for path in sorted(folder.glob("*.cases.json")) for facts in json.loads(path.read_text())
    ]


def fill(module: nn.Module, layout: weights.Layout, case: Case, unused: str | None = None) -> nn.Module:
    """`module` in the mode and dtype of the case with its weights, but for those that begin with `unused`."""
    # some key files carry the prefix of their container
    state = {key.removeprefix("base_model."): value for key, value in case.weights().items()}
    if unused is not None:
        state = {key: value for key, value in state.items() if not key.startswith(unused)}
    module.to(case.dtype)
    assert layout.keys() == state.keys()
    module.load_state_dict(weights.convert(module, layout, state))
    return module.train(case.train)


def published_buffers(module: nn.Module, layout: weights.Layout) -> dict[str, Tensor]:
    """Running statistics by their published names."""
    ours = module.state_dict()
    return {key: ours[our_key][index] for key, (our_key, index) in layout.items() if "running" in key}


def published_keys(case: Case) -> list[str]:
    return [key.removeprefix("base_model.") for key in case.weights()]


def published_means(case: Case, buffers: dict[str, Tensor]) -> dict[str, Tensor]:
    """The mean of every running statistic in published order."""
    return {
        f"running_{name}_mean": torch.stack(
            [buffers[key].mean() for key in published_keys(case) if key.endswith(f"running_{name}")]
        )
        for name in ("mean", "var")
    }


def published_grad_norms(case: Case, results: dict[str, Tensor]) -> dict[str, Tensor]:
    """The norm of every parameter's gradient in published order."""
    parameters = [key for key in published_keys(case) if "running" not in key and "num_batches" not in key]
    return {"grad_norm": torch.stack([results[f"grad_param.{key}"].norm() for key in parameters])}
