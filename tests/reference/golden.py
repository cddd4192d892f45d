"""Figures of the reference implementations for the sequences of cli/score/tests/reference.rs, written into that file.

GOLDEN_FOLDER=DIR cargo test --release --workspace --test reference inputs; golden.py DIR"""

import sys
import tempfile
from pathlib import Path

from agreement import ROOT, coco_figures, marked, trackeval_figures

SHARES = ["HOTA", "DetA", "AssA", "LocA", "AssRe", "AssPr", "IDF1", "MOTA", "MOTP", "AP", "AP50", "AP75", "AR100"]
COUNTS = ["TP", "FP", "FN", "IDSW", "MT", "PT", "ML", "Frag", "IDTP"]


def main():
    inputs, lines = Path(sys.argv[1]), []
    for truth in sorted(inputs.glob("*.gt.txt")):
        name = truth.name.split(".")[0]
        found = (inputs / f"{name}.txt").read_text()
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "truth" / name / "gt").mkdir(parents=True)
            (folder / "truth" / name / "gt" / "gt.txt").write_text(truth.read_text())
            (folder / "results").mkdir()
            (folder / "results" / f"{name}.txt").write_text(found)
            figures = trackeval_figures(folder, [name], "MOT15")[0][name]
        figures |= coco_figures(marked(truth.read_text().splitlines()), marked(found.splitlines()))
        shares = ", ".join(repr(float(figures[key])) for key in SHARES)
        counts = ", ".join(str(int(figures[key])) for key in COUNTS)
        lines.append(f"    Golden {{ shares: [{shares}], counts: [{counts}] }},\n")
    place = ROOT / "cli/score/tests/reference.rs"
    text = place.read_text()
    begin, end = text.index("const GOLDEN"), text.index("// GOLDEN ENDS")
    place.write_text(f"{text[:begin]}const GOLDEN: [Golden; {len(lines)}] = [\n{''.join(lines)}];\n{text[end:]}")


if __name__ == "__main__":
    main()
