"""From decoded planes to what the network sees: the product's own preprocessing, and its varied form for training."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from . import BALL, INPUT_SIZE, PAD
from .matches import Recording

# BT.709, limited range, to RGB: columns Y, U, V.
TO_RGB = torch.tensor(
    [
        [255 / 219, 0.0, 1.5748 * 255 / 224],
        [255 / 219, -0.1873 * 255 / 224, -0.4681 * 255 / 224],
        [255 / 219, 1.8556 * 255 / 224, 0.0],
    ]
)
OFFSET = torch.tensor([16.0, 128.0, 128.0])
# Objects of which a training window shows less than this are not judged.
LEAST_INSIDE = 0.25
# Objects that share so much of the smaller one's area with another one are a crowd.
CROWDED = 0.3


def resized(planes: list[np.ndarray], size: tuple[int, int], antialias: bool = False) -> Tensor:
    """Each plane bilinearly to `size`, `[3, height, width]`, still YUV."""
    width, height = size
    tensors = [torch.from_numpy(plane.astype(np.float32))[None, None] for plane in planes]
    return torch.cat([interpolate(t, (height, width), mode="bilinear", antialias=antialias)[0] for t in tensors])


def to_rgb(yuv: Tensor, matrix: Tensor = TO_RGB) -> Tensor:
    return torch.einsum("rc,chw->rhw", matrix, yuv - OFFSET[:, None, None])


def whole(recording: Recording, index: int) -> tuple[Tensor, float]:
    """A frame as the product feeds it, letterboxed to the top left, `[3, h, w]`; and input pixels per picture pixel."""
    (width, height), (input_width, input_height) = recording.size, INPUT_SIZE
    scale = min(input_width / width, input_height / height)
    inner = (round(width * scale), round(height * scale))
    picture = torch.full((3, input_height, input_width), float(PAD))
    picture[:, : inner[1], : inner[0]] = to_rgb(resized(recording.planes(index), inner)).clamp(0, 255)
    return picture, scale


def window(
    recording: Recording, index: int, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Tensor, np.ndarray]:
    """A training window of `size` pixels: somewhere, somewhat larger or smaller, other light, perhaps mirrored.

    Returns the picture and its objects, rows of (class, x0, y0, x1, y1) in its pixels."""
    (width, height), (out_width, out_height) = recording.size, size
    scale = min(INPUT_SIZE[0] / width, INPUT_SIZE[1] / height) * np.exp(rng.uniform(-0.35, 0.35))
    scale *= rng.uniform(1, 2) if recording.wide else 1
    objects = recording.objects[index]
    span = np.array([out_width, out_height]) / scale

    # Around something: the ball is one in twenty objects and the hardest one, then come people behind people.
    balls, crowd = objects[objects[:, 0] == BALL], objects[crowded(objects)]
    draw = rng.random()
    pool = balls if len(balls) and draw < 0.4 else crowd if len(crowd) and draw < 0.75 else objects
    target = pool[rng.integers(len(pool))] if len(pool) else np.array([0, 0, 0, width, height])
    centre = (target[1:3] + target[3:5]) / 2 + rng.uniform(-0.45, 0.45, 2) * span
    origin = np.clip(centre - span / 2, -0.15 * span, np.array([width, height]) - 0.85 * span)

    # The part inside the picture, on even pixels so that chroma splits cleanly; the rest is padding.
    low = np.maximum(origin, 0).astype(int) // 2 * 2
    high = np.minimum(origin + span, [width, height]).astype(int) // 2 * 2
    at = np.maximum(np.round((low - origin) * scale).astype(int), 0)
    inner = np.minimum(np.maximum(np.round((high - low) * scale).astype(int), 2), np.array(size) - at)
    y, u, v = recording.planes(index)
    half = [slice(low[1] // 2, high[1] // 2), slice(low[0] // 2, high[0] // 2)]
    planes = [y[low[1] : high[1], low[0] : high[0]], u[*half], v[*half]]
    picture = torch.full((3, out_height, out_width), float(PAD))
    yuv = resized(planes, tuple(inner), antialias=rng.random() < 0.5)
    picture[:, at[1] : at[1] + inner[1], at[0] : at[0] + inner[0]] = relit(yuv, rng)

    ratio = inner / (high - low)
    corners = (objects[:, 1:].reshape(-1, 2, 2) - low) * ratio + at
    limits = np.clip(corners, at, at + inner)
    share = (limits[:, 1] - limits[:, 0]).prod(1) / np.maximum((corners[:, 1] - corners[:, 0]).prod(1), 1e-6)
    kind = np.where(share < LEAST_INSIDE, -1, objects[:, 0])
    seen = np.column_stack([kind, limits.reshape(-1, 4)])[share > 0].astype(np.float32)
    if rng.random() < 0.5:
        picture = picture.flip(2)
        seen[:, [1, 3]] = out_width - seen[:, [3, 1]]
    return picture, seen


def crowded(objects: np.ndarray) -> np.ndarray:
    """Which of the objects, rows of (class, x0, y0, x1, y1), another one of their class covers or is covered by."""
    kind, low, high = objects[:, 0], objects[:, None, 1:3], objects[:, None, 3:5]
    inner = (np.minimum(high, high.swapaxes(0, 1)) - np.maximum(low, low.swapaxes(0, 1))).clip(min=0).prod(2)
    area = (objects[:, 3:5] - objects[:, 1:3]).prod(1)
    share = inner / np.maximum(np.minimum(area[:, None], area), 1e-6)
    np.fill_diagonal(share, 0)
    return ((share > CROWDED) & (kind[:, None] == kind)).any(1) & (kind >= 0)


def relit(yuv: Tensor, rng: np.random.Generator) -> Tensor:
    """RGB under other light: contrast, brightness, saturation, a turn of hue, sensor noise."""
    contrast, saturation, turn = (
        np.exp(rng.uniform(-0.25, 0.25)),
        np.exp(rng.uniform(-0.3, 0.3)),
        rng.uniform(-0.35, 0.35),
    )
    cos, sin = saturation * np.cos(turn), saturation * np.sin(turn)
    change = torch.tensor([[contrast, 0, 0], [0, cos, -sin], [0, sin, cos]], dtype=torch.float32)
    rgb = to_rgb(yuv, TO_RGB @ change) + rng.uniform(-25, 25) + (1 - contrast) * 110
    if rng.random() < 0.5:
        rgb = rgb + torch.from_numpy(rng.normal(0, rng.uniform(0, 6), rgb.shape).astype(np.float32))
    return rgb.clamp(0, 255)
