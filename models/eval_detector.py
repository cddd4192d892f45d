"""Scores the shipped detector again, with the settings of its pipeline, on synthetic matches that no training saw:
`python3 models/eval_detector.py`. Prints one JSON object; exits with 1 where the score is below what is asked."""

import argparse
import json
import sys
from pathlib import Path

import setup_cpu

setup_cpu.enter()

from synthdet import matches, score  # noqa: E402 - these live in the environment that was just entered

HERE = Path(__file__).resolve().parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":", 1)[0])
    parser.add_argument("--model", type=Path, default=HERE / "synth-detector", help="folder of manifest and pipeline")
    parser.add_argument("--work", type=Path, default=HERE.parent / "out" / "synth-detector", help="for pictures")
    parser.add_argument("--generator", type=Path, help="fulltime-synth; default: build it")
    parser.add_argument("--matches", type=int, default=10)
    parser.add_argument("--least-player", type=float, default=0.95, help="AP50 asked for people")
    parser.add_argument("--least-ball", type=float, default=0.7, help="AP50 asked for balls")
    options = parser.parse_args()

    binary = options.generator or matches.generator(HERE.parent)
    unseen = matches.load(binary, options.work / "test", matches.TEST_SEED, options.matches)
    result = score.report(options.model, unseen)
    print(json.dumps(result))
    return 0 if result["ap50_player"] >= options.least_player and result["ap50_ball"] >= options.least_ball else 1


if __name__ == "__main__":
    sys.exit(main())
