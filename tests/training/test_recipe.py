"""Recipes: names, settings, and what is said of wrong ones."""

from dataclasses import dataclass, fields
from typing import ClassVar

import pytest
import torch
import yaml
from torch import nn

from dfmodels.training import recipe as recipes
from dfmodels.training.recipe import Recipe, find_recipe, list_recipes, register
from tests.models.test_detectors import SMALL
from tests.training import runs

pytestmark = pytest.mark.usefixtures("tiny")


@dataclass(frozen=True)
class Own(Recipe):
    name: ClassVar[str] = "own"
    detector: ClassVar[str] = "ddl"
    sides: tuple[float, float] = (1.0, 1.5)
    layers: tuple[int, ...] = ()
    warm_up: int | None = None


@pytest.fixture(params=list_recipes())
def published(request):
    return find_recipe(request.param)


def test_every_recipe_makes_an_objective_that_trains_its_detector(published):
    torch.manual_seed(0)
    small = {f"model.{key}": value for key, value in SMALL[published.detector].items()}
    own = {"real_encoder": "student", "untrained_real_encoder": True} if published.name == "lsda" else {}
    objective = published.with_settings({**small, **own}).objective(runs.videos())
    assert objective.student.name == published.detector
    assert not objective.student.trained
    optimizer = published.optimizer(objective)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in objective.student.parameters() if p.requires_grad} <= trained
    assert optimizer.param_groups[0]["lr"] == published.learning_rate
    schedule = published.schedule(optimizer, 5)
    optimizer.step()
    schedule.step()


def test_every_recipe_is_settled_by_its_file(published):
    content = published.as_dict()
    assert content == yaml.safe_load(yaml.safe_dump(content))
    assert content["recipe"] == published.name
    known = {entry.name for entry in fields(published)} - {"model"}
    again = find_recipe(content["recipe"]).with_settings({name: content[name] for name in known})
    assert again == published


def test_unknown_recipes():
    with pytest.raises(ValueError, match="unknown recipe 'stll'; did you mean 'stil'"):
        find_recipe("stll")


def test_a_name_that_is_taken(monkeypatch):
    monkeypatch.setattr(recipes, "_RECIPES", dict(recipes._RECIPES))
    register("own")(Own)
    assert find_recipe("own") == Own()
    with pytest.raises(ValueError, match="a recipe named 'own' is registered already"):
        register("own")(Own)


def test_settings():
    changed = Own().with_settings(
        {"learning_rate": 1, "epochs": 3, "model.size": 64, "sides": [1, 2], "layers": [1, 2, 3], "warm_up": 5}
    )
    assert changed == Own(
        learning_rate=1.0, epochs=3, model={"size": 64}, sides=(1.0, 2.0), layers=(1, 2, 3), warm_up=5
    )
    assert type(changed.learning_rate) is float
    assert changed.with_settings({"warm_up": None, "model.num_frames": 4}) == Own(
        learning_rate=1.0, epochs=3, model={"size": 64, "num_frames": 4}, sides=(1.0, 2.0), layers=(1, 2, 3)
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1}, "recipe own has no setting 'learning_rat'; did you mean 'learning_rate'"),
        ({"model": {}}, "recipe own has no setting 'model'"),
        ({"model.sise": 64}, "ddl has no option 'sise'; did you mean 'size'.*model.KEY=VALUE"),
        ({"size": 64}, r"recipe own has no setting 'size'; .*model\.KEY"),
        ({"epochs": 1.0}, "epochs must be a whole number, got 1.0"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, got 'fast'"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0, got nan"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0, got 0.0"),
        ({"freeze_norms": 1}, "freeze_norms must be true or false, got 1"),
        ({"best_metric": 1}, "best_metric must be a word, got 1"),
        ({"best_metric": "acc"}, "best_metric must be a metric, got 'acc'; did you mean .*'accuracy'"),
        ({"balance": "over"}, "balance must be one of 'none', 'oversample', got 'over'"),
        ({"precision": "half"}, "precision must be one of 'fp32', 'fp16', 'bf16', got 'half'"),
        ({"average": 1}, "average must be a number from 0 to below 1, got 1.0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"seed": 2**63}, r"seed must be a number below 2\^63"),
        ({"sides": [1]}, r"sides must be \[a number, a number\], got \[1\]"),
        ({"sides": [1, "a"]}, r"sides must be a number, got 'a'"),
        ({"margins": [2, 1]}, r"margins must be two ascending numbers above 0, got \(2.0, 1.0\)"),
        ({"margins": 1.3}, r"margins must be \[a number, a number\], or null, got 1.3"),
        ({"margins": [1, float("inf")]}, r"margins must be two ascending numbers above 0, got \(1.0, inf\)"),
        ({"layers": 3}, r"layers must be \[a whole number, ...\], got 3"),
        ({"warm_up": "a"}, "warm_up must be a whole number, or null, got 'a'"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ValueError, match=message):
        Own().with_settings(settings)


def test_the_optimizer_leaves_alone_what_is_frozen():
    module = nn.Linear(1, 1)
    module.bias.requires_grad_(False)
    (group,) = Own().optimizer(module).param_groups
    assert group["params"] == [module.weight]
