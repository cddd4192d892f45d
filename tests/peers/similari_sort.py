"""Runs the trackers of the `similari` crate (0.26, from its Python wheel) over detections in MOTChallenge text.

Called by `cargo xtask bench track --python PYTHON`, with a Python that has similari-trackers-rs==0.26.12; it is a
peer to measure against, never part of the product.

    similari_sort.py METHOD IDLE FILE OUT [FILE OUT ...]

METHOD is `iou` (threshold 0.3, SORT's) or `mahalanobis`; IDLE is how many frames a track outlives its last sighting.
"""

import sys

from similari import BoundingBox, PositionalMetricType, Sort


def frames(path):
    """Boxes with confidence of every frame from 1 to the last."""
    found = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            frame, _, left, top, width, height, score = map(float, line.split(",")[:7])
            found.setdefault(int(frame), []).append((left, top, width, height, score))
    return [found.get(frame, []) for frame in range(1, max(found, default=0) + 1)]


def follow(path, out, method, idle):
    metric = {"iou": PositionalMetricType.iou(threshold=0.3), "mahalanobis": PositionalMetricType.maha()}[method]
    tracker = Sort(shards=1, bbox_history=1, max_idle_epochs=idle, method=metric)
    ids = {}
    with open(out, "w", encoding="utf-8") as results:
        for number, boxes in enumerate(frames(path), 1):
            seen = [(BoundingBox.new_with_confidence(*box).as_xyaah(), None) for box in boxes]
            for track in tracker.predict(seen):
                box = track.predicted_bbox.as_ltwh()
                identity = ids.setdefault(track.id, len(ids) + 1)
                results.write(f"{number},{identity},{box.left},{box.top},{box.width},{box.height},1,-1,-1,-1\n")


def main():
    method, idle, *files = sys.argv[1:]
    for path, out in zip(files[::2], files[1::2], strict=True):
        follow(path, out, method, int(idle))


if __name__ == "__main__":
    main()
