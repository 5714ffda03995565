"""Argument checks shared by the operators, and what all of them register alike."""

import inspect
import os
from collections.abc import Callable
from numbers import Real
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad

from dfops import _extension

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_floating(**tensors: Any) -> None:
    """Every argument is a floating-point tensor on a device that has kernels."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
        if value.dtype not in DTYPES:
            raise TypeError(f"{name} must be float64, float32, bfloat16 or float16, got {value.dtype}")
        _extension.require_kernels_for(value.device)
    if torch.compiler.is_compiling():
        return
    for name, value in tensors.items():
        if forward_ad._current_level >= 0 and forward_ad.unpack_dual(value).tangent is not None:
            raise NotImplementedError(f"{name} carries a forward-mode tangent; dfops differentiates backward only")
        if torch._C._functorch.is_gradtrackingtensor(value):
            raise NotImplementedError(
                f"{name} is differentiated by torch.func; dfops differentiates by torch.autograd (x.backward(), "
                "torch.autograd.grad) only"
            )


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """The dtype of sums over x, kept where an operator returns them: float32 for half types."""
    return torch.promote_types(x.dtype, torch.float32)


def check_axes(axes: str, **tensors: Tensor) -> None:
    """Every argument has as many axes as are named, as in "(N, C, H, W)"."""
    for name, value in tensors.items():
        if value.dim() != axes.count(",") + 1:
            raise ValueError(f"{name} must be {axes}, got shape {tuple(value.shape)}")


def check_clip(**tensors: Tensor) -> None:
    check_axes("(B, T, C, H, W)", **tensors)


def check_like(model_name: str, model: Tensor, **tensors: Tensor) -> None:
    """Every argument has the shape, dtype and device of `model`."""
    for name, value in tensors.items():
        if value.shape != model.shape:
            raise ValueError(
                f"{name} must have the shape of {model_name}, {tuple(model.shape)}, got {tuple(value.shape)}"
            )
        check_kind(model_name, model, **{name: value})


def check_kind(model_name: str, model: Tensor, **tensors: Tensor) -> None:
    """Every argument has the dtype and device of `model`."""
    for name, value in tensors.items():
        if value.dtype != model.dtype:
            raise TypeError(f"{name} must have the dtype of {model_name}, {model.dtype}, got {value.dtype}")
        check_device(model_name, model, **{name: value})


def check_device(model_name: str, model: Tensor, **tensors: Tensor) -> None:
    for name, value in tensors.items():
        if value.device != model.device:
            raise ValueError(f"{name} must be on the device of {model_name}, {model.device}, got {value.device}")


def check_index(model_name: str, model: Tensor, **tensors: Any) -> None:
    """Every argument is an int64 tensor on the device of `model`."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
        if value.dtype != torch.int64:
            raise TypeError(f"{name} must be int64, got {value.dtype}")
        check_device(model_name, model, **{name: value})


def check_number(name: str, value: Any) -> None:
    """What may be a tensor or a number is a number."""
    if isinstance(value, bool) or not isinstance(value, (Real, torch.SymInt, torch.SymFloat)):
        raise TypeError(f"{name} must be a tensor or a number, got {type(value).__name__}")


def check_values(expectation: str, holds: Callable[[], Tensor]) -> None:
    """With DFOPS_DEBUG=1 only, since it waits for the device: every element of `holds()` is true."""
    if os.environ.get("DFOPS_DEBUG") == "1" and not torch.compiler.is_compiling() and not holds().all():
        raise ValueError(expectation)


def per_map(name: str, value: Tensor | float, x: Tensor) -> Tensor:
    """One scalar an entry of the first axis of x, (N,), unrounded beside halves; a number stands for N equal ones."""
    n = x.shape[0]
    if not isinstance(value, Tensor):
        check_number(name, value)
        return x.new_full((n,), value, dtype=accumulation_dtype(x))
    check_floating(**{name: value})
    check_device("x", x, **{name: value})
    if value.shape != (n,):
        raise ValueError(f"{name} must be (N,) with N = {n} or a number, got shape {tuple(value.shape)}")
    return value


def autocast_to_widest(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Under autocast, all tensors in the widest dtype among them (as torch.add does); otherwise unchanged."""
    device = tensors[0].device.type
    if device == "meta" or not torch.is_autocast_enabled(device):  # torch has no autocast for meta, and raises
        return tensors
    widest = tensors[0].dtype
    for tensor in tensors[1:]:
        widest = torch.promote_types(widest, tensor.dtype)
    return tuple(tensor.to(widest) for tensor in tensors)


def is_channels_last(clip: Tensor) -> bool:
    """The layout in which kernels return what they compute from `clip`; mirrors clip_layout in csrc/common/tensor.h."""
    b, t, c, h, w = clip.shape

    def has(strides: tuple[int, ...]) -> bool:
        return all(n <= 1 or have == want for n, have, want in zip(clip.shape, clip.stride(), strides, strict=True))

    frame = c * h * w
    contiguous = has((t * frame, frame, h * w, w, 1))
    return not contiguous and has((t * frame, frame, 1, w * c, c))


def new_clip(model: Tensor, shape: tuple[int, ...], channels_last: bool) -> Tensor:
    """Uninitialised clip in one of the two layouts, strides as the kernels set them."""
    b, t, c, h, w = shape
    frame = c * h * w
    strides = (t * frame, frame, 1, w * c, c) if channels_last else (t * frame, frame, h * w, w, 1)
    return model.new_empty_strided(shape, strides)


def register_fake(operator: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function as the fake kernel of an operator, for tensors of one device.

    A single meta tensor brings the dispatcher here, where results on another device would hold no values.
    """

    def register(fake: Callable[..., Any]) -> Callable[..., Any]:
        names = list(inspect.signature(fake).parameters)

        def checked(*args: Any) -> Any:
            tensors = [
                (name, value)
                for name, arg in zip(names, args, strict=True)
                for value in (arg if isinstance(arg, list) else [arg])
                if isinstance(value, Tensor)
            ]
            model_name, model = tensors[0]
            for name, value in tensors[1:]:
                if value.device != model.device:
                    raise RuntimeError(
                        f"{name} must be on the device of {model_name}, {model.device}, got {value.device}"
                    )
            return fake(*args)

        torch.library.register_fake(f"dfops::{operator}", checked)
        return fake

    return register


def forbid_second_derivative(backward_operator: str) -> None:
    """Without a formula of its own, differentiating a backward operator would quietly give None."""

    def refuse(ctx: Any, *grads: Tensor) -> NoReturn:
        raise NotImplementedError(f"dfops::{backward_operator} has no second derivative")

    torch.library.register_autograd(f"dfops::{backward_operator}", refuse)
