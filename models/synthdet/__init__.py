"""The detector for synthetic matches: network, targets and loss, training pictures, scoring, packaging.

Used by models/train_detector.py and models/eval_detector.py only.
"""

CLASSES = ("player", "ball")
PLAYER, BALL = 0, 1

# Network input [width, height]: a 1280x720 picture at seven tenths, padded to a multiple of the deepest stride.
INPUT_SIZE = (896, 512)
PAD = 114
