"""Checks what training and scoring rest on: `python3 models/test_synthdet.py`. No generator and no pictures needed."""

import unittest

import setup_cpu

setup_cpu.enter()

import numpy as np  # noqa: E402 - these live in the environment that was just entered
import torch  # noqa: E402

from synthdet import BALL, INPUT_SIZE, PLAYER, loss, net, score  # noqa: E402
from synthdet.matches import Recording  # noqa: E402
from synthdet.pictures import whole, window  # noqa: E402


def perfect(objects: np.ndarray) -> list[torch.Tensor]:
    """The raw answer of a network that is right about `objects`, rows of (picture, class, corners)."""
    levels = []
    for index, stride in enumerate(net.STRIDES):
        height, width = INPUT_SIZE[1] // stride, INPUT_SIZE[0] // stride
        targets = loss.assign(index, (1, height, width), objects)
        level = torch.full((1, 7, height, width), -12.0)
        for y, x in zip(*np.nonzero(targets.owner[0] >= 0), strict=True):
            _, kind, x0, y0, x1, y1 = objects[targets.owner[0, y, x]].tolist()
            box = [
                (x0 + x1) / 2 / stride - x,
                (y0 + y1) / 2 / stride - y,
                np.log((x1 - x0) / stride),
                np.log((y1 - y0) / stride),
            ]
            chance = 12.0 if targets.distance[0, y, x] < loss.REACH else -12.0
            level[0, :, y, x] = torch.tensor([*box, chance, *(12.0 if kind == c else -12.0 for c in (PLAYER, BALL))])
        levels.append(level)
    return levels


OBJECTS = np.array(
    [
        [0, PLAYER, 100, 100, 120, 150],
        [0, PLAYER, 112, 104, 131, 155],
        [0, PLAYER, 0, 350, 9, 384],
        [0, BALL, 633, 2, 638, 7],
    ],
    np.float32,
)


class Detection(unittest.TestCase):
    def test_a_perfect_answer_costs_next_to_nothing_and_decodes_to_the_objects(self):
        levels = perfect(OBJECTS)
        parts = loss.detection_loss(levels, OBJECTS)
        self.assertLess(max(float(parts[name]) for name in ("class", "box", "side")), 1e-3)
        flat = [torch.cat([level[:, :4], level[:, 4:].sigmoid()], 1).flatten(2) for level in levels]
        rows = torch.cat(flat, 2).transpose(1, 2)[0].numpy()
        found = score.decode(rows, list(net.STRIDES), 0.5, 0.6)
        self.assertEqual(len(found), len(OBJECTS))
        order = np.argsort(found[:, 0] * 1e6 + found[:, 2] * 1e3 + found[:, 3])
        wanted = OBJECTS[np.argsort(OBJECTS[:, 1] * 1e6 + OBJECTS[:, 2] * 1e3 + OBJECTS[:, 3])]
        np.testing.assert_allclose(found[order][:, [0, 2, 3, 4, 5]], wanted[:, 1:], atol=0.01)

    def test_cells_inside_an_object_that_is_not_judged_are_no_background(self):
        hidden = np.array([[0, -1, 80, 80, 120, 160]], np.float32)
        targets = loss.assign(1, (1, 48, 80), hidden)
        self.assertFalse(targets.judged[0, 10:20, 10:15].any())
        self.assertTrue((targets.owner < 0).all())
        self.assertEqual((~targets.judged).sum(), 50)

    def test_export_form_answers_like_the_training_form(self):
        torch.manual_seed(0)
        network = net.Detector().eval()
        picture = torch.rand(1, 3, 64, 96) * 255
        with torch.no_grad():
            training = torch.cat([level.flatten(2) for level in network.levels(picture * net.PIXEL_SCALE)], 2)
            exported = network.fuse()(picture).transpose(1, 2)
        training[:, 4:] = training[:, 4:].sigmoid()
        torch.testing.assert_close(exported, training, atol=1e-4, rtol=1e-4)


class Score(unittest.TestCase):
    def test_average_precision_of_known_orders(self):
        self.assertEqual(score.average_precision([(0.9, True), (0.8, True)], 2), 1.0)
        self.assertEqual(score.average_precision([], 3), 0.0)
        # Half of all found without error: 51 of the 101 recall points.
        self.assertAlmostEqual(score.average_precision([(0.9, True)], 2), 51 / 101)
        # The wrong one first: precision 1/2 wherever there is recall.
        self.assertAlmostEqual(score.average_precision([(0.9, False), (0.8, True)], 1), 0.5)

    def test_a_second_box_on_an_object_is_wrong_and_a_box_on_an_unjudged_one_is_nothing(self):
        truth = np.array([[PLAYER, 0, 0, 10, 20], [-1, 50, 0, 60, 20]], float)
        boxes = [[PLAYER, 0.9, 0, 0, 10, 20], [PLAYER, 0.8, 1, 0, 10, 20], [PLAYER, 0.7, 50, 0, 60, 20]]
        verdicts, wanted = score.judge(np.array(boxes), truth)
        self.assertEqual((verdicts, wanted), ([(0.9, True), (0.8, False)], 1))

    def test_suppression_leaves_other_classes_and_what_a_suppressed_box_overlapped(self):
        # Three in a row: the second falls to the first, the third overlaps only the second and stays.
        rows = np.zeros((sum(INPUT_SIZE[0] // s * (INPUT_SIZE[1] // s) for s in net.STRIDES), 7), np.float32)
        for cell, confidence in ((0, 0.9), (1, 0.8), (2, 0.7)):
            rows[cell] = [0, 0, np.log(4), np.log(4), confidence, 1, 0]
        rows[3] = [-3, 0, np.log(4), np.log(4), 0.6, 0, 1]
        kept = score.decode(rows, list(net.STRIDES), 0.1, 0.5)
        np.testing.assert_allclose(kept[:, :2], [[PLAYER, 0.9], [PLAYER, 0.7], [BALL, 0.6]], atol=1e-6)


class Pictures(unittest.TestCase):
    def recording(self) -> Recording:
        """Black but for a white rectangle, which is the only object."""
        y, chroma = np.full((720, 1280), 16, np.uint8), np.full(720 * 1280 // 2, 128, np.uint8)
        y[300:400, 600:640] = 235
        packed = np.concatenate([y.reshape(-1), chroma]).reshape(1, 1080, 1280)
        return Recording("m1_p1_main", packed, [np.array([[PLAYER, 600, 300, 640, 400]], np.float32)])

    def test_a_whole_picture_lies_at_the_top_left_over_grey(self):
        picture, scale = whole(self.recording(), 0)
        self.assertEqual(scale, 0.7)
        self.assertTrue((picture[:, 504:] == 114).all())
        self.assertTrue((picture[:, 212:278, 422:446] > 254).all())
        self.assertLess(float(picture[:, :208].max()), 1)

    def test_a_window_s_objects_lie_on_its_pixels(self):
        for seed in range(20):
            picture, objects = window(self.recording(), 0, (320, 256), np.random.default_rng(seed))
            luma = picture.mean(0).numpy()
            bright = np.argwhere(luma > (luma.max() + 114) / 2 + 10)
            low, high = bright.min(0)[::-1], bright.max(0)[::-1] + 1
            np.testing.assert_allclose(objects[0, 1:], [*low, *high], atol=1.5, err_msg=f"seed {seed}")


if __name__ == "__main__":
    unittest.main()
