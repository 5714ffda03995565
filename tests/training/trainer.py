"""A tiny training as a program of its own: python -m tests.training.trainer OUT JSON."""

import json
import os
import signal
import sys

import torch

from dfmodels.training import engine
from tests.training import runs


def main(out, options):
    runs.begin()
    torch.set_num_threads(1)
    kill_at, inside = options.get("kill_at"), options.get("inside", "step")
    if kill_at is not None:  # the moment: a step, or one of the steps of writing a state
        owner, name = {
            "step": (engine._Training, "_note_failed"),
            "begin": (engine.RunFolder, "begin_state"),
            "finish": (engine.RunFolder, "finish_state"),
            "swap": (os, "replace"),
            "row": (engine.RunFolder, "add_row"),
        }[inside]
        original, calls = getattr(owner, name), [0]

        def counted(*arguments, **keywords):
            result = original(*arguments, **keywords)
            calls[0] += 1
            if calls[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, counted)
    if options.get("trace"):
        original_step = engine._Training._note_failed

        def traced(self, batch):
            with open(f"{options['trace']}.{self.accelerator.process_index}", "a") as file:
                file.write(json.dumps([self.position.epoch, self.position.in_epoch, batch["video"]]) + "\n")
            original_step(self, batch)

        engine._Training._note_failed = traced
    recipe = runs.TinyRecipe().with_settings(options.get("settings", {}))
    engine.train(
        recipe,
        runs.videos(*options.get("videos", (24, 8))),
        out,
        crops=None,
        device="cpu",
        resume=options.get("resume", False),
    )


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
