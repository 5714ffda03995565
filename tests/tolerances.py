"""The one table of tolerances: torch's for float32 and float64, the reference's own error for halves; equal bits."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def assert_matches(actual: Tensor, reference: Tensor) -> None:
    """float32 and float64, and any exact dtype: torch's defaults, dtype and device included."""
    torch.testing.assert_close(actual, reference, equal_nan=True)


def assert_no_worse(actual: Tensor, exact: Tensor, same_dtype: Tensor, floor: float = 2e-3) -> None:
    """Half types: the error against float64 is at most twice that of the reference run in the same dtype."""
    assert actual.dtype == same_dtype.dtype
    if actual.numel() == 0:
        return
    error = (actual.double() - exact).abs().max().item()
    allowed = 2 * (same_dtype.double() - exact).abs().max().item() + floor * exact.abs().max().item()
    assert error <= allowed, f"error {error:.3g} where the reference in {actual.dtype} allows {allowed:.3g}"


def assert_repeats(compute: Callable[[], Iterable[Tensor]]) -> None:
    """The same bits in five runs."""
    first = list(compute())
    for _ in range(4):
        for one, again in zip(first, compute(), strict=True):
            assert torch.equal(one, again)


def assert_threads_agree(compute: Callable[[], Iterable[Tensor]]) -> None:
    """The same bits on one thread and on two."""
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(list(compute()))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
