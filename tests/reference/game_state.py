"""Compares GS-HOTA with the evaluator of the SoccerNet challenge (sn-trackeval 0.4.0, which needs an environment of its own
with numpy<2): game_state.py TRUTH.json RESULTS.json FIGURES.json, the last being what `fulltime eval --json` printed."""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

np.float, np.int, np.bool = float, int, bool  # Names that the package still uses.
import trackeval  # noqa: E402


def main():
    truth, results, figures = map(Path, sys.argv[1:])
    name = "SNGS-001"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data = json.loads(truth.read_text())
        data["annotations"] = data.pop("predictions", None) or data["annotations"]
        place = folder / "truth" / "test" / name / "Labels-GameState.json"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(data))
        place = folder / "found" / "SoccerNetGS-test" / "tracker" / f"{name}.json"
        place.parent.mkdir(parents=True)
        place.write_text(results.read_text())
        dataset = trackeval.datasets.SoccerNetGS({
            "GT_FOLDER": str(folder / "truth"), "TRACKERS_FOLDER": str(folder / "found"), "TRACKERS_TO_EVAL": ["tracker"],
            "SPLIT_TO_EVAL": "test", "TRACKER_SUB_FOLDER": "", "SEQ_INFO": {name: None}, "PRINT_CONFIG": False})
        hota = trackeval.metrics.HOTA()
        data = dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data("tracker", name), "person")
        theirs = float(np.mean(hota.eval_sequence(data)["HOTA"]))
    ours = json.loads(figures.read_text())["GS-HOTA"]
    print(f"GS-HOTA {ours}, sn-trackeval {theirs}")
    sys.exit(0 if abs(ours - theirs) < 1e-6 else 1)


if __name__ == "__main__":
    main()
