"""Ground truth made worse on purpose, seeded: boxes lost, moved, exchanged between identities, invented, doubled."""

import gzip
import math
import random
from pathlib import Path


def read(path):
    """Rows (frame, id, x, y, w, h) of MOTChallenge text, packed or not."""
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt") as file:
        rows = [[float(v) for v in line.split(",")] for line in file if line.strip()]
    return [(int(r[0]), int(r[1]), *r[2:6]) for r in rows]


def corrupt(rows, seed):
    """One of many mixtures; seed 0 changes nothing."""
    if seed == 0:
        return [(*row, 1.0) for row in rows]
    rng = random.Random(seed)
    drop, noise, extra = rng.choice([0, 0.1, 0.4]), rng.choice([0, 0.03, 0.15]), rng.choice([0, 0.05, 0.3])
    whole = rng.random() < 0.3  # Whole pixels: many overlaps are then exactly a threshold, and many are equal.
    ids = sorted({row[1] for row in rows})
    frames = sorted({row[0] for row in rows})
    renamed = {id: id for id in ids}
    swaps = sorted(rng.choice(frames) for _ in range(rng.choice([0, 3, 30])))
    next_id, result, by_frame = max(ids) + 1, [], {}
    for row in rows:
        by_frame.setdefault(row[0], []).append(row)
    for frame in frames:
        while swaps and swaps[0] <= frame:
            swaps.pop(0)
            a, b = rng.choice(ids), rng.choice(ids)
            if rng.random() < 0.5:
                renamed[a], renamed[b] = renamed[b], renamed[a]
            else:
                renamed[a], next_id = next_id, next_id + 1
        if rng.random() < 0.01:
            continue  # A frame without results.
        for _, id, x, y, w, h in by_frame[frame]:
            if rng.random() < drop:
                continue
            box = (x + rng.gauss(0, noise * w), y + rng.gauss(0, noise * h),
                   w * math.exp(rng.gauss(0, noise)), h * math.exp(rng.gauss(0, noise)))
            if whole:
                box = tuple(float(round(v)) for v in box)
            result.append((frame, renamed[id], *box, round(rng.random(), 2)))
            if rng.random() < extra:
                next_id += 1
                near = rng.random() < 0.5
                dx, dy = (0.0, 0.0) if near else (rng.uniform(-300, 300), rng.uniform(-200, 200))
                result.append((frame, next_id, box[0] + dx, box[1] + dy, box[2], box[3], round(rng.random(), 2)))
    return result


def write(rows, path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        for frame, id, x, y, w, h, score in rows:
            file.write(f"{frame},{id},{x!r},{y!r},{w!r},{h!r},{score!r},-1,-1,-1\n")
