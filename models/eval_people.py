"""Scores the shipped embedder and digit reader again on synthetic matches that no training saw:
`python3 models/eval_people.py`. Prints one JSON object; exits with 1 where a score is below what is asked."""

import argparse
import json
import sys
from pathlib import Path

import setup_cpu

setup_cpu.enter()

from synthdet import matches  # noqa: E402 - these live in the environment that was just entered
from synthpeople import crops, measure, ship  # noqa: E402

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":", 1)[0])
    parser.add_argument("--embedder", type=Path, default=HERE / "synth-embedder")
    parser.add_argument("--reader", type=Path, default=HERE / "synth-digits")
    parser.add_argument("--work", type=Path, default=HERE.parent / "out" / "synth-people", help="for pictures")
    parser.add_argument("--generator", type=Path, help="fulltime-synth; default: build it")
    parser.add_argument("--matches", type=int, default=20)
    parser.add_argument("--least-rank1", type=float, default=0.9, help="asked of the embedder within a team")
    parser.add_argument("--least-right", type=float, default=0.87, help="asked of the reader where a number is readable")
    parser.add_argument("--most-wrong", type=float, default=0.06, help="numbers misread where readable")
    options = parser.parse_args()

    binary = options.generator or matches.generator(HERE.parent)
    unseen = crops.load(binary, options.work / "test", crops.TEST_SEED, options.matches)
    people = measure.embedder(ship.read_shipped(options.embedder), unseen, crops.FPS)
    numbers = measure.reader(ship.read_shipped(options.reader), unseen)
    print(json.dumps({"embedder": people, "reader": numbers}))
    good = people["rank1_team"] >= options.least_rank1
    return 0 if good and numbers["right"] >= options.least_right and numbers["wrong"] <= options.most_wrong else 1


if __name__ == "__main__":
    sys.exit(main())
