"""What docs/stil.md shows runs as it stands there."""

import inspect
import re
from pathlib import Path

import pytest

from dfmodels.detectors.stil import STILBlock
from dfmodels.registry import builder

PAGE = (Path(__file__).parents[2] / "docs" / "stil.md").read_text(encoding="utf-8")


def code(section):
    """The Python blocks of a section ("" is the page's head)."""
    text = PAGE.split(f"\n## {section}\n")[1] if section else PAGE
    return re.findall(r"```python\n(.*?)```", text.split("\n## ")[0], re.DOTALL)


def run(blocks):
    names = {}
    for block in blocks:
        exec(compile(block, "docs/stil.md", "exec"), names)
    return names


def test_first_example():
    names = run(code(""))
    assert names["logits"].shape == (1, 2)
    assert {kind: len(maps) for kind, maps in names["maps"].items()} == {"SIM": 16, "TIM": 16}


def test_in_your_own_network():
    names = run(code("In your own network"))
    assert names["losses"][-1] < 0.7 * names["losses"][0]
    blocks = [module for module in names["network"].modules() if isinstance(module, STILBlock)]
    assert len(blocks) == 8
    for block in blocks:
        without = [name for name, p in block.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not without
        assert all(p.grad.count_nonzero() for p in block.parameters() if p.dim() > 1)


def test_the_network_takes_five_lines():
    (block,) = code("In your own network")
    network = block[block.index("class Basic") : block.index("# rendered clips")]
    lines = [line for line in network.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) == 5
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("option", re.findall(r"`(\w+)=", PAGE.split("## Options")[1].split("## Frames")[0]))
def test_options_on_the_page_exist(option):
    assert option in inspect.signature(builder("stil")).parameters
