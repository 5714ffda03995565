"""Where CUDA kernels run, and how what a GPU does is looked at."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# the CUDA library on CPU tensors (--emulated), and on a GPU
WHERE = [
    pytest.param("cpu", marks=pytest.mark.emulated, id="emulated"),
    pytest.param("cuda", marks=pytest.mark.cuda, id="cuda"),
]


class HostReads(TorchDispatchMode):
    """Notes every call whose result, or the shape of it, the host has to read from a tensor's values."""

    READS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        whole = func is torch.ops.aten.index.Tensor and all(x is None or x.dtype == torch.int64 for x in args[1])
        if any(tag in func.tags for tag in self.READS) and not whole:
            self.calls.append(str(func))
        return func(*args, **(kwargs or {}))


@contextmanager
def no_synchronisation(device: str) -> Iterator[None]:
    """Fail if the host waits for a GPU; without one, if it reads a value."""
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    else:
        with HostReads() as reads:
            yield
        assert not reads.calls, reads.calls


def capture(function: Callable[[], object]) -> tuple[torch.cuda.CUDAGraph, object]:
    """A CUDA graph of a call, and where its replays leave the results."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # whatever is set up at first is not captured
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return graph, results
