"""Targets and loss: which cells answer for which object, and how far the answers are off.

Objects as points (Zhou et al., 2019) on a YOLOX head: the cells around an object's centre answer for it, the chance of
an object fades with the distance from the centre instead of dropping to zero, and cells of objects that are hardly
visible are left out. Two people half behind each other keep a peak each, which centre sampling over whole boxes would merge.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, one_hot, smooth_l1_loss

from . import CLASSES
from .net import LEVEL_OF_CLASS, STRIDES

# Cells whose centre is at most so many cells away from an object's centre, in both directions, answer for it; those
# within the larger distance learn its box too, which teaches boxes several times as fast.
REACH, BOX_REACH = 0.75, 1.5
# Standard deviation of the fading: a share of the box's side, at least so many cells.
FADE, LEAST_FADE = 0.12, 0.4
# What the parts weigh.
WEIGHTS = {"object": 1.0, "class": 0.2, "box": 4.0, "side": 1.0}


@dataclass
class Targets:
    """What the cells of one level should say, each `[batch, height, width]`."""

    chance: np.ndarray
    """Chance of an object, 1 at a centre and fading."""
    judged: np.ndarray
    """Cells that count as background where nothing answers; false inside objects that are not to be judged."""
    owner: np.ndarray
    """Row of the object whose box a cell learns, or -1."""
    distance: np.ndarray
    """To its owner's centre, in cells."""


def assign(level: int, shape: tuple[int, int, int], objects: np.ndarray) -> Targets:
    """`objects`: rows of (picture, class or -1 for not to be judged, corners x0, y0, x1, y1 in input pixels)."""
    _, height, width = shape
    targets = Targets(
        np.zeros(shape, np.float32), np.ones(shape, bool), np.full(shape, -1), np.full(shape, BOX_REACH, np.float32)
    )
    xs, ys = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    for row, (picture, kind, *corners) in enumerate(objects.tolist()):
        x0, y0, x1, y1 = (side / STRIDES[level] for side in corners)
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        # All cells that this object can touch, however small it is.
        left, right = max(int(min(x0, cx - 2)), 0), min(int(max(x1, cx + 2)) + 1, width)
        top, bottom = max(int(min(y0, cy - 2)), 0), min(int(max(y1, cy + 2)) + 1, height)
        if left >= right or top >= bottom:
            continue
        x, y = xs[left:right], ys[top:bottom]
        window = (int(picture), slice(top, bottom), slice(left, right))
        if kind < 0:
            targets.judged[window] &= ~((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1))
        elif LEVEL_OF_CLASS[int(kind)] == level:
            sx, sy = max(FADE * (x1 - x0), LEAST_FADE), max(FADE * (y1 - y0), LEAST_FADE)
            chance = np.exp(-(((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2) / 2)
            np.maximum(targets.chance[window], chance, out=targets.chance[window])
            distance = np.maximum(np.abs(x - cx), np.abs(y - cy))
            mine = distance < targets.distance[window]
            targets.distance[window][mine] = distance[mine]
            targets.owner[window][mine] = row
    return targets


def detection_loss(levels: list[Tensor], objects: np.ndarray) -> dict[str, Tensor]:
    """Weighted parts of a batch's loss; `objects` as in `assign`."""
    parts: dict[str, Tensor] = {}
    for index, level in enumerate(levels):
        batch, _, height, width = level.shape
        targets = assign(index, (batch, height, width), objects)
        for name, value in level_loss(STRIDES[index], level.permute(0, 2, 3, 1), targets, objects).items():
            parts[name] = parts.get(name, 0.0) + WEIGHTS[name] * value
    return parts


def level_loss(stride: int, level: Tensor, targets: Targets, objects: np.ndarray) -> dict[str, Tensor]:
    owner, wanted = torch.from_numpy(targets.owner), torch.from_numpy(targets.chance)
    boxed, answering = owner >= 0, torch.from_numpy(targets.distance < REACH)
    background = torch.from_numpy(targets.judged) & ~answering
    count = max(int(answering.sum()), 1)

    # Penalty-reduced focal loss: a cell near a centre is hardly blamed for a high answer.
    logit = level[..., 4]
    chance = logit.sigmoid()
    missed = (1 - chance) ** 2 * -logsigmoid(logit) * answering
    false_alarm = (1 - wanted) ** 4 * chance**2 * -logsigmoid(-logit) * background
    parts = {"object": (missed.sum() + false_alarm.sum()) / count}
    if not boxed.any():
        return parts

    predicted, target = level[boxed], torch.from_numpy(objects).float()[owner[boxed]]
    kind, low, high = target[:, 1].long(), target[:, 2:4], target[:, 4:6]
    parts["class"] = binary_cross_entropy_with_logits(predicted[:, 5:], one_hot(kind, len(CLASSES)).float())
    cell = boxed.nonzero()[:, [2, 1]]
    centre, side = (predicted[:, :2] + cell) * stride, predicted[:, 2:4].clamp(max=6).exp() * stride
    parts["box"] = (1 - overlap(centre - side / 2, centre + side / 2, low, high)).mean()
    # The overlap says little about tiny boxes that miss each other; this does.
    sides = high - low
    off = torch.cat([(centre - (low + high) / 2) / sides, (side / sides).log()], 1)
    parts["side"] = smooth_l1_loss(off, torch.zeros_like(off), beta=0.1)
    return parts


def overlap(low: Tensor, high: Tensor, other_low: Tensor, other_high: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al., 2019) of boxes given by their corners, pair by pair."""
    inner = (torch.minimum(high, other_high) - torch.maximum(low, other_low)).clamp(min=0).prod(1)
    union = (high - low).prod(1) + (other_high - other_low).prod(1) - inner
    hull = (torch.maximum(high, other_high) - torch.minimum(low, other_low)).prod(1)
    return inner / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
