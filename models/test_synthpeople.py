"""Checks what training and scoring of the people's networks rest on: `python3 models/test_synthpeople.py`. No generator
and no pictures needed."""

import itertools
import unittest

import setup_cpu

setup_cpu.enter()

import numpy as np  # noqa: E402 - these live in the environment that was just entered
import torch  # noqa: E402

from synthpeople import batches, net  # noqa: E402
from synthpeople.crops import COLUMN, FIELDS, Crops  # noqa: E402
from synthpeople.measure import chance_of_numbers  # noqa: E402


def collapsed(path: tuple[int, ...]) -> str:
    """What a path says: repeats are one, blanks are nothing."""
    kept = [kind for kind, _ in itertools.groupby(path)]
    return "".join(str(kind) for kind in kept if kind != net.BLANK)


def printed(**values: float) -> Crops:
    """One person, 40 wide and 100 high at (200, 100), with a number 12 high and 14 wide on the chest."""
    row = {"left": 200, "top": 100, "width": 40, "height": 100, "number": 23, "print_left": 213, "print_top": 122}
    row |= {"print_width": 14, "print_height": 12, "print_visible": 1.0} | values
    rows = np.zeros((1, len(FIELDS)))
    for name, value in row.items():
        rows[0, COLUMN[name]] = value
    return Crops("m1_p1_main", rows, np.zeros(0, np.uint8))


class Reading(unittest.TestCase):
    def test_the_chance_of_a_number_is_the_sum_over_all_paths_that_say_it(self):
        places = np.random.default_rng(1).dirichlet(np.ones(11), (1, 4))
        sums: dict[str, float] = {}
        for path in itertools.product(range(11), repeat=4):
            text = collapsed(path)
            sums[text] = sums.get(text, 0.0) + float(np.prod([places[0, t, kind] for t, kind in enumerate(path)]))
        chances = chance_of_numbers(places)[0]
        for number in range(100):
            self.assertAlmostEqual(chances[number], sums[str(number)], places=12)

    def test_what_is_cut_off_hidden_or_tiny_cannot_be_read(self):
        def verdict(crops: Crops, region: tuple = batches.REGION) -> int:
            return int(batches.legibility(crops, np.array([0]), batches.regions(crops.boxes, region))[0])

        self.assertEqual(verdict(printed()), batches.READABLE)
        self.assertEqual(verdict(printed(print_left=234)), batches.UNREADABLE)
        self.assertEqual(verdict(printed(), (0.5, 0.12, 1.0, 0.55)), batches.UNREADABLE)
        self.assertEqual(verdict(printed(print_visible=0.3)), batches.UNREADABLE)
        self.assertEqual(verdict(printed(print_visible=-1)), batches.UNREADABLE)
        self.assertEqual(verdict(printed(print_height=4)), batches.UNREADABLE)
        self.assertEqual(verdict(printed(print_visible=0.6)), batches.UNSURE)


class Networks(unittest.TestCase):
    def test_shapes_and_sums_are_what_the_manifests_say(self):
        places = net.Reader().eval()(torch.rand(2, 3, *net.NUMBER_SIZE[::-1]))
        self.assertEqual(tuple(places.shape), (2, 16, 11))
        torch.testing.assert_close(places.sum(2), torch.ones(2, 16))
        self.assertEqual(tuple(net.Embedder().eval()(torch.rand(2, 3, *net.PERSON_SIZE[::-1])).shape), (2, net.WIDTH))

    def test_fusing_changes_nothing(self):
        torch.manual_seed(1)
        for network, size in ((net.Reader(), net.NUMBER_SIZE), (net.Embedder(), net.PERSON_SIZE)):
            pictures = torch.rand(2, 3, *size[::-1]) * 255
            before = network.eval()(pictures * net.PIXEL_SCALE)
            torch.testing.assert_close(network.fuse()(pictures), before, rtol=1e-3, atol=1e-4)


if __name__ == "__main__":
    unittest.main()
