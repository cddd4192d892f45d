"""The kit descriptor as the product stores it, for measurements: two regions of a person's box, twelve numbers each: the
shares of eight hues, of black, grey and white, out of 255, and the share of the pixels that are not grass."""

import numpy as np

# Torso and legs: left, top, right, bottom as shares of the box.
KIT_REGIONS = ((0.2, 0.15, 0.8, 0.5), (0.2, 0.5, 0.8, 0.85))
# Chroma further than this from grey is a colour; luma below and above these is black and white.
COLOURED, DARK, BRIGHT = 18, 70, 160
HUES = 8


def kit(planes: list[np.ndarray], box: np.ndarray) -> list[int]:
    """24 numbers of a box (left, top, width, height) in a picture given as Y at full and U and V at half size."""
    numbers: list[int] = []
    for left, top, right, bottom in KIT_REGIONS:
        x0, x1 = box[0] + box[2] * left, box[0] + box[2] * right
        y0, y1 = box[1] + box[3] * top, box[1] + box[3] * bottom
        numbers += region(planes, *(max(round(float(v) / 2), 0) for v in (x0, y0, x1, y1)))
    return numbers


def region(planes: list[np.ndarray], x0: int, y0: int, x1: int, y1: int) -> list[int]:
    u, v = (plane[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].astype(int) - 128 for plane in planes[1:])
    y = planes[0][0::2, 0::2][y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].astype(int)
    y, u, v = (plane.ravel() for plane in (y, u, v))
    if not len(y):
        return [0] * (HUES + 4)
    coloured = u * u + v * v > COLOURED * COLOURED
    # Grass in BT.709: both chroma planes below grey.
    grass = (u < -8) & (v < -4) & (y < 150)
    hue = (np.floor((np.arctan2(v, u) / (2 * np.pi) + 1) * HUES + 0.5)).astype(int) % HUES
    kind = np.where(coloured, hue, np.where(y < DARK, HUES, np.where(y > BRIGHT, HUES + 2, HUES + 1)))
    counted = np.bincount(kind[~grass], minlength=HUES + 3)
    total = max(int(counted.sum()), 1)
    return [int(c) for c in (counted * 255 + total // 2) // total] + [int(255 * counted.sum() // len(y))]
