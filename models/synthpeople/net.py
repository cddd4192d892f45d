"""The two networks, of the detector's own blocks: dense convolutions and ReLU, few channels, no more than a CPU can spare.

Pictures are RGB, 0 to 255, times `PIXEL_SCALE` until `fuse` has folded that into the first layer.
"""

import torch
from torch import Tensor, nn

from synthdet.net import PIXEL_SCALE, Conv, Residual

# Network inputs [width, height].
PERSON_SIZE, NUMBER_SIZE = (64, 128), (64, 48)
# Numbers of an embedding.
WIDTH = 128
# What the reader may answer at a place: ten digits, or nothing.
ALPHABET = "0123456789"
BLANK = len(ALPHABET)


class Fusable(nn.Module):
    def fuse(self) -> "Fusable":
        """Folds normalisation and pixel scale into the convolutions, for export. In place; training ends here."""
        self.eval()
        convolutions = [module for module in self.modules() if isinstance(module, Conv)]
        for module in convolutions:
            module.fuse()
        with torch.no_grad():
            convolutions[0].conv.weight.mul_(PIXEL_SCALE)
        return self


class Embedder(Fusable):
    """`[n, 3, 128, 64]` to `[n, 128]`, of any length: who compares them normalises them.

    Its last map, eight by four, is flattened and not averaged: what somebody wears differs from head to foot."""

    def __init__(self, c2: int = 12, c4: int = 24, c8: int = 48, c16: int = 96, narrow: int = 32):
        super().__init__()
        self.body = nn.Sequential(
            *(Conv(3, c2, 3, 2), Conv(c2, c4, 3, 2), Residual(c4)),
            *(Conv(c4, c8, 3, 2), Residual(c8), Residual(c8)),
            *(Conv(c8, c16, 3, 2), Residual(c16), Conv(c16, narrow, 1)),
        )
        self.answer = nn.Linear(narrow * (PERSON_SIZE[0] // 16) * (PERSON_SIZE[1] // 16), WIDTH)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.answer(self.body(pictures).flatten(1))


class Reader(Fusable):
    """`[n, 3, 48, 64]` to `[n, 16, 11]`: at each of 16 places from left to right the chance of every digit, and of none.

    Height is taken away step by step and width only at first, so that two digits keep places of their own."""

    def __init__(self, c2: int = 16, c4: int = 32, c8: int = 64, c16: int = 96):
        super().__init__()
        self.body = nn.Sequential(
            *(Conv(3, c2, 3, 2), Conv(c2, c4, 3, 2), Residual(c4)),
            *(flat(c4, c8), Residual(c8), flat(c8, c16), Residual(c16)),
        )
        self.answer = nn.Conv2d(c16, len(ALPHABET) + 1, (NUMBER_SIZE[1] // 16, 3), padding=(0, 1))

    def logits(self, pictures: Tensor) -> Tensor:
        return self.answer(self.body(pictures))[:, :, 0].transpose(1, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.logits(pictures).softmax(2)


def flat(inputs: int, outputs: int) -> Conv:
    """Halves the height only."""
    conv = Conv(inputs, outputs, 3)
    conv.conv.stride = (2, 1)
    return conv
