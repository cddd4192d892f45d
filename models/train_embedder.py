"""Trains the embedder for synthetic matches and ships it: `python3 models/train_embedder.py`.

Makes the environment, the matches and the network, then scores the exported file on matches that no training saw and
writes synth-embedder/{synth-embedder.onnx,manifest.toml}. Every draw is seeded.
"""

import argparse
import json
import time
from pathlib import Path

import setup_cpu

setup_cpu.enter()

import torch  # noqa: E402 - these live in the environment that was just entered
from torch import Tensor  # noqa: E402

from synthdet import matches  # noqa: E402
from synthdet.net import PIXEL_SCALE  # noqa: E402
from synthpeople import crops, measure, ship  # noqa: E402
from synthpeople.batches import People  # noqa: E402
from synthpeople.net import Embedder  # noqa: E402
from synthpeople.train import train  # noqa: E402

HERE = Path(__file__).resolve().parent
# How sharply likeness counts.
TEMPERATURE = 0.07
# A batch: matches, people of each, pictures of each.
BATCH = (4, 16, 3)


def contrast(net: Embedder, pictures: Tensor, persons: Tensor, scenes: Tensor) -> Tensor:
    """Supervised contrastive loss (Khosla et al., 2020): a person's pictures are to be nearer each other than to
    anybody else's of the batch; most of those wear the same kit."""
    found = torch.nn.functional.normalize(net(pictures * PIXEL_SCALE))
    alike = found @ found.T / TEMPERATURE
    itself = torch.eye(len(found), dtype=torch.bool)
    chance = alike.masked_fill(itself, -1e9).log_softmax(1)
    same = (persons[:, None] == persons[None]) & ~itself
    return -((chance * same).sum(1) / same.sum(1)).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--work", type=Path, default=HERE.parent / "out" / "synth-people", help="for pictures")
    parser.add_argument("--out", type=Path, default=HERE / "synth-embedder")
    parser.add_argument("--generator", type=Path, help="fulltime-synth; default: build it")
    parser.add_argument("--matches", type=int, default=200, help="to train on")
    parser.add_argument("--test-matches", type=int, default=20)
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    torch.set_num_threads(1)
    start = time.monotonic()
    binary = options.generator or matches.generator(HERE.parent)
    seen = crops.load(binary, options.work / "train", crops.TRAIN_SEED, options.matches)
    unseen = crops.load(binary, options.work / "test", crops.TEST_SEED, options.test_matches)
    made = time.monotonic()
    print(f"{sum(len(r.rows) for r in seen)} people to train on, {made - start:.0f} s", flush=True)
    torch.manual_seed(options.seed)
    net = train(Embedder(), People(seen, *BATCH, options.steps, options.seed), options.steps, contrast)
    trained = time.monotonic()

    model = ship.export(net, options.out, ship.EMBEDDER)
    result = measure.embedder(model, unseen, crops.FPS)
    size = " x ".join(str(n) for n in BATCH)
    notes = {
        "origin": "models/train_embedder.py",
        "training": f"{options.matches} synthetic matches, {options.steps} steps of {size}, seed {options.seed}",
        "test": f"{options.test_matches} synthetic matches of other seeds, pictures a second or more apart",
        "rank1_match": f"{result['rank1_match']:.4f}",
        "rank1_team": f"{result['rank1_team']:.4f}",
        "map_team": f"{result['map_team']:.4f}",
    }
    ship.describe(options.out, ship.EMBEDDER, notes)
    print(f"training {trained - made:.0f} s, all {time.monotonic() - start:.0f} s\n{json.dumps(result)}")


if __name__ == "__main__":
    main()
