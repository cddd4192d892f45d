"""From kept crops to what the networks see: boxes as unsure as a detector's, other light; and what a reader should say."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .crops import COLUMN, Crops
from .net import NUMBER_SIZE, PERSON_SIZE

# The part of a person's box that the reader sees: left, top, right, bottom as shares. All of its width: whoever stretches
# an arm has the number near the edge of the box, and half a number is a wrong one.
REGION = (0.0, 0.12, 1.0, 0.55)
# How far detections are off: deviation of a side's place, and of its length, as shares of the side.
PLACE, LENGTH = 0.03, 0.05
# A number counts as there to be read when so much of its strokes shows, this high in pixels, a digit so wide, and so much
# of it inside the region; as unreadable below the second figures. Between them nobody can say, and nothing is taught.
SHOWN, HIGH, WIDE, INSIDE = (0.85, 0.4), (5.5, 4.5), (2.0, 1.4), (0.95, 0.7)
READABLE, UNREADABLE, UNSURE = 1, 0, -1


def unsure_boxes(boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Boxes (left, top, width, height) as a detector would have them."""
    sides = boxes[:, 2:]
    length = np.exp(rng.normal(0, LENGTH, sides.shape))
    place = boxes[:, :2] + sides * (rng.normal(0, PLACE, sides.shape) + (1 - length) / 2)
    return np.column_stack([place, sides * length])


def regions(boxes: np.ndarray, region: np.ndarray | tuple = REGION) -> np.ndarray:
    """The region of every box, as boxes; one region for all or a row each."""
    low, high = np.split(np.broadcast_to(np.asarray(region), (len(boxes), 4)), 2, 1)
    return np.column_stack([boxes[:, :2] + boxes[:, 2:] * low, boxes[:, 2:] * (high - low)])


def resized(crops: Crops, index: int, box: np.ndarray, size: tuple[int, int], smooth: bool = False) -> Tensor:
    """`[3, height, width]`, 0 to 255: what `box` (of the picture) holds, stretched to `size` bilinearly."""
    crop = crops.crop(index)
    height, width, _ = crop.shape
    corner = crops.rows[index, COLUMN["at_x"] : COLUMN["at_y"] + 1]
    low = np.clip(np.round(box[:2] - corner).astype(int), 0, [width - 1, height - 1])
    high = np.clip(np.round(box[:2] + box[2:] - corner).astype(int), low + 1, [width, height])
    part = torch.from_numpy(crop[low[1] : high[1], low[0] : high[0]].astype(np.float32)).permute(2, 0, 1)
    return interpolate(part[None], size[::-1], mode="bilinear", antialias=smooth)[0]


def relit(pictures: Tensor, rng: np.random.Generator, scenes: np.ndarray) -> Tensor:
    """Other light and other dyes, alike in all pictures of a scene, and a little of it in each picture alone."""
    count = int(scenes.max()) + 1
    turn, saturation = rng.uniform(-0.5, 0.5, count), np.exp(rng.uniform(-0.25, 0.25, count))
    # A turn of the colour circle in YIQ-like axes: grey stays grey.
    grey = np.full((3, 3), 1 / 3)
    axis = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    rest = np.eye(3) - grey
    matrices = np.stack(
        [grey + s * (np.cos(t) * rest + np.sin(t) * axis) for s, t in zip(saturation, turn, strict=True)]
    )[scenes]
    contrast = np.exp(rng.uniform(-0.2, 0.2, count)[scenes] + rng.normal(0, 0.05, len(scenes)))
    brightness = rng.uniform(-20, 20, count)[scenes] + rng.normal(0, 6, len(scenes))
    as_tensor = lambda values: torch.from_numpy(values.astype(np.float32))  # noqa: E731 - said thrice
    lit = torch.einsum("nrc,nchw->nrhw", as_tensor(matrices), pictures - 110)
    lit = lit * as_tensor(contrast)[:, None, None, None] + 110 + as_tensor(brightness)[:, None, None, None]
    return lit.clamp(0, 255)


def legibility(crops: Crops, index: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Whether the numbers of the crops `index` can be read in the regions `seen` (boxes of the picture, a row each)."""
    rows = crops.rows[index]
    printed = rows[:, COLUMN["print_left"] : COLUMN["print_height"] + 1]
    shown, number = rows[:, COLUMN["print_visible"]], rows[:, COLUMN["number"]]
    side = np.maximum(printed[:, 2:], 1e-6)
    low = np.maximum(printed[:, :2], seen[:, :2])
    high = np.minimum(printed[:, :2] + side, seen[:, :2] + seen[:, 2:])
    inside = np.clip((high - low) / side, 0, 1).min(1)
    digits = np.where(number >= 10, 2, 1)
    measures = [(shown, SHOWN), (printed[:, 3], HIGH), (printed[:, 2] / digits, WIDE), (inside, INSIDE)]
    good = np.logical_and.reduce([value >= limits[0] for value, limits in measures])
    bad = np.logical_or.reduce([value < limits[1] for value, limits in measures]) | (shown < 0)
    return np.where(good, READABLE, np.where(bad, UNREADABLE, UNSURE))


class People(torch.utils.data.IterableDataset):
    """Batches for the embedder: some people of some matches, several pictures of each. The people of a match are the hard
    ones to tell apart, so a batch has many of few matches. Yields pictures, a number for every person, and one for every
    match."""

    def __init__(self, recordings: list[Crops], matches: int, people: int, each: int, steps: int, seed: int):
        self.recordings, self.shape, self.steps, self.seed = recordings, (matches, people, each), steps, seed
        self.matches: dict[str, list[int]] = {}
        for number, recording in enumerate(recordings):
            self.matches.setdefault(recording.name.split("_")[0], []).append(number)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        rng = np.random.default_rng(self.seed)
        places = [self.pictures_of(recordings) for recordings in self.matches.values()]
        places = [people for people in places if len(people) >= 4]
        matches, people, each = self.shape
        for _ in range(self.steps):
            pictures, persons, scenes = [], [], []
            for scene, chosen in enumerate(rng.choice(len(places), matches, replace=False)):
                of_match = places[chosen]
                for person in rng.choice(len(of_match), min(people, len(of_match)), replace=False):
                    shots = of_match[person]
                    for shot in rng.choice(len(shots), each, replace=len(shots) < each):
                        recording, index = self.recordings[shots[shot][0]], shots[shot][1]
                        box = unsure_boxes(recording.boxes[index : index + 1], rng)[0]
                        pictures.append(resized(recording, index, box, PERSON_SIZE, rng.random() < 0.5))
                        persons.append(scene * 100 + person)
                        scenes.append(scene)
            lit = relit(torch.stack(pictures), rng, np.array(scenes))
            yield lit, torch.tensor(persons), torch.tensor(scenes)

    def pictures_of(self, recordings: list[int]) -> list[list[tuple[int, int]]]:
        """Of one match: (recording, row) of every picture of each person of whom there are some."""
        found: dict[int, list[tuple[int, int]]] = {}
        for number in recordings:
            crops = self.recordings[number]
            for row in np.nonzero(crops.column("visible") >= 0.3)[0]:
                found.setdefault(int(crops.rows[row, COLUMN["id"]]), []).append((number, int(row)))
        return [found[who] for who in sorted(found) if len(found[who]) >= 3]


class Numbers(torch.utils.data.IterableDataset):
    """Batches for the reader: pictures of the region and the number to be read in each, -1 for none."""

    def __init__(self, recordings: list[Crops], size: int, steps: int, seed: int, readable: float = 0.65):
        self.recordings, self.size, self.steps, self.seed, self.readable = recordings, size, steps, seed, readable

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng(self.seed)
        pools = self.pools()
        for _ in range(self.steps):
            pictures, numbers = [], []
            while len(pictures) < self.size:
                wanted = READABLE if rng.random() < self.readable else UNREADABLE
                pool = pools[wanted]
                if wanted == READABLE:
                    # Every number as often as any other.
                    pool = pool[rng.integers(len(pool))]
                number, row = pool[rng.integers(len(pool))]
                crops, index = self.recordings[number], np.array([row])
                seen = regions(unsure_boxes(crops.boxes[index], rng), unsure_region(rng))
                verdict = legibility(crops, index, seen)[0]
                if verdict == UNSURE:
                    continue
                pictures.append(resized(crops, row, seen[0], NUMBER_SIZE, rng.random() < 0.5))
                numbers.append(int(crops.rows[row, COLUMN["number"]]) if verdict == READABLE else -1)
            yield relit(torch.stack(pictures), rng, np.arange(self.size)), torch.tensor(numbers)

    def pools(self) -> dict[int, list]:
        """(recording, row) of what is readable, by number, and of what is not, in undisturbed boxes."""
        readable: dict[int, list[tuple[int, int]]] = {}
        unreadable: list[tuple[int, int]] = []
        for number, crops in enumerate(self.recordings):
            rows = np.arange(len(crops.rows))
            for row, verdict in zip(rows, legibility(crops, rows, regions(crops.boxes)), strict=True):
                if verdict == READABLE:
                    readable.setdefault(int(crops.rows[row, COLUMN["number"]]), []).append((number, int(row)))
                elif verdict == UNREADABLE:
                    unreadable.append((number, int(row)))
        return {READABLE: [readable[n] for n in sorted(readable)], UNREADABLE: unreadable}


def unsure_region(rng: np.random.Generator) -> np.ndarray:
    """The region, at times cut narrower: a reader must not take half a number for a whole one."""
    sides = rng.uniform(0, 0.25, 2) if rng.random() < 0.3 else rng.normal(0, 0.02, 2)
    return np.array(REGION) + [sides[0], rng.normal(0, 0.015), -sides[1], rng.normal(0, 0.015)]
