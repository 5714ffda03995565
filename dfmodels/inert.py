"""Pickles read without running anything of theirs: the `pickle_module` that torch.load is given for checkpoints.

A training script leaves its options beside the weights, as objects of classes that nobody else has. Here nothing that a
pickle names is looked up or imported. A name is a `StandIn`, and so is all that calling it or building with it would
give. The few functions that make tensors of storages are ours, and the only ones that are called.
"""

import pickle
from collections.abc import Callable
from typing import IO, Any, ClassVar

import torch
from torch import Tensor


class StandIn(dict[Any, Any]):
    """In the place of any object: keeps items, for it may be a mapping, forgets all else and does nothing.

    Attributes:
        origin: what the pickle called it, or what it was made of.
    """

    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__
    __ne__ = object.__ne__

    def __init__(self, origin: str, items: Any = ()):
        super().__init__(items)
        self.origin = origin

    def append(self, value: object) -> None:
        """As lists and sets are filled."""

    add = extend = append


class Maker:
    """One of the functions that may be called."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]):
        self.make = make


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *unused: object) -> Tensor:
    return torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage, offset, size, stride)


MAKERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *unused: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *unused: data,
    "torch._tensor._rebuild_from_type_v2": lambda maker, kind, arguments, state: maker.make(*arguments),
    "torch.Size": tuple,
    "collections.OrderedDict": lambda items=(): StandIn("collections.OrderedDict", items),
}


# the one in Python: that in C makes room for the highest number in its memo, however high a damaged file puts it
class Unpickler(pickle._Unpickler):
    """An unpickler that looks nothing up and calls nothing but `MAKERS`."""

    stack: list[Any]
    append: Callable[[object], None]

    def find_class(self, module: str, name: str) -> Any:
        origin = f"{module}.{name}"
        return Maker(MAKERS[origin]) if origin in MAKERS else StandIn(origin)

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError("names by number are for one machine alone")

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.append(function.make(*arguments) if isinstance(function, Maker) else StandIn(_origin(function)))

    def call_with_keywords(self) -> None:
        self.stack.pop()
        self.call()

    def _instantiate(self, function: Any, arguments: list[Any]) -> None:
        """The opcodes INST and OBJ."""
        self.stack += [function, tuple(arguments)]
        self.call()

    def forget_state(self) -> None:
        self.stack.pop()

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: call,
        pickle.NEWOBJ[0]: call,
        pickle.NEWOBJ_EX[0]: call_with_keywords,
        pickle.BUILD[0]: forget_state,
    }


def _origin(value: object) -> str:
    return value.origin if isinstance(value, StandIn) else type(value).__name__


def load(file: IO[bytes], **options: Any) -> Any:
    """As `pickle.load`."""
    return Unpickler(file, **options).load()
