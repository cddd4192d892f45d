"""Scores corrupted ground truth with fulltime, with TrackEval and with pycocotools, and compares every figure."""

import argparse
import contextlib
import gzip
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import trackeval
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from corrupt import corrupt, read, write

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-6
COUNTS = {"TP": "CLR_TP", "FP": "CLR_FP", "FN": "CLR_FN", "IDSW": "IDSW", "MT": "MT", "PT": "PT", "ML": "ML", "Frag": "Frag",
          "IDTP": "IDTP", "IDFP": "IDFP", "IDFN": "IDFN"}
SHARES = {"MOTA": "MOTA", "MOTP": "MOTP", "IDF1": "IDF1", "IDP": "IDP", "IDR": "IDR", "Re": "CLR_Re", "Pr": "CLR_Pr"}
HIGHER = ["HOTA", "DetA", "AssA", "LocA", "DetRe", "DetPr", "AssRe", "AssPr"]
COCO_NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def trackeval_figures(folder, names, benchmark):
    lengths = {}
    for name in names:
        files = [folder / "truth" / name / "gt" / "gt.txt", folder / "results" / f"{name}.txt"]
        lengths[name] = max(int(float(line.split(",")[0])) for file in files for line in open(file) if line.strip())
    quiet = {"PRINT_CONFIG": False}
    dataset = trackeval.datasets.MotChallenge2DBox({
        **quiet, "GT_FOLDER": str(folder / "truth"), "TRACKERS_FOLDER": str(folder), "TRACKERS_TO_EVAL": ["results"],
        "TRACKER_SUB_FOLDER": "", "SKIP_SPLIT_FOL": True, "SEQ_INFO": lengths, "BENCHMARK": benchmark,
        "OUTPUT_FOLDER": str(folder / "out")})
    metrics = [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR(quiet), trackeval.metrics.Identity(quiet)]
    figures, parts = {}, {}
    for name in names:
        data = dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data("results", name), "pedestrian")
        results = [metric.eval_sequence(data) for metric in metrics]
        parts[name], figures[name] = results, flat(*results)
    together = [metric.combine_sequences({n: p[i] for n, p in parts.items()}) for i, metric in enumerate(metrics)]
    return figures, flat(*together)


def flat(hota, clear, identity):
    both = {**clear, **identity}
    return {**{n: float(np.mean(hota[n])) for n in HIGHER}, **{n: float(both[k]) for n, k in {**COUNTS, **SHARES}.items()}}


class Marked(COCOeval):
    """What the truth marks 0 may be found or not; pycocotools itself knows that of crowds only."""

    def _prepare(self):
        super()._prepare()
        for boxes in self._gts.values():
            for box in boxes:
                box["ignore"] = box["marked"]


def coco_figures(truth, found):
    images = sorted({row[0] for row in truth} | {row[0] for row in found})
    box = lambda row: list(row[2:6])
    data = {"images": [{"id": i} for i in images], "categories": [{"id": 1}],
            "annotations": [{"id": n + 1, "image_id": row[0], "category_id": 1, "bbox": box(row), "area": row[4] * row[5],
                             "iscrowd": 0, "marked": int(row[6] == 0)} for n, row in enumerate(truth)]}
    detections = [{"image_id": r[0], "category_id": 1, "bbox": box(r), "score": r[6]} for r in found]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = data
        coco.createIndex()
        evaluation = Marked(coco, coco.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(COCO_NAMES, evaluation.stats))


def compare(name, ours, theirs, worst):
    failed = 0
    for key, value in theirs.items():
        mine = ours[key]
        mine = -1.0 if mine is None else mine  # pycocotools says -1 where there is nothing of that size.
        difference = abs(mine - value)
        worst[key] = max(worst.get(key, 0.0), difference)
        if difference > TOLERANCE:
            failed += 1
            print(f"{name}: {key} is {mine}, not {value}")
    return failed


def sequences(assets):
    for folder in sorted((assets / "mot15").glob("*/gt.txt")):
        yield folder.parent.name, folder, "MOT15"
    for folder in sorted((assets / "sportsmot").glob("*/gt/gt.txt.gz")):
        yield folder.parent.parent.name, folder, "MOT17"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, default=ROOT / "../shared/assets")
    parser.add_argument("--fulltime", type=Path, default=ROOT / "target/release/fulltime")
    parser.add_argument("--corruptions", type=int, default=20)
    parser.add_argument("--ap", type=int, default=3, help="corruptions of each sequence that go through pycocotools")
    options = parser.parse_args()
    failed, scored, worst = 0, 0, {}
    for name, path, benchmark in sequences(options.assets):
        rows = read(path)
        with tempfile.TemporaryDirectory() as folder:
            folder, found = Path(folder), {}
            with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
                text = [line.replace(" ", "") for line in file]
            for seed in range(options.corruptions + 1):
                variant = f"{name}-{seed:02}"
                found[variant] = corrupt(rows, seed)
                write(found[variant], folder / "results" / f"{variant}.txt")
                (folder / "truth" / variant / "gt").mkdir(parents=True)
                (folder / "truth" / variant / "gt" / "gt.txt").write_text("".join(text))
            command = [options.fulltime, "eval", "--json", "--ground-truth", folder / "truth", "--results", folder / "results"]
            ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            theirs, together = trackeval_figures(folder, sorted(found), benchmark)
            for variant, figures in theirs.items():
                failed += compare(variant, ours["sequences"][variant], figures, worst)
                scored += 1
            failed += compare(f"{name}, together", ours, together, worst)
            for variant in sorted(found)[1:options.ap + 1]:
                failed += compare(variant, ours["sequences"][variant], coco_figures(marked(text), found[variant]), worst)
        print(f"{name}: {len(found)} result files, {failed} figures differ so far", flush=True)
    print(f"{scored} result files; greatest difference of any figure: {max(worst.values(), default=0):.2e}")
    print(json.dumps({key: value for key, value in sorted(worst.items())}))
    sys.exit(1 if failed or not scored else 0)


def marked(text):
    """Rows with their mark: (frame, id, x, y, w, h, counts)."""
    rows = [[float(v) for v in line.split(",")] for line in text if line.strip()]
    return [(int(r[0]), int(r[1]), *r[2:7]) for r in rows]


if __name__ == "__main__":
    main()
