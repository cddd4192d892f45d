"""Synthetic matches as training and test pictures: makes them with the generator, keeps a few frames of each.

Neighbouring frames say the same thing twice, so many short matches are made and read sparsely. Frames stay what the
decoder gave, planar YUV at full size: the resize to the network is part of what the detector has to be used to.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from . import BALL, PLAYER

# Classes of the generator's gt.txt: player, goalkeeper, referee, ball.
CLASS_OF_TRUTH = {1: PLAYER, 2: PLAYER, 3: PLAYER, 4: BALL}
# Training and test matches: no seed, and so no kits, camera path or play, is in both.
TRAIN_SEED, TEST_SEED = 1_000, 900_000
# How the matches of consecutive seeds are filmed, in turn: mostly broadcast with a cut to the closer camera, then
# halves of the pitch, then all of it, where people are 16 pixels tall.
BROADCAST, HALVES, WIDE = (
    ["--camera", "broadcast", "--cuts", "1"],
    ["--camera", "fixed", "--cameras", "2"],
    ["--camera", "fixed"],
)
FILMING = [BROADCAST, BROADCAST, HALVES, BROADCAST, BROADCAST, WIDE]
SIZES = ["1280x720", "1280x720", "1280x720", "1920x1080", "960x540"]
# Seconds of each match, and every how many frames one is kept.
SECONDS, EVERY = 3, 9


@dataclass
class Recording:
    """Some frames of one recording with their truth."""

    name: str
    """`m{seed}_p{period}_{camera}`"""
    frames: np.ndarray
    """`[n, height * 3 / 2, width]`: Y, U, V below each other, as PyAV packs yuv420p."""
    objects: list[np.ndarray]
    """A frame each: rows of (class, or -1 where it is not to be judged; x0, y0, x1, y1 in pixels)."""

    @property
    def size(self) -> tuple[int, int]:
        return self.frames.shape[2], self.frames.shape[1] * 2 // 3

    @property
    def wide(self) -> bool:
        """Filmed from so far away that one would tile it."""
        return self.name.endswith("_wide")

    def planes(self, index: int) -> list[np.ndarray]:
        width, height = self.size
        packed = self.frames[index].reshape(-1)
        luma, chroma = width * height, width * height // 4
        u, v = packed[luma : luma + chroma], packed[luma + chroma :]
        return [packed[:luma].reshape(height, width)] + [c.reshape(height // 2, width // 2) for c in (u, v)]


def generator(root: Path) -> Path:
    """Builds the generator and says where it is."""
    subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "fulltime-synth"], cwd=root, check=True)
    return root / "target" / "release" / "fulltime-synth"


def variant(seed: int) -> list[str]:
    """What a match of this seed looks like beyond what the generator itself draws from the seed."""
    rng = np.random.default_rng(seed)
    options = {"size": rng.choice(SIZES), "qp": rng.choice([20, 24, 28, 32]), "grain": round(rng.uniform(0, 3), 1)}
    return FILMING[seed % len(FILMING)] + [word for key, value in options.items() for word in (f"--{key}", str(value))]


def load(binary: Path, cache: Path, first_seed: int, count: int) -> list[Recording]:
    """The recordings of `count` matches with consecutive seeds; made once and kept in `cache`."""
    recordings = []
    for seed in range(first_seed, first_seed + count):
        folder = cache / f"m{seed}"
        if not folder.exists():
            make(binary, folder, seed)
        for frames in sorted(folder.glob("*.npy")):
            with np.load(frames.with_suffix(".npz")) as truth:
                objects = [truth[key] for key in truth.files]
            recordings.append(Recording(frames.stem, np.load(frames, mmap_mode="r"), objects))
    return recordings


def make(binary: Path, folder: Path, seed: int) -> None:
    """Renders a match and keeps what is needed of it; the folder appears when it is complete."""
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [str(binary), "match", "--out", str(unfinished), "--name", folder.name, "--seed", str(seed)]
    subprocess.run([*command, "--duration", f"{SECONDS}s", *variant(seed)], check=True, capture_output=True)
    for video in sorted(unfinished.glob("*.mp4")):
        keep(video)
    for made in [path for path in unfinished.iterdir() if path.suffix not in (".npy", ".npz")]:
        made.unlink()
    unfinished.rename(folder)


def keep(video: Path) -> None:
    """A few frames of a recording and their truth, beside it."""
    truth = read_truth(video.with_suffix(".gt.txt"))
    kept, rows = [], {}
    with av.open(str(video)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number % EVERY == 0:
                kept.append(frame.to_ndarray(format="yuv420p"))
                rows[f"f{number:06}"] = truth.get(number, np.zeros((0, 5), np.float32))
    np.save(video.with_suffix(".npy"), np.stack(kept))
    np.savez(video.with_suffix(".npz"), **rows)


def read_truth(path: Path) -> dict[int, np.ndarray]:
    """MOTChallenge text: frame (from 1), id, x, y, w, h, whether it is visible enough to count, class, visibility."""
    rows: dict[int, list[list[float]]] = {}
    for line in path.read_text().splitlines():
        frame, _, x, y, w, h, counts, kind, _ = (float(field) for field in line.split(","))
        rows.setdefault(int(frame) - 1, []).append([CLASS_OF_TRUTH[int(kind)] if counts else -1, x, y, x + w, y + h])
    return {frame: np.array(objects, np.float32) for frame, objects in rows.items()}
