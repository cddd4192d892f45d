"""Writes down what the shipped embedder and reader see in whole synthetic matches, with the truth beside it:
`python3 models/observe_people.py`. One JSON line a person and frame, to choose and judge the settings of identity with.
"""

import argparse
import json
import subprocess
from pathlib import Path

import setup_cpu

setup_cpu.enter()

import av  # noqa: E402 - these live in the environment that was just entered
import numpy as np  # noqa: E402

from synthdet import matches  # noqa: E402
from synthdet.score import session  # noqa: E402
from synthpeople import crops, measure, ship  # noqa: E402
from synthpeople.batches import regions, resized, unsure_boxes  # noqa: E402
from synthpeople.kit import kit  # noqa: E402
from synthpeople.net import NUMBER_SIZE, PERSON_SIZE  # noqa: E402

HERE = Path(__file__).resolve().parent
# Matches that settings may be chosen on, and matches that only judge them: no seed is in a training.
TUNE_SEED, JUDGE_SEED = 4_000_000, 5_000_000
# Five descriptions a second, two periods, cuts between two cameras.
FILMING = ["--duration", "40s", "--fps", "5", "--gop", "10", "--halves", "2", "--cuts", "3"]


def observe(video: Path, period: int, embedder: Path, reader: Path, seed: int):
    """A dictionary for every person of every frame."""
    rng = np.random.default_rng([seed, period])
    networks = [session(embedder), session(reader)]
    shot, view = 0, None
    with open(video.with_suffix(".truth.jsonl")) as lines, av.open(str(video)) as container:
        for frame, line in zip(container.decode(video=0), lines, strict=True):
            truth = json.loads(line)
            shot, view = shot + (view is not None and truth["view"] != view), truth["view"]
            people = [p for p in truth["objects"] if p["role"] != "ball" and p["visible"] >= crops.LEAST_VISIBLE]
            if not people:
                continue
            boxes = unsure_boxes(np.array([p["box"] for p in people]), rng)
            whole = picture(frame)
            rgb = [resized(whole, 0, box, PERSON_SIZE).numpy() for box in boxes]
            numbers = [resized(whole, 0, box, NUMBER_SIZE).numpy() for box in regions(boxes)]
            looks, places = (
                network.run(None, {"images": np.stack(pictures)})[0]
                for network, pictures in zip(networks, (rgb, numbers), strict=True)
            )
            looks /= np.linalg.norm(looks, axis=1, keepdims=True)
            chances = np.round(measure.chance_of_numbers(places) * 255).astype(int)
            planes = yuv(frame)
            for person, box, look, chance in zip(people, boxes, looks, chances, strict=True):
                yield {
                    "period": period, "shot": shot, "frame": truth["frame"], "id": person["id"], "role": person["role"],
                    "team": person.get("team"), "number": person.get("number"), "visible": person["visible"],
                    "box": [round(float(side), 1) for side in box],
                    "embedding": np.round(look * 127).astype(int).tolist(),
                    "kit": kit(planes, box),
                    "chances": [[int(n), int(chance[n])] for n in np.nonzero(chance)[0]],
                }  # fmt: skip


def picture(frame: av.VideoFrame) -> crops.Crops:
    """A whole picture as one crop."""
    rgb = frame.to_ndarray(format="rgb24")
    rows = np.zeros((1, len(crops.FIELDS)))
    rows[0, crops.COLUMN["crop_width"]], rows[0, crops.COLUMN["crop_height"]] = frame.width, frame.height
    return crops.Crops("", rows, rgb.reshape(-1))


def yuv(frame: av.VideoFrame) -> list[np.ndarray]:
    packed = frame.to_ndarray(format="yuv420p").reshape(-1)
    luma, chroma = frame.width * frame.height, frame.width * frame.height // 4
    y, u, v = packed[:luma], packed[luma : luma + chroma], packed[luma + chroma :]
    return [y.reshape(frame.height, -1)] + [plane.reshape(frame.height // 2, -1) for plane in (u, v)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--work", type=Path, default=HERE.parent / "out" / "synth-identity", help="for all of it")
    parser.add_argument("--generator", type=Path, help="fulltime-synth; default: build it")
    parser.add_argument("--embedder", type=Path, default=HERE / "synth-embedder")
    parser.add_argument("--reader", type=Path, default=HERE / "synth-digits")
    parser.add_argument("--matches", type=int, default=20, help="of each kind")
    parser.add_argument("--size", default="1280x720")
    options = parser.parse_args()

    binary = options.generator or matches.generator(HERE.parent)
    models = [ship.read_shipped(folder) for folder in (options.embedder, options.reader)]
    for kind, first in (("tune", TUNE_SEED), ("judge", JUDGE_SEED)):
        out = options.work / kind
        out.mkdir(parents=True, exist_ok=True)
        for seed in range(first, first + options.matches):
            folder = options.work / f"m{seed}"
            if not folder.exists():
                part = folder.with_suffix(".part")
                command = [str(binary), "match", "--out", str(part), "--name", folder.name, "--seed", str(seed)]
                subprocess.run([*command, "--size", options.size, *FILMING], check=True, capture_output=True)
                part.rename(folder)
            with open(out / f"m{seed}.jsonl", "w") as lines:
                for period in (1, 2):
                    (video,) = folder.glob(f"*_p{period}_main.mp4")
                    for row in observe(video, period, *models, seed):
                        lines.write(json.dumps(row, separators=(",", ":")) + "\n")
            print(kind, seed, flush=True)


if __name__ == "__main__":
    main()
