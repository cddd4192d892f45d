"""The bench's work in Python: find people in recordings with YOLOX, and write their boxes to Parquet.

Called by `cargo xtask bench peers`, with a Python that has requirements.txt; peers to measure against, never part of the
product. Each prints one JSON object: the seconds that it took without the interpreter's and the framework's start.

    throughput.py MODE MODEL OUT RECORDING...

MODE is one of
    loop       what one writes first: OpenCV reads and resizes, ONNX Runtime with its defaults, one frame at a time
    processes  what one ends with: a process a core, everything on one thread, swscale resizes while it converts
    ray        Ray Data as its guide has it: flat_map decodes, map_batches on an actor infers, write_parquet
    ray-tuned  the same with half a processor a task, an actor a core, and one thread a session
    daft       Daft: a generator decodes, a class on a pool of processes infers, write_parquet
    versions   of what the others use

And two for the bench itself: `model MODEL RECORDING` is the model alone on one thread (frames, cpu_seconds), `compare TABLES
OTHER` says how many boxes two results have in common (TABLES: the folder of fulltime's detections).
"""

import importlib.metadata
import json
import multiprocessing
import os
import sys
import time

import numpy as np

SIDE = 416
STRIDES = (8, 16, 32)
# The defaults of a pipeline file.
THRESHOLD, OVERLAP = 0.25, 0.6
BATCH = 8
PEOPLE = 0
CORES = len(os.sched_getaffinity(0))


def fitted(width, height):
    """Size of the picture in the network's input, where it lies at the top left."""
    scale = SIDE / max(width, height)
    return round(width * scale), round(height * scale)


def decoded(path):
    """Frame number, scale and letterboxed BGR picture of every frame, by one thread and one pass of swscale."""
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        reformatter = av.video.reformatter.VideoReformatter()
        for number, frame in enumerate(container.decode(stream)):
            width, height = fitted(frame.width, frame.height)
            small = reformatter.reformat(frame, width, height, "bgr24", interpolation="BILINEAR")
            picture = np.full((SIDE, SIDE, 3), 114, np.uint8)
            picture[:height, :width] = small.to_ndarray()
            yield number, frame.width / width, picture


class Detector:
    def __init__(self, model, threads=1):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if threads:
            options.intra_op_num_threads = options.inter_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        cells = [np.stack(np.meshgrid(*[np.arange(SIDE // s)] * 2), -1).reshape(-1, 2) for s in STRIDES]
        self.cells = np.concatenate(cells).astype(np.float32)
        self.strides = np.concatenate([np.full((len(c), 1), s, np.float32) for c, s in zip(cells, STRIDES)])

    def __call__(self, pictures):
        """People in each of these pictures: x, y, w, h in the network's pixels, and the score."""
        tensor = np.ascontiguousarray(np.asarray(pictures).transpose(0, 3, 1, 2), np.float32)
        return [self.read(item) for item in self.session.run(None, {self.input: tensor})[0]]

    def read(self, item):
        scores = item[:, 4] * item[:, 5 + PEOPLE]
        good = np.flatnonzero(scores >= THRESHOLD)
        good = good[np.argsort(-scores[good], kind="stable")]
        strides = self.strides[good]
        size = np.exp(item[good, 2:4]) * strides
        corner = (item[good, :2] + self.cells[good]) * strides - size / 2
        return suppressed(np.hstack([corner, size, scores[good, None]]))


def suppressed(boxes):
    x, y, w, h = boxes[:, :4].T
    left = np.arange(len(boxes))
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        across = np.minimum(x[best] + w[best], x[left] + w[left]) - np.maximum(x[best], x[left])
        down = np.minimum(y[best] + h[best], y[left] + h[left]) - np.maximum(y[best], y[left])
        common = np.maximum(across, 0) * np.maximum(down, 0)
        left = left[common <= OVERLAP * (w[best] * h[best] + w[left] * h[left] - common)]
    return boxes[kept]


def rows(file, number, scale, boxes):
    return [(file, number, *(float(v) * scale for v in box[:4]), float(box[4])) for box in boxes]


COLUMNS = ("file", "frame", "x", "y", "w", "h", "score")


def write(found, out):
    import pyarrow
    import pyarrow.parquet

    columns = zip(*found) if found else ([] for _ in COLUMNS)
    pyarrow.parquet.write_table(pyarrow.table({n: list(c) for n, c in zip(COLUMNS, columns)}), out)


def name(path):
    return os.path.splitext(os.path.basename(path))[0]


def loop(model, out, paths):
    import cv2

    detector, found = Detector(model, threads=0), []
    for path in paths:
        video, number = cv2.VideoCapture(path), 0
        while True:
            more, frame = video.read()
            if not more:
                break
            height, width = frame.shape[:2]
            to = fitted(width, height)
            picture = np.full((SIDE, SIDE, 3), 114, np.uint8)
            picture[: to[1], : to[0]] = cv2.resize(frame, to, interpolation=cv2.INTER_LINEAR)
            found += rows(name(path), number, width / to[0], detector([picture])[0])
            number += 1
    write(found, out)


def one_recording(arguments):
    model, path = arguments
    global DETECTOR
    if "DETECTOR" not in globals():
        DETECTOR = Detector(model)
    # One frame a run is faster than 2, 4 or 8 on one thread: 9.9, 11.2, 11.9 and 12.5 ms a frame.
    return [row for number, scale, picture in decoded(path) for row in rows(name(path), number, scale, DETECTOR([picture])[0])]


def processes(model, out, paths):
    with multiprocessing.get_context("spawn").Pool(CORES) as pool:
        done = pool.map(one_recording, [(model, path) for path in paths], chunksize=1)
    write([row for found in done for row in found], out)


def ray(model, out, paths, tuned=False):
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    import ray as framework

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    # Its workers are nice by default (15), by which anything else on the machine would slow this peer alone.
    framework.init(num_cpus=CORES, _system_config={"worker_niceness": 0}, **quiet)
    framework.data.DataContext.get_current().enable_progress_bars = False
    begin = time.perf_counter()

    class Infer:
        def __init__(self):
            self.detector = Detector(model, threads=int(tuned))

        def __call__(self, batch):
            found = self.detector(batch["picture"])
            given = zip(batch["file"], batch["frame"], batch["scale"], found)
            made = [row for file, number, scale, boxes in given for row in rows(str(file), int(number), scale, boxes)]
            return {n: np.array([row[i] for row in made]) for i, n in enumerate(COLUMNS)}

    def frames(row):
        for number, scale, picture in decoded(row["path"]):
            yield {"file": name(row["path"]), "frame": number, "scale": scale, "picture": picture}

    data = framework.data.from_items([{"path": path} for path in paths], override_num_blocks=len(paths))
    # Whole processors would wait for each other: a decoder and an actor are busy by turns.
    each = {"num_cpus": 0.5 if tuned else 1}
    pool = framework.data.ActorPoolStrategy(size=CORES if tuned else 1)
    data = data.flat_map(frames, **each).map_batches(Infer, batch_size=BATCH, compute=pool, **each)
    data.write_parquet(out)
    return begin


def ray_tuned(model, out, paths):
    return ray(model, out, paths, tuned=True)


def daft(model, out, paths):
    import daft as framework
    from daft import DataType, col

    begin = time.perf_counter()
    picture = DataType.struct(
        {"frame": DataType.int64(), "scale": DataType.float64(), "picture": DataType.tensor(DataType.uint8(), (SIDE, SIDE, 3))}
    )
    box = DataType.struct({n: DataType.float64() for n in COLUMNS[2:]})

    @framework.func(return_dtype=picture)
    def frames(path):
        for number, scale, small in decoded(path):
            yield {"frame": number, "scale": scale, "picture": small}

    @framework.cls(max_concurrency=CORES, use_process=True)
    class Infer:
        def __init__(self):
            self.detector = Detector(model)

        @framework.method.batch(return_dtype=DataType.list(box), batch_size=BATCH)
        def boxes(self, pictures, scales):
            found = self.detector(np.stack(pictures.to_pylist()))
            scaled = zip(scales.to_pylist(), found)
            return [[dict(zip(COLUMNS[2:], row[2:])) for row in rows("", 0, s, boxes)] for s, boxes in scaled]

    infer = Infer()
    data = framework.from_pydict({"path": paths, "file": [name(path) for path in paths]}).into_partitions(len(paths))
    data = data.select("file", frames(col("path")).alias("p"))
    data = data.select("file", col("p")["frame"].alias("frame"), infer.boxes(col("p")["picture"], col("p")["scale"]).alias("box"))
    data = data.explode("box").where(col("box").not_null())
    data = data.select("file", "frame", *(col("box")[n].alias(n) for n in COLUMNS[2:]))
    data.write_parquet(out)
    return begin


def model_alone(model, path, frames=300):
    import itertools
    import resource

    detector = Detector(model)
    few = [picture for *_, picture in itertools.islice(decoded(path), 8)]
    tensors = [np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) for picture in few]
    run = lambda i: detector.session.run(None, {detector.input: tensors[i % len(tensors)]})
    run(0)
    used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    begin, cpu = time.perf_counter(), used()
    for i in range(frames):
        run(i)
    seconds = time.perf_counter() - begin
    print(json.dumps({"frames": frames, "seconds": seconds, "cpu_seconds": used() - cpu}))


def by_frame(table, file):
    frames = {}
    columns = [table.column(n).to_pylist() for n in (file, *COLUMNS[1:6])]
    for name, frame, *box in zip(*columns):
        frames.setdefault((name, frame), []).append(box)
    return frames


def compare(ours, other):
    """Of all boxes, how many have a partner in the other result (IoU of at least 0.5, each used once), and how well they
    agree."""
    import pyarrow.dataset

    ours = by_frame(pyarrow.dataset.dataset(ours, partitioning="hive").to_table(), "match")
    other = by_frame(pyarrow.dataset.dataset(other).to_table(), "file")
    count, matched, agreed = 0, 0, 0.0
    for key in ours.keys() | other.keys():
        a, b = (np.array(side.get(key, []), np.float64).reshape(-1, 4) for side in (ours, other))
        count += max(len(a), len(b))
        corner = np.maximum(a[:, None, :2], b[None, :, :2])
        common = np.clip(np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:]) - corner, 0, None).prod(-1)
        iou = common / (a[:, 2:].prod(-1)[:, None] + b[:, 2:].prod(-1)[None] - common)
        while iou.size and iou.max() >= 0.5:
            i, j = np.unravel_index(iou.argmax(), iou.shape)
            matched, agreed = matched + 1, agreed + iou[i, j]
            iou[i, :] = iou[:, j] = 0
    sides = [sum(map(len, side.values())) for side in (ours, other)]
    print(json.dumps({"ours": sides[0], "other": sides[1], "share": matched / max(count, 1), "iou": agreed / max(matched, 1)}))


def versions():
    packages = ("av", "daft", "numpy", "onnxruntime", "opencv-python-headless", "pyarrow", "ray")
    found = {package: importlib.metadata.version(package) for package in packages}
    print(json.dumps({"python": sys.version.split()[0], **found}))


def main():
    mode, *rest = sys.argv[1:]
    if mode == "versions":
        return versions()
    if mode == "model":
        return model_alone(*rest)
    if mode == "compare":
        return compare(*rest)
    model, out, *paths = rest
    begin = time.perf_counter()
    run = {"loop": loop, "processes": processes, "ray": ray, "ray-tuned": ray_tuned, "daft": daft}[mode]
    made = run(model, out, paths)
    if isinstance(made, float):
        begin = made
    print(json.dumps({"seconds": time.perf_counter() - begin}))


if __name__ == "__main__":
    main()
