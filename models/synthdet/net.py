"""The network: a small residual backbone down to stride 32 and a top-down path up to stride 4; convolutions and ReLU.

Two levels answer. Stride 8 finds people; stride 4 finds the ball, which is four pixels wide at the default input. The
output is the YOLOX head's: per level the raw box (cx, cy, w, h), then objectness and classes after their sigmoid.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.utils.fusion import fuse_conv_bn_eval

from . import BALL, CLASSES, PLAYER

STRIDES = (4, 8)
# Which level looks for which class. A constant, not a matter of size: a class lives on one grid, so no object is asked
# for twice and no range of sizes falls between two levels.
LEVEL_OF_CLASS = {BALL: 0, PLAYER: 1}
# Box sizes that an untrained head starts from, in input pixels.
PRIOR_SIZE = ((6.0, 6.0), (16.0, 40.0))
# Chance of an object in a cell that an untrained head starts from.
PRIOR_OBJECT = 0.01
# What training multiplies pixels with and `fuse` folds into the first layer. No offset: the layer's zero padding would
# not follow it.
PIXEL_SCALE = 1 / 64


class Conv(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu()

    def fuse(self) -> None:
        self.conv, self.norm = fuse_conv_bn_eval(self.conv, self.norm), nn.Identity()


class Residual(nn.Module):
    """Halves the channels, looks around, adds: a dense 3x3 is faster on a CPU than a depthwise pair of equal reach."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(Conv(channels, channels // 2, 1), Conv(channels // 2, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Head(nn.Conv2d):
    """The answer of one level: 4 box numbers, objectness, one number a class."""

    def __init__(self, channels: int, stride: int, prior_size: tuple[float, float]):
        super().__init__(channels, 5 + len(CLASSES), 1)
        nn.init.normal_(self.weight, std=0.01)
        with torch.no_grad():
            self.bias.zero_()
            self.bias[:2] = 0.5
            self.bias[2:4] = torch.tensor([math.log(side / stride) for side in prior_size])
            self.bias[4] = math.log(PRIOR_OBJECT / (1 - PRIOR_OBJECT))


class Detector(nn.Module):
    def __init__(self, c2: int = 8, c4: int = 16, c8: int = 32, c16: int = 64, c32: int = 128, wide: int = 64):
        super().__init__()
        self.down4 = nn.Sequential(Conv(3, c2, 3, 2), Conv(c2, c4, 3, 2))
        self.down8 = nn.Sequential(Conv(c4, c8, 3, 2), Residual(c8))
        self.down16 = nn.Sequential(Conv(c8, c16, 3, 2), Residual(c16), Residual(c16))
        self.down32 = nn.Sequential(Conv(c16, c32, 3, 2), Residual(c32))
        self.up16, self.mix16 = Conv(c32, c16, 1), Residual(c16)
        self.up8, self.mix8 = Conv(c16, c8, 1), Residual(c8)
        # People differ in more ways than the path to stride 4 needs to know.
        self.wide8 = nn.Sequential(Conv(c8, wide, 3), Residual(wide))
        self.up4, self.mix4 = Conv(c8, c4, 1), Residual(c4)
        self.heads = nn.ModuleList(
            Head(channels, stride, size) for channels, stride, size in zip((c4, wide), STRIDES, PRIOR_SIZE, strict=True)
        )

    def levels(self, pictures: Tensor) -> list[Tensor]:
        """Raw answers before any sigmoid, `[batch, 5 + classes, height / stride, width / stride]` a level.

        Pictures are RGB, 0 to 255, times `PIXEL_SCALE` until `fuse` has folded that in."""
        p4 = self.down4(pictures)
        p8 = self.down8(p4)
        p16 = self.down16(p8)
        p32 = self.down32(p16)
        p16 = self.mix16(p16 + twice(self.up16(p32)))
        p8 = self.mix8(p8 + twice(self.up8(p16)))
        p4 = self.mix4(p4 + twice(self.up4(p8)))
        return [head(features) for head, features in zip(self.heads, (p4, self.wide8(p8)), strict=True)]

    def forward(self, pictures: Tensor) -> Tensor:
        """The exported graph: `[batch, n, 5 + classes]`, levels one after the other, rows of a level left to right."""
        flat = (torch.cat([level[:, :4], level[:, 4:].sigmoid()], 1).flatten(2) for level in self.levels(pictures))
        return torch.cat(list(flat), 2).transpose(1, 2)

    def fuse(self) -> "Detector":
        """Folds normalisation and pixel scale into the convolutions, for export. In place; training ends here."""
        self.eval()
        for module in self.modules():
            if isinstance(module, Conv):
                module.fuse()
        with torch.no_grad():
            self.down4[0].conv.weight.mul_(PIXEL_SCALE)
        return self


def twice(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0, mode="nearest")
