//! Shirt numbers and the clock: digits as strokes, so that they can lie on a back that turns and leans.

type Stroke = &'static [(f32, f32)];

/// Polylines in a cell one wide and one high, x to the right, y up.
#[must_use]
pub fn strokes(digit: u8) -> &'static [Stroke] {
    match digit {
        0 => &[&[
            (0.2, 0.0),
            (0.0, 0.25),
            (0.0, 0.75),
            (0.2, 1.0),
            (0.8, 1.0),
            (1.0, 0.75),
            (1.0, 0.25),
            (0.8, 0.0),
            (0.2, 0.0),
        ]],
        1 => &[&[(0.2, 0.76), (0.6, 1.0), (0.6, 0.0)]],
        2 => &[&[(0.0, 0.8), (0.2, 1.0), (0.8, 1.0), (1.0, 0.8), (1.0, 0.58), (0.0, 0.0), (1.0, 0.0)]],
        3 => &[
            &[(0.0, 1.0), (0.8, 1.0), (1.0, 0.82), (1.0, 0.64), (0.75, 0.52), (0.35, 0.52)],
            &[(0.75, 0.52), (1.0, 0.38), (1.0, 0.18), (0.8, 0.0), (0.0, 0.0)],
        ],
        4 => &[&[(0.75, 0.0), (0.75, 1.0), (0.0, 0.3), (1.0, 0.3)]],
        5 => &[&[
            (0.95, 1.0),
            (0.08, 1.0),
            (0.04, 0.55),
            (0.75, 0.6),
            (1.0, 0.42),
            (1.0, 0.18),
            (0.78, 0.0),
            (0.0, 0.03),
        ]],
        6 => &[&[
            (0.9, 1.0),
            (0.35, 0.98),
            (0.0, 0.55),
            (0.0, 0.2),
            (0.22, 0.0),
            (0.78, 0.0),
            (1.0, 0.2),
            (1.0, 0.36),
            (0.78, 0.54),
            (0.22, 0.54),
            (0.0, 0.36),
        ]],
        7 => &[&[(0.0, 1.0), (1.0, 1.0), (0.35, 0.0)]],
        8 => &[&[
            (0.25, 0.53),
            (0.04, 0.7),
            (0.04, 0.84),
            (0.25, 1.0),
            (0.75, 1.0),
            (0.96, 0.84),
            (0.96, 0.7),
            (0.75, 0.53),
            (0.25, 0.53),
            (0.0, 0.36),
            (0.0, 0.18),
            (0.25, 0.0),
            (0.75, 0.0),
            (1.0, 0.18),
            (1.0, 0.36),
            (0.75, 0.53),
        ]],
        _ => &[&[
            (0.1, 0.0),
            (0.65, 0.02),
            (1.0, 0.45),
            (1.0, 0.8),
            (0.78, 1.0),
            (0.22, 1.0),
            (0.0, 0.8),
            (0.0, 0.64),
            (0.22, 0.46),
            (0.78, 0.46),
            (1.0, 0.64),
        ]],
    }
}

/// Width of a digit and the gap between two, for a height of one.
pub const WIDTH: f32 = 0.52;
pub const GAP: f32 = 0.2;

/// Calls `line` for every stroke segment of `number` centred on the origin and one high.
pub fn lines(number: u8, mut line: impl FnMut((f32, f32), (f32, f32))) {
    let digits: &[u8] = if number >= 10 { &[number / 10, number % 10] } else { &[number] };
    let total = digits.len() as f32 * WIDTH + (digits.len() - 1) as f32 * GAP;
    for (i, digit) in digits.iter().enumerate() {
        let left = i as f32 * (WIDTH + GAP) - total / 2.0;
        let place = |(x, y): (f32, f32)| (left + x * WIDTH, y - 0.5);
        for stroke in strokes(*digit) {
            for pair in stroke.windows(2) {
                line(place(pair[0]), place(pair[1]));
            }
        }
    }
}
