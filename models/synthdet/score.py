"""Runs an exported detector the way the product does and scores it: average precision at IoU 0.5, and its speed."""

import statistics
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime

from . import CLASSES, INPUT_SIZE
from .matches import Recording
from .pictures import whole
from .ship import read_shipped

MATCH_IOU = 0.5


def session(model: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of every corner box in `a` with every one in `b`."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = (high - low).clip(0).prod(2)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    return inner / np.maximum(area_a[:, None] + area_b[None] - inner, 1e-9)


@lru_cache
def cells(strides: tuple[int, ...], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Grid place and stride of every row of the output."""
    grids = [np.stack(np.meshgrid(range(size[0] // s), range(size[1] // s)), -1).reshape(-1, 2) for s in strides]
    return np.concatenate(grids), np.repeat(strides, [len(grid) for grid in grids])[:, None]


def decode(rows: np.ndarray, strides: list[int], threshold: float, nms: float) -> np.ndarray:
    """YOLOX rows `[n, 5 + classes]` to detections after class-aware NMS: rows of (class, score, x0, y0, x1, y1)."""
    scores = rows[:, 4:5] * rows[:, 5:]
    row, kind = np.nonzero(scores >= threshold)
    cell, stride = (of_all[row] for of_all in cells(tuple(strides), INPUT_SIZE))
    centre, side = (rows[row, :2] + cell) * stride, np.exp(rows[row, 2:4]) * stride
    found = np.column_stack([kind, scores[row, kind], centre - side / 2, centre + side / 2])
    found = found[np.argsort(-found[:, 1], kind="stable")]
    # Does the stronger box of a pair, row, suppress the weaker one, column?
    beats = np.triu((iou(found[:, 2:], found[:, 2:]) > nms) & (found[:, None, 0] == found[None, :, 0]), 1)
    kept = np.ones(len(found), bool)
    for index in range(len(found)):
        if kept[index]:
            kept &= ~beats[index]
    return found[kept]


def judge(found: np.ndarray, truth: np.ndarray) -> tuple[list[tuple[float, bool]], int]:
    """Detections of one class in one frame, best first, against its truth: (score, right) each, and how many there were
    to find. Detections of what is not to be judged do not count."""
    wanted, unjudged = truth[truth[:, 0] >= 0, 1:], truth[truth[:, 0] < 0, 1:]
    taken, verdicts = np.zeros(len(wanted), bool), []
    for row in found:
        overlaps = np.where(taken, 0, iou(row[None, 2:], wanted)[0])
        if len(wanted) and overlaps.max() >= MATCH_IOU:
            taken[overlaps.argmax()] = True
            verdicts.append((row[1], True))
        elif not (len(unjudged) and iou(row[None, 2:], unjudged).max() >= MATCH_IOU):
            verdicts.append((row[1], False))
    return verdicts, len(wanted)


def average_precision(verdicts: list[tuple[float, bool]], wanted: int) -> float:
    """Area under the precision-recall curve at 101 recall points (COCO)."""
    right = np.array([right for _, right in sorted(verdicts, key=lambda v: -v[0])], bool)
    hits = np.cumsum(right)
    recall, precision = hits / max(wanted, 1), hits / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101) - 1e-12)
    return float(np.append(best, 0.0)[np.minimum(at, len(right))].mean())


def evaluate(
    model: Path, strides: list[int], recordings: list[Recording], threshold: float, nms: float
) -> dict[str, float]:
    """AP50 a class and their mean; objects and frames judged."""
    network = session(model)
    verdicts: dict[int, list] = {c: [] for c in range(len(CLASSES))}
    wanted, frames = dict.fromkeys(verdicts, 0), 0
    for recording in recordings:
        for index, truth in enumerate(recording.objects):
            picture, scale = whole(recording, index)
            (rows,) = network.run(None, {"images": picture[None].numpy()})
            found = decode(rows[0], strides, threshold, nms)
            found[:, 2:] /= scale
            found[:, 2:] = np.clip(found[:, 2:], 0, np.tile(recording.size, 2))
            frames += 1
            for kind in verdicts:
                right, count = judge(found[found[:, 0] == kind], truth[(truth[:, 0] == kind) | (truth[:, 0] < 0)])
                verdicts[kind] += right
                wanted[kind] += count
    result = {f"ap50_{CLASSES[kind]}": average_precision(v, wanted[kind]) for kind, v in verdicts.items()}
    result["map50"] = statistics.fmean(result.values())
    return result | {f"{CLASSES[kind]}s": count for kind, count in wanted.items()} | {"frames": frames}


def report(folder: Path, recordings: list[Recording]) -> dict[str, float]:
    """What the shipped detector scores with its pipeline's settings, and its speed. Cameras that see the whole pitch
    count apart (`wide_`): without tiles, people are eight pixels tall there."""
    model, strides, detect = read_shipped(folder)
    settings = {"threshold": detect["score_threshold"], "nms": detect["nms_iou"]}
    near = evaluate(model, strides, [r for r in recordings if not r.wide], **settings)
    wide = evaluate(model, strides, [r for r in recordings if r.wide], **settings)
    both = near | {f"wide_{key}": value for key, value in wide.items()} | {"ms": milliseconds(model)}
    return {key: round(value, 4) for key, value in both.items()}


def milliseconds(model: Path, runs: int = 100) -> float:
    """Median time of a picture on one thread: CPU time, so that other work on the machine counts little."""
    network, times = session(model), []
    picture = np.random.default_rng(0).uniform(0, 255, (1, 3, INPUT_SIZE[1], INPUT_SIZE[0])).astype(np.float32)
    for _ in range(runs):
        start = time.thread_time()
        network.run(None, {"images": picture})
        times.append(time.thread_time() - start)
    return statistics.median(times) * 1e3
