"""Grouped 1 x 1 convolutions as batched matrix products.

cuDNN runs the groups one after the other: thousands of kernels a picture in DC-AE's decoder.
"""

from __future__ import annotations

import torch
from torch import nn


class GroupedProduct(nn.Conv2d):
    """A 1 x 1 convolution of several groups; the same numbers but for rounding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C', H, W)."""
        count, _, height, width = x.shape
        weight = self.weight.view(self.groups, self.out_channels // self.groups, -1)
        product = weight @ x.reshape(count, self.groups, -1, height * width)
        product = product.view(count, self.out_channels, height, width)
        return product if self.bias is None else product + self.bias[:, None, None]


def multiply_groups(model: nn.Module) -> None:
    """Has the model's grouped 1 x 1 convolutions run as products; those with a group for each channel stay."""
    for module in model.modules():
        if type(module) is nn.Conv2d and 1 < module.groups < module.in_channels and _pointwise(module):
            module.__class__ = GroupedProduct


def _pointwise(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == conv.stride == (1, 1) and conv.padding == (0, 0)
