"""Runs the exported networks the way the product does and scores them on people that no training saw."""

import statistics
import time
from pathlib import Path

import numpy as np
import torch

from synthdet.score import session

from .batches import READABLE, legibility, regions, resized, unsure_boxes
from .crops import COLUMN, Crops
from .net import BLANK, NUMBER_SIZE, PERSON_SIZE

# Seconds between two pictures of a person before finding one by the other says anything.
APART = 1.0
# A number is taken as read when it has at least this chance; below, the reader has said nothing.
SURE = 0.5
# Edges of the box heights, in pixels, that accuracy is reported by.
HEIGHTS = (0, 40, 60, 80, 110, 10_000)


def run(model: Path, pictures: list[torch.Tensor], batch: int = 64) -> np.ndarray:
    network = session(model)
    name = network.get_inputs()[0].name
    parts = [torch.stack(pictures[at : at + batch]).numpy() for at in range(0, len(pictures), batch)]
    return np.concatenate([network.run(None, {name: part})[0] for part in parts])


def chance_of_numbers(places: np.ndarray) -> np.ndarray:
    """The chance of every number 0 to 99 in a reader's answers `[n, T, 11]`: the sum over all paths that collapse to its
    digits (CTC, Graves et al., 2006). No leading zero; `[n, 100]`."""
    digits, blank = places[:, :, :BLANK].astype(np.float64), places[:, :, BLANK].astype(np.float64)
    count, length, _ = digits.shape
    one = np.zeros((count, 10))  # paths that end in digit d, nothing else seen
    one_gap = np.zeros((count, 10))  # the same, then blank
    two = np.zeros((count, 10, 10))  # paths that end in the second digit e of (d, e)
    two_gap = np.zeros((count, 10, 10))
    empty = np.ones(count)
    different = 1 - np.eye(10)
    for t in range(length):
        d, b = digits[:, t], blank[:, t]
        two_gap = (two_gap + two) * b[:, None, None]
        two = (two + one_gap[:, :, None] + one[:, :, None] * different) * d[:, None, :]
        one_gap, one = (one_gap + one) * b[:, None], (one + empty[:, None]) * d
        empty = empty * b
    # `two_gap` was advanced before `two` took its new value, as `one_gap` before `one`: each step reads the step before.
    pairs = two + two_gap
    pairs[:, 0, :] = 0
    chances = pairs.reshape(count, 100)
    chances[:, :10] = one + one_gap
    return chances


def embedder(model: Path, recordings: list[Crops], fps: float, seed: int = 5) -> dict[str, float]:
    """Finding a person again among all people of the match and among the own team: share of pictures whose nearest other
    one shows the same person (`rank1`), mean average precision; pictures less than `APART` away do not count."""
    rng, sums = np.random.default_rng(seed), {}
    for name in sorted({r.name.split("_")[0] for r in recordings}):
        pictures, who, team, role, when = [], [], [], [], []
        for number, crops in enumerate(r for r in recordings if r.name.split("_")[0] == name):
            boxes = unsure_boxes(crops.boxes, rng)
            for row in np.nonzero((crops.column("visible") >= 0.3) & (crops.column("frame") % 2 == 0))[0]:
                pictures.append(resized(crops, int(row), boxes[row], PERSON_SIZE))
                who.append(crops.rows[row, COLUMN["id"]])
                team.append(crops.rows[row, COLUMN["team"]])
                role.append(crops.rows[row, COLUMN["role"]])
                when.append(crops.rows[row, COLUMN["frame"]] / fps + 1e3 * number)
        if len(pictures) < 20:
            continue
        found = run(model, pictures)
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        like, who, team, role, when = found @ found.T, *(np.array(v) for v in (who, team, role, when))
        far = np.abs(when[:, None] - when[None]) >= APART
        same, kit = who[:, None] == who[None], (team[:, None] == team[None]) & (role[:, None] == role[None])
        for kind, allowed in {"match": far, "team": far & kit & (team >= 0)[:, None]}.items():
            for row in np.nonzero((allowed & same).any(1) & (allowed & ~same).any(1))[0]:
                order = np.argsort(-np.where(allowed[row], like[row], -9))[: allowed[row].sum()]
                hit = same[row, order]
                precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
                sums.setdefault(f"rank1_{kind}", []).append(hit[0])
                sums.setdefault(f"map_{kind}", []).append(precision[hit].mean())
                if kind == "match":
                    sums.setdefault("kit_rank1", []).append(kit[row, order[0]])
    result = {key: float(np.mean(values)) for key, values in sums.items()}
    return result | {"queries": len(sums["rank1_match"]), "ms": milliseconds(model, PERSON_SIZE)}


def reader(model: Path, recordings: list[Crops], seed: int = 5, region: tuple | None = None) -> dict:
    """What is read among what can be read, what is read where nothing can, and how far the chances are to be believed."""
    rng = np.random.default_rng(seed)
    pictures, truth, heights = [], [], []
    for crops in recordings:
        seen = regions(unsure_boxes(crops.boxes, rng), *([region] if region else []))
        verdicts = legibility(crops, np.arange(len(crops.rows)), seen)
        for row in np.nonzero(verdicts != -1)[0]:
            pictures.append(resized(crops, int(row), seen[row], NUMBER_SIZE))
            truth.append(crops.rows[row, COLUMN["number"]] if verdicts[row] == READABLE else -1)
            heights.append(crops.rows[row, COLUMN["height"]])
    truth, heights = np.array(truth), np.array(heights)
    chances = chance_of_numbers(run(model, pictures))
    best, sure = chances.argmax(1), chances.max(1)
    read, readable = sure >= SURE, truth >= 0
    right = best == truth
    result = {
        "readable": int(readable.sum()),
        "right": share(right & read, readable),
        "wrong": share(~right & read, readable),
        "best_guess_right": share(right, readable),
        "unreadable": int((~readable).sum()),
        "false_readings": share(read, ~readable),
        "ms": milliseconds(model, NUMBER_SIZE),
    }
    bins = np.clip((sure * 10).astype(int), 0, 9)
    result["reliability"] = {
        f"{low / 10:.1f}": [int((bins == low).sum()), share(sure, bins == low), share(right, bins == low)]
        for low in range(10)
    }
    result["by_height"] = {
        f"{low}-{high}": [int((inside := readable & (heights >= low) & (heights < high)).sum()),
                          share(right & read, inside), share(~right & read, inside)]
        for low, high in zip(HEIGHTS, HEIGHTS[1:])
    }  # fmt: skip
    return result


def share(what: np.ndarray, among: np.ndarray) -> float:
    return round(float(what[among].mean()), 4) if among.any() else 0.0


def milliseconds(model: Path, size: tuple[int, int], batch: int = 16, runs: int = 60) -> float:
    """Median CPU time of a crop on one thread, in batches."""
    network, times = session(model), []
    name = network.get_inputs()[0].name
    pictures = np.random.default_rng(0).uniform(0, 255, (batch, 3, size[1], size[0])).astype(np.float32)
    for _ in range(runs):
        start = time.thread_time()
        network.run(None, {name: pictures})
        times.append(time.thread_time() - start)
    return round(statistics.median(times) * 1e3 / batch, 4)
