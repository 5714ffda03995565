"""Mean of the levels of a pooling pyramid, each repeated to full length along one axis."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dfops import reference
from dfops.ops._axes import dimension_of, with_length
from dfops.ops._checks import (
    accumulation_dtype,
    autocast_to_widest,
    check_clip,
    check_floating,
    check_kind,
    forbid_second_derivative,
    is_channels_last,
    new_clip,
    register_fake,
)

_MOST_PARTS = 8  # kernels hold the parts in an argument of fixed size


def strip_merge(parts: Sequence[Tensor], size: int, *, axis: str) -> Tensor:
    """Repeat every part to `size` along one axis (nearest neighbour) and average them, in one pass.

    out[i] = mean over parts of part[i * length // size]

    The source position is computed in integers, so sizes that do not divide work; it equals
    F.interpolate(mode="nearest") for power-of-two ratios, not for every one.

    Args:
        parts: 1 to 8 clips (B, T, C, H, W) that agree in all axes but `axis`, in dtype and in device; floating point.
            Under autocast they are brought to the widest dtype among them.
        size: length of the result along `axis`.
        axis: "T", "H" or "W".

    Returns:
        The common shape with `size` along `axis`, memory layout of the first part.

    Raises:
        ValueError: a shape, device, axis or size other than the ones above; an empty part with size > 0.
        TypeError: a dtype other than the ones above, or no tensor.

    Differentiable in all parts.

    >>> fine, coarse = torch.arange(4.0).reshape(1, 4, 1, 1, 1), torch.tensor([10.0, 20.0]).reshape(1, 2, 1, 1, 1)
    >>> out = dfops.strip_merge([fine, coarse], 4, axis="T")
    >>> out.shape, out.flatten().tolist()
    (torch.Size([1, 4, 1, 1, 1]), [5.0, 5.5, 11.0, 11.5])

    Source: DDL, IEEE TIFS 2023, MSA.
    """
    dim = dimension_of(axis)
    parts = list(parts)
    if not 1 <= len(parts) <= _MOST_PARTS:
        raise ValueError(f"parts must hold 1 to {_MOST_PARTS} tensors, got {len(parts)}")
    if isinstance(size, bool) or not isinstance(size, (int, torch.SymInt)) or size < 0:
        raise ValueError(f"size must be an integer and not negative, got {size!r}")
    check_floating(**{f"parts[{i}]": part for i, part in enumerate(parts)})
    parts = list(autocast_to_widest(*parts))
    check_clip(**{f"parts[{i}]": part for i, part in enumerate(parts)})
    for i, part in enumerate(parts):
        if with_length(part, dim, 0) != with_length(parts[0], dim, 0):
            raise ValueError(
                f"parts[{i}] must agree with parts[0] in all axes but {axis}, {tuple(parts[0].shape)}, "
                f"got {tuple(part.shape)}"
            )
        if size > 0 and part.shape[dim] == 0:
            raise ValueError(f"parts[{i}] is empty along {axis}, so it cannot be repeated to size {size}")
        check_kind("parts[0]", parts[0], **{f"parts[{i}]": part})
    if reference.is_active():
        return reference.strip_merge(parts, size, axis=axis)
    # the compiler fuses the plain formula with its neighbours, which gains more than the kernel does; measured on CPU:
    # 1.2 to 2.9 times, forward and backward, both layouts. Its gather for other sizes has a slow backward.
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting() and _repeats_whole(parts, size, dim):
        return _repeat_and_average(parts, size, dim)
    return torch.ops.dfops.strip_merge(parts, size, dim)


def _repeats_whole(parts: list[Tensor], size: int, dim: int) -> bool:
    """Whether `size` is a multiple of every length, for all sizes that the compiled code is to serve."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # takes half a second

    return statically_known_true(size > 0) and all(statically_known_true(size % part.shape[dim] == 0) for part in parts)


def _repeat_and_average(parts: list[Tensor], size: int, dim: int) -> Tensor:
    # in the order of memory, so that the result has the layout of the first part
    order = (0, 1, 3, 4, 2) if is_channels_last(parts[0]) else (0, 1, 2, 3, 4)
    back = (0, 1, 4, 2, 3) if is_channels_last(parts[0]) else order
    accumulated = accumulation_dtype(parts[0])
    place = order.index(dim)
    total: Tensor | None = None
    for part in parts:
        rows = part.permute(order).contiguous().to(accumulated)
        shape = list(rows.shape)
        repeated = [*shape[: place + 1], size // shape[place], *shape[place + 1 :]]
        shape[place] = size
        rows = rows.unsqueeze(place + 1).expand(repeated).reshape(shape)
        total = rows if total is None else total + rows
    assert total is not None
    return (total / len(parts)).to(parts[0].dtype).permute(back)


@register_fake("strip_merge")
def _(parts: list[Tensor], size: int, axis: int) -> Tensor:
    return new_clip(parts[0], with_length(parts[0], axis, size), is_channels_last(parts[0]))


@register_fake("_strip_merge_backward")
def _(grad: Tensor, lengths: list[int], axis: int) -> list[Tensor]:
    channels_last = is_channels_last(grad)
    return [new_clip(grad, with_length(grad, axis, length), channels_last) for length in lengths]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    parts, _, ctx.axis = inputs
    ctx.lengths = [part.shape[ctx.axis] for part in parts]
    ctx.to_contiguous = [part.shape[0] * part.shape[1] == 1 and not is_channels_last(part) for part in parts]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    grads = torch.ops.dfops._strip_merge_backward(grad, ctx.lengths, ctx.axis)
    # Folded to (1, C, H, W), a channels-last clip of one frame gets a batch stride of C, with which torch's batch_norm
    # backward silently misreads it beside a contiguous input (seen up to torch 2.13).
    grads = [g.contiguous() if copy else g for g, copy in zip(grads, ctx.to_contiguous, strict=True)]
    return grads, None, None


torch.library.register_autograd("dfops::strip_merge", _backward, setup_context=_setup_context)
forbid_second_derivative("_strip_merge_backward")
