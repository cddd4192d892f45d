"""Writes the figures of the reference implementations for the matches of cli/score/tests/reference.rs into that file. The
matches are made up here as they are there, number for number."""

import re
import tempfile
from pathlib import Path

from agreement import ROOT, coco_figures, marked, trackeval_figures

SHARES = ["HOTA", "DetA", "AssA", "LocA", "AssRe", "AssPr", "IDF1", "MOTA", "MOTP", "AP", "AP50", "AP75", "AR100"]
COUNTS = ["TP", "FP", "FN", "IDSW", "MT", "PT", "ML", "Frag", "IDTP"]


class Rng:
    """Lehmer's generator with the constants of Park and Miller (1988)."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = self.state * 48271 % 2147483647
        return self.state % n


def truth(seed):
    rng = Rng(seed)
    people = [[rng.below(500), rng.below(300), rng.below(9) - 4, rng.below(7) - 3] for _ in range(8)]
    rows = []
    for frame in range(1, 61):
        for id, person in enumerate(people, 1):
            person[0], person[1] = person[0] + person[2], person[1] + person[3]
            if (frame // 7 + id) % 9 != 0:
                rows.append((frame, id, person[0], person[1], 40, 80, int(rng.below(20) > 0)))
    return rows


def found(rows, seed):
    rng, result, next_id = Rng(seed + 1000), [], 100
    for frame, id, x, y, w, h, _ in rows:
        if rng.below(10) == 0:
            continue
        if frame > 30 and id <= 3:
            id = id % 3 + 1
        x, y = x + rng.below(17) - 8, y + rng.below(17) - 8
        result.append((frame, id, x, y, w, h, rng.below(100) / 100))
        if rng.below(12) == 0:
            next_id += 1
            x += rng.below(3) * 20
            result.append((frame, next_id, x, y, w, h, rng.below(100) / 100))
    return result


def main():
    lines = []
    for seed in range(1, 4):
        name, true_rows = str(seed), truth(seed)
        texts = ["".join(f"{','.join(map(str, row))},-1,-1,-1\n" for row in rows) for rows in (true_rows, found(true_rows, seed))]
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "truth" / name / "gt").mkdir(parents=True)
            (folder / "truth" / name / "gt" / "gt.txt").write_text(texts[0])
            (folder / "results").mkdir()
            (folder / "results" / f"{name}.txt").write_text(texts[1])
            figures = trackeval_figures(folder, [name], "MOT15")[0][name]
        figures |= coco_figures(*(marked(text.splitlines()) for text in texts))
        shares = "".join(f"            {float(figures[key])!r},\n" for key in SHARES)
        counts = ", ".join(str(int(figures[key])) for key in COUNTS)
        lines.append(f"    Golden {{\n        shares: [\n{shares}        ],\n        counts: [{counts}],\n    }},\n")
    place = ROOT / "cli/score/tests/reference.rs"
    text = place.read_text()
    golden = f"const GOLDEN: [Golden; {len(lines)}] = [\n{''.join(lines)}];\n"
    place.write_text(re.sub(r"const GOLDEN: .*?\n\];\n", lambda _: golden, text, flags=re.S))


if __name__ == "__main__":
    main()
