"""Checks what `fulltime export` wrote below a folder with the tools that the formats are made for.

exports.py FOLDER: CDF with common-data-format-validator, COCO with pycocotools, MOT against itself with TrackEval, game
states against the rules of their evaluator (its package, sn-trackeval, needs an older NumPy and is not needed here)."""

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import cdf
from pycocotools.coco import COCO

from agreement import trackeval_figures

BOX = ["x_bottom_left", "y_bottom_left", "x_bottom_right", "y_bottom_right", "x_bottom_middle", "y_bottom_middle"]


def check_cdf(tracking):
    # "strict" raises whatever the schema, the naming rules or the pitch's bounds forbid.
    cdf.TrackingSchemaValidator().validate_schema(sample=str(tracking), mode="strict", limit=None)
    cdf.MetaSchemaValidator().validate_schema(sample=str(tracking.with_name("meta.json")), mode="strict")


def check_gsr(path):
    data = json.load(open(path))
    known = {image["image_id"] for image in data["images"]}
    assert known and all(len(image) == 10 and image.isdigit() for image in known)
    assert min(int(image[4:]) for image in known) == 1
    seen = set()
    for row in data["predictions"]:
        attributes = row["attributes"]
        assert row["image_id"] in known and row["supercategory"] == "object"
        assert all(isinstance(row["bbox_pitch"][key], float) for key in BOX)
        assert attributes["role"] in {None, "other", "player", "goalkeeper", "referee", "ball"}
        assert attributes["team"] in {None, "left", "right"}
        assert attributes["jersey"] is None or 0 <= int(attributes["jersey"]) <= 10000
        assert (row["image_id"], row["track_id"]) not in seen
        seen.add((row["image_id"], row["track_id"]))


def check_coco(path):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
        results = coco.loadRes(str(path.with_suffix("")) + ".detections.json")
    assert len(results.anns) == len(coco.anns) > 0


def check_mot(path):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for place in [folder / "truth/x/gt/gt.txt", folder / "results/x.txt"]:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(path.read_text())
        # Scores below 1 would be marked 0 in ground truth.
        rows = [line.split(",") for line in path.read_text().splitlines()]
        marked = "\n".join(",".join([*row[:6], "1", *row[7:]]) for row in rows) + "\n"
        (folder / "truth/x/gt/gt.txt").write_text(marked)
        figures = trackeval_figures(folder, ["x"], "MOT15")[0]["x"]
    assert abs(figures["HOTA"] - 1) < 1e-9 and figures["IDF1"] == 1 and figures["MOTA"] == 1, figures


def main():
    folder, checked = Path(sys.argv[1]), 0
    for pattern, check in [("**/tracking.jsonl", check_cdf), ("**/SNGS-*.json", check_gsr),
                           ("**/*.detections.json", lambda p: check_coco(Path(str(p).replace(".detections", "")))),
                           ("**/*.txt", check_mot)]:
        for path in sorted(folder.glob(pattern)):
            check(path)
            checked += 1
            print(f"{path.relative_to(folder)}: ok")
    assert checked, f"nothing to check below {folder}"


if __name__ == "__main__":
    main()
