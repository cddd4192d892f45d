//! Figures of the reference implementations (TrackEval 1.3.0, pycocotools) for matches made up here, so that agreement is
//! checked where neither Python nor test assets are. `tests/reference/golden.py` makes the same matches up and writes the
//! figures into this file.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use fulltime_score::{Object, Rect, Rules, Sequence, Tracking, pictures, precision::Precision};

/// A generator that is the same in every language: Lehmer's, with the constants of Park and Miller (1988).
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0 * 48_271 % 2_147_483_647;
        self.0 % n
    }
}

/// People who walk on a pitch, in whole pixels: overlaps that are exactly a threshold and equal scores do occur.
fn truth(seed: u64) -> Sequence {
    let mut rng = Rng(seed);
    let mut people: Vec<[i64; 4]> = (0..8)
        .map(|_| [rng.below(500) as i64, rng.below(300) as i64, rng.below(9) as i64 - 4, rng.below(7) as i64 - 3])
        .collect();
    let mut truth = Sequence::new();
    for frame in 1..=60 {
        for (id, [x, y, vx, vy]) in (1..).zip(&mut people) {
            (*x, *y) = (*x + *vx, *y + *vy);
            let absent = (frame / 7 + id as u32).is_multiple_of(9);
            if !absent {
                let bounds = Rect { x: *x as f64, y: *y as f64, w: 40.0, h: 80.0 };
                let counts = f64::from(u8::from(rng.below(20) > 0));
                truth.push(frame, Object::new(Some(id), bounds, counts));
            }
        }
    }
    truth
}

/// What a mediocre tracker makes of it.
fn found(truth: &Sequence, seed: u64) -> Sequence {
    let mut rng = Rng(seed + 1000);
    let mut found = Sequence::new();
    let mut next = 100;
    for (frame, object) in truth.objects() {
        let (id, b) = (object.id.unwrap(), object.bounds.unwrap());
        if rng.below(10) == 0 {
            continue;
        }
        let id = if frame > 30 && id <= 3 { id % 3 + 1 } else { id };
        let shift = |rng: &mut Rng| rng.below(17) as f64 - 8.0;
        let bounds = Rect { x: b.x + shift(&mut rng), y: b.y + shift(&mut rng), ..b };
        found.push(frame, Object::new(Some(id), bounds, (rng.below(100) as f64) / 100.0));
        if rng.below(12) == 0 {
            next += 1;
            let twin = Rect { x: bounds.x + rng.below(3) as f64 * 20.0, ..bounds };
            found.push(frame, Object::new(Some(next), twin, (rng.below(100) as f64) / 100.0));
        }
    }
    found
}

#[test]
fn figures_are_those_of_the_reference_implementations() {
    for (seed, golden) in (1..).zip(GOLDEN) {
        let truth = truth(seed);
        let found = found(&truth, seed);
        let Tracking { hota, clear, identity } = Tracking::score(&truth, &found, Rules::Plain).unwrap();
        let h = hota.figures();
        let p = Precision::of(&[&pictures(&truth, &found, Rules::Plain)]);
        let shares = [
            h.hota,
            h.det_a,
            h.ass_a,
            h.loc_a,
            h.ass_re,
            h.ass_pr,
            identity.f1(),
            clear.mota(),
            clear.motp(),
            p.ap.unwrap(),
            p.ap50.unwrap(),
            p.ap75.unwrap(),
            p.ar100.unwrap(),
        ];
        for (index, (ours, theirs)) in shares.iter().zip(golden.shares).enumerate() {
            assert!((ours - theirs).abs() < 1e-9, "seed {seed}, figure {index}: {ours} is not {theirs}");
        }
        let counts = [
            clear.tp,
            clear.false_,
            clear.missed,
            clear.switches,
            clear.mostly_tracked,
            clear.partly_tracked,
            clear.mostly_lost,
            clear.fragments,
            identity.tp,
        ];
        assert_eq!(counts, golden.counts, "seed {seed}");
    }
}

struct Golden {
    /// HOTA, DetA, AssA, LocA, AssRe, AssPr, IDF1, MOTA, MOTP, AP, AP50, AP75, AR100.
    shares: [f64; 13],
    /// TP, FP, FN, IDSW, MT, PT, ML, Frag, IDTP.
    counts: [u64; 9],
}

const GOLDEN: [Golden; 3] = [
    Golden {
        shares: [
            0.5219481840874023,
            0.5701495584738424,
            0.47788839438706604,
            0.7859605485555603,
            0.554474029327174,
            0.5886566207054753,
            0.7412935323383084,
            0.7698019801980198,
            0.7364270354687655,
            0.3431167771101976,
            0.8387801240969265,
            0.13544793771516422,
            0.46138613861386135,
        ],
        counts: [357, 43, 47, 3, 7, 1, 0, 64, 298],
    },
    Golden {
        shares: [
            0.5283430806566889,
            0.5833151167308097,
            0.47886689941492167,
            0.7931060508585376,
            0.5651492268319277,
            0.5959948998429458,
            0.7457627118644068,
            0.770935960591133,
            0.7473468702089466,
            0.37002755033241286,
            0.8428939868203408,
            0.21395988146252717,
            0.49482758620689654,
        ],
        counts: [368, 52, 38, 3, 8, 0, 0, 53, 308],
    },
    Golden {
        shares: [
            0.532156363036672,
            0.5815833674080441,
            0.48699266492675264,
            0.785400852878299,
            0.5689349081072896,
            0.5879539056325293,
            0.7476190476190476,
            0.7758620689655172,
            0.7378246701951334,
            0.3572630772832113,
            0.850488974259994,
            0.15245538383440796,
            0.48866995073891617,
        ],
        counts: [376, 58, 30, 3, 8, 0, 0, 50, 314],
    },
];
