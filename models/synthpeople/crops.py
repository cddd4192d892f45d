"""People cut from synthetic matches, with what the generator knows of them: makes the matches, keeps the people.

A crop is kept at the size it had in the picture and with a margin, so that training can move and scale the box as a
detector's errors do, and the product's own resize is part of what the networks have to be used to.
"""

import json
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import av
import numpy as np

# Training and test matches: no seed, and so no kits, looks, numbers or play, is in both, nor in the detector's.
TRAIN_SEED, TEST_SEED = 2_000_000, 3_000_000
# How the matches of consecutive seeds are filmed, in turn. Cuts show everybody from both broadcast cameras.
BROADCAST, HALVES = ["--camera", "broadcast", "--cuts", "2"], ["--camera", "fixed", "--cameras", "2"]
FILMING = [BROADCAST, BROADCAST, HALVES, BROADCAST, BROADCAST]
SIZES = ["1280x720", "1280x720", "1280x720", "1920x1080", "960x540"]
# Neighbouring frames say the same thing twice: few a second, and more matches.
SECONDS, FPS = 6, 6
# Margin on every side of a box that is kept with it, as a share of the box.
MARGIN = 0.2
# People of whom less shows teach nothing.
LEAST_VISIBLE = 0.15
ROLES = ("player", "goalkeeper", "referee")
# What a row of `Crops.rows` says; `print` is the number as drawn, in pixels of the picture.
FIELDS = (
    "frame", "id", "role", "team", "number", "visible",
    "left", "top", "width", "height",
    "print_left", "print_top", "print_width", "print_height", "print_visible",
    "at_x", "at_y", "crop_width", "crop_height", "offset", "tight",
)  # fmt: skip
COLUMN = {name: index for index, name in enumerate(FIELDS)}


@dataclass
class Crops:
    """The people of one recording."""

    name: str
    """`m{seed}_p{period}_{camera}`"""
    rows: np.ndarray
    """`[n, FIELDS]` float64: role an index of `ROLES`, team 0 or 1 and number -1 where there is none; boxes in pixels of
    the picture; `at_x`, `at_y` the picture's pixel in the crop's corner; `offset` where its bytes begin."""
    pixels: np.ndarray
    """Interleaved RGB of all crops, one after the other."""

    @cached_property
    def boxes(self) -> np.ndarray:
        return self.rows[:, COLUMN["left"] : COLUMN["height"] + 1]

    def column(self, name: str) -> np.ndarray:
        return self.rows[:, COLUMN[name]]

    def crop(self, index: int) -> np.ndarray:
        """`[height, width, 3]` uint8."""
        start, width, height = (int(self.rows[index, COLUMN[c]]) for c in ("offset", "crop_width", "crop_height"))
        return self.pixels[start : start + width * height * 3].reshape(height, width, 3)


def variant(seed: int) -> list[str]:
    """What a match of this seed looks like beyond what the generator itself draws from the seed."""
    rng = np.random.default_rng(seed)
    options = {"size": rng.choice(SIZES), "qp": rng.choice([20, 24, 28, 32]), "grain": round(rng.uniform(0, 3), 1)}
    return FILMING[seed % len(FILMING)] + [word for key, value in options.items() for word in (f"--{key}", str(value))]


def load(binary: Path, cache: Path, first_seed: int, count: int) -> list[Crops]:
    """The people of `count` matches with consecutive seeds; made once and kept in `cache`."""
    found = []
    for seed in range(first_seed, first_seed + count):
        folder = cache / f"m{seed}"
        if not folder.exists():
            make(binary, folder, seed, [*variant(seed), "--duration", f"{SECONDS}s", "--fps", str(FPS)])
        found += read(folder)
    return found


def read(folder: Path) -> list[Crops]:
    rows = sorted(folder.glob("*.rows.npy"))
    return [
        Crops(r.name.split(".")[0], np.load(r), np.load(r.with_name(r.name.replace("rows", "rgb")), mmap_mode="r"))
        for r in rows
    ]


def make(binary: Path, folder: Path, seed: int, options: list[str]) -> None:
    """Renders a match and keeps its people; the folder appears when it is complete."""
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    command = [str(binary), "match", "--out", str(unfinished), "--name", folder.name, "--seed", str(seed), *options]
    subprocess.run(command, check=True, capture_output=True)
    for video in sorted(unfinished.glob("*.mp4")):
        cut(video)
    for made in [path for path in unfinished.iterdir() if path.suffix != ".npy"]:
        made.unlink()
    unfinished.rename(folder)


def cut(video: Path) -> None:
    """The people of a recording, in two arrays beside it."""
    rows, pixels, offset = [], [], 0
    with open(video.with_suffix(".truth.jsonl")) as lines, av.open(str(video)) as container:
        for frame, line in zip(container.decode(video=0), lines, strict=True):
            truth, picture = json.loads(line), frame.to_ndarray(format="rgb24")
            for person in truth["objects"]:
                if person["role"] == "ball" or person["visible"] < LEAST_VISIBLE:
                    continue
                x, y, w, h = person["box"]
                low = np.maximum(np.floor([x - MARGIN * w, y - MARGIN * h]), 0).astype(int)
                high = np.minimum(np.ceil([x + w + MARGIN * w, y + h + MARGIN * h]), picture.shape[1::-1]).astype(int)
                crop = picture[low[1] : high[1], low[0] : high[0]]
                shown = person.get("print", {"box": [-1.0] * 4, "visible": -1.0})
                rows.append(
                    [truth["frame"], person["id"], ROLES.index(person["role"]), team(person), person.get("number", -1),
                     person["visible"], x, y, w, h, *shown["box"], shown["visible"],
                     *low, crop.shape[1], crop.shape[0], offset, truth["view"] == "tight"]
                )  # fmt: skip
                pixels.append(crop.reshape(-1))
                offset += crop.size
    np.save(video.with_suffix(".rows.npy"), np.array(rows, np.float64).reshape(-1, len(FIELDS)))
    np.save(video.with_suffix(".rgb.npy"), np.concatenate(pixels) if pixels else np.zeros(0, np.uint8))


def team(person: dict) -> int:
    return {"home": 0, "away": 1}.get(person.get("team"), -1)
