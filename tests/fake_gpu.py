"""A GPU that is not there: CUDA tensors that know their shape, type and device but hold no numbers.

An operation on tensors of two devices raises, as it would on the GPU. What depends on values (choosing, drawing) and
backward passes cannot run.
"""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode


def fake_gpu() -> FakeTensorMode:
    """The context in which `device="cuda"` works; load what comes from files before it."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def moved(module: torch.nn.Module, gpu: FakeTensorMode) -> torch.nn.Module:
    """`module` with fake CUDA tensors in the place of its own."""
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    fake = gpu.from_tensor(tensor.detach()).to("cuda")
                    is_parameter = isinstance(tensor, torch.nn.Parameter)
                    tensors[name] = torch.nn.Parameter(fake, tensor.requires_grad) if is_parameter else fake
    return module
