"""The examples in the public docstrings of dfops: every one has some, and they show what happens."""

import doctest
import inspect

import pytest
import torch

import dfops
from dfops import augment

PUBLIC = {f"dfops.{name}": getattr(dfops, name) for name in dfops.__all__ if callable(getattr(dfops, name))}
PUBLIC |= {
    f"dfops.augment.{name}": value
    for name, value in vars(augment).items()
    if not name.startswith("_") and inspect.getmodule(value) is augment
}
PUBLIC["dfops.reference"] = dfops.reference


@pytest.mark.parametrize("name", PUBLIC)
def test_examples(name):
    finder = doctest.DocTestFinder(recurse=False)
    (examples,) = finder.find(PUBLIC[name], name, globs={"torch": torch, "dfops": dfops})
    assert examples.examples, f"{name} shows no example"
    said = []
    result = doctest.DocTestRunner().run(examples, out=said.append)
    assert result.failed == 0, "".join(said)
