"""The training loop."""

import pytest
import torch

from dfmodels.training.loop import fit
from tests.models.test_detectors import small


def test_learns_what_is_there_to_learn():
    model = small("ddl")
    generator = torch.Generator().manual_seed(0)
    still = torch.rand(12, 1, 3, 32, 32, generator=generator).expand(-1, 8, -1, -1, -1)
    jumpy = torch.rand(12, 8, 3, 32, 32, generator=generator)
    clips = [(clip, label) for pair in zip(still, jumpy, strict=True) for label, clip in enumerate(pair)]
    losses = []
    fit(model, clips, epochs=10, batch_size=8, learning_rate=5e-3, progress=losses.append)
    assert len(losses) == 30
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    assert model.trained
    assert not model.training
    assert model.predict(jumpy).min() > model.predict(still).max()


def test_fewer_clips_than_a_batch():
    with pytest.raises(ValueError, match="at least one batch of 8, got 1"):
        fit(small("ddl"), [(torch.zeros(8, 3, 32, 32), 0)], epochs=1, batch_size=8, learning_rate=1e-3)
