"""Trains the shirt-number reader for synthetic matches and ships it: `python3 models/train_digits.py`.

Makes the environment, the matches and the network, then scores the exported file on matches that no training saw and
writes synth-digits/{synth-digits.onnx,manifest.toml}. Every draw is seeded.
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
from synthpeople.batches import REGION, Numbers  # noqa: E402
from synthpeople.net import BLANK, Reader  # noqa: E402
from synthpeople.train import train  # noqa: E402

HERE = Path(__file__).resolve().parent


def ctc(net: Reader, pictures: Tensor, numbers: Tensor) -> Tensor:
    """Mean of -log P(number): CTC (Graves et al., 2006), where "nothing" is the empty string."""
    places = net.logits(pictures * PIXEL_SCALE).log_softmax(2).transpose(0, 1)
    texts = ["" if number < 0 else str(number) for number in numbers.tolist()]
    digits = torch.tensor([int(digit) for text in texts for digit in text], dtype=torch.long)
    lengths = torch.tensor([len(text) for text in texts])
    sizes = torch.full((len(texts),), len(places))
    loss = torch.nn.functional.ctc_loss(places, digits, sizes, lengths, blank=BLANK, reduction="none")
    return loss.mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--work", type=Path, default=HERE.parent / "out" / "synth-people", help="for pictures")
    parser.add_argument("--out", type=Path, default=HERE / "synth-digits")
    parser.add_argument("--generator", type=Path, help="fulltime-synth; default: build it")
    parser.add_argument("--matches", type=int, default=200, help="to train on")
    parser.add_argument("--test-matches", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=192)
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
    net = train(Reader(), Numbers(seen, options.batch, options.steps, options.seed), options.steps, ctc)
    trained = time.monotonic()

    model = ship.export(net, options.out, ship.READER)
    result = measure.reader(model, unseen)
    notes = {
        "origin": "models/train_digits.py",
        "training": f"{options.matches} synthetic matches, {options.steps} steps of {options.batch}, seed {options.seed}",
        "test": f"{options.test_matches} synthetic matches of other seeds, boxes as unsure as a detector's",
        "region": f"left, top, right, bottom {list(REGION)} of the person's box",
        "right_of_readable": f"{result['right']:.4f}",
        "wrong_of_readable": f"{result['wrong']:.4f}",
        "false_of_unreadable": f"{result['false_readings']:.4f}",
        "numbers": "1 to 34, all that the generator draws",
    }
    ship.describe(options.out, ship.READER, notes)
    print(f"training {trained - made:.0f} s, all {time.monotonic() - start:.0f} s\n{json.dumps(result)}")


if __name__ == "__main__":
    main()
