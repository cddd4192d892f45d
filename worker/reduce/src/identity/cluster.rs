//! Joins tracks to people: what is most surely one person is joined first, and what was joined is compared as a whole.
//!
//! Agglomerative clustering by log-likelihood ratios: how much more likely looks, numbers and kits are if both are one
//! person than if they are two. Nobody is at two places at a time: tracks of one recording that overlap are never joined.

use std::{cmp::Ordering, collections::BinaryHeap};

use fulltime_common::pipeline::Identify;

use super::{
    kit::{Colours, Kit},
    look::{Direction, Look},
    number::{Numbers, Profile},
};

/// Where in time somebody is on the screen: one track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Number of the recording.
    pub stage: u32,
    pub first: u32,
    pub last: u32,
}

/// So many clusters are compared all with all. More are first joined piece by piece, in the order of time: the number of
/// comparisons stays bounded, and who is in one piece mostly plays in the next, too.
const PIECE: usize = 3000;
/// Kits this far apart are hardly one; the kit only speaks against.
const KIT_APART: f64 = 0.35;
const KIT_SLOPE: f64 = 20.0;
const KIT_FLOOR: f64 = -6.0;

/// Tracks that are taken for one person, and what is known of him.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    /// Indices of tracks, ascending.
    pub members: Vec<usize>,
    /// Ascending.
    pub spans: Vec<Span>,
    /// Detections.
    pub seen: u32,
    pub look: Look,
    pub kit: Kit,
    pub numbers: Numbers,
}

impl Cluster {
    pub fn join(&mut self, other: &Self) {
        self.members.extend(&other.members);
        self.members.sort_unstable();
        self.spans.extend(&other.spans);
        self.spans.sort_unstable();
        self.seen += other.seen;
        self.look.join(&other.look);
        self.kit.join(&other.kit);
        self.numbers.join(&other.numbers);
    }

    /// Whether both are seen in one recording at a time.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut a, mut b) = (self.spans.iter().peekable(), other.spans.iter().peekable());
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            if x.stage == y.stage && x.first <= y.last && y.first <= x.last {
                return true;
            }
            if (x.stage, x.last) <= (y.stage, y.last) {
                a.next()
            } else {
                b.next()
            };
        }
        false
    }
}

/// What is compared, ready for it.
#[derive(Debug)]
struct Face {
    direction: Direction,
    profile: Profile,
    colours: Colours,
    looks: u32,
    kits: u32,
}

impl Face {
    fn new(cluster: &Cluster) -> Self {
        Self {
            direction: cluster.look.direction(),
            profile: Profile::new(&cluster.numbers),
            colours: cluster.kit.colours(),
            looks: cluster.look.count,
            kits: cluster.kit.count,
        }
    }

    /// How much more likely both are one person than two: the logarithm.
    fn same(&self, other: &Self, settings: &Identify) -> f64 {
        let look = self.direction.cosine(&other.direction).map_or(0.0, |cosine| {
            let least = f64::from(self.looks.min(other.looks));
            let (slope, zero) = (settings.look_slope, settings.look_zero);
            // A single picture says less than the mean of many.
            (slope * (cosine - zero)).clamp(settings.look_floor, settings.look_most) * least / (least + 1.0)
        });
        // The number can add no more than this, so nothing is worth comparing that is already out of reach.
        if look < settings.look_floor / 2.0 {
            return look;
        }
        let kit = match self.kits.min(other.kits) {
            0 => 0.0,
            least => {
                let apart = self.colours.distance(&other.colours);
                let least = f64::from(least);
                (KIT_SLOPE * (KIT_APART - apart)).clamp(KIT_FLOOR, 0.0) * least / (least + 2.0)
            }
        };
        look + kit + self.profile.same(&other.profile, settings.number_floor)
    }
}

/// How much more likely both are one person than two: the logarithm. Whether they are seen together is not asked.
#[must_use]
pub fn gain(a: &Cluster, b: &Cluster, settings: &Identify) -> f64 {
    Face::new(a).same(&Face::new(b), settings)
}

/// A pair to be joined; the best first, of equals the one that was made first.
#[derive(Debug, PartialEq)]
struct Candidate {
    gain: f64,
    pair: (usize, usize),
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.gain.total_cmp(&other.gain).then(other.pair.cmp(&self.pair))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Joins clusters as long as a pair is more likely one person than two. The result is in the order of first sighting.
#[must_use]
pub fn agglomerate(mut clusters: Vec<Cluster>, settings: &Identify) -> Vec<Cluster> {
    in_order(&mut clusters);
    while clusters.len() > PIECE {
        let before = clusters.len();
        let mut joined = Vec::new();
        let mut rest = clusters.into_iter().peekable();
        while rest.peek().is_some() {
            joined.extend(join_all(rest.by_ref().take(PIECE).collect(), settings));
        }
        clusters = joined;
        in_order(&mut clusters);
        // Nothing is alike: then it stays apart.
        if clusters.len() * 10 > before * 9 {
            return clusters;
        }
    }
    clusters = join_all(clusters, settings);
    in_order(&mut clusters);
    clusters
}

fn in_order(clusters: &mut [Cluster]) {
    clusters.sort_by(|a, b| (a.spans.first(), a.members.first()).cmp(&(b.spans.first(), b.members.first())));
}

fn join_all(clusters: Vec<Cluster>, settings: &Identify) -> Vec<Cluster> {
    let mut faces: Vec<Face> = clusters.iter().map(Face::new).collect();
    let mut clusters: Vec<Option<Cluster>> = clusters.into_iter().map(Some).collect();
    let mut heap = BinaryHeap::new();
    let least = settings.join_gain;
    let offer = |heap: &mut BinaryHeap<Candidate>, faces: &[Face], clusters: &[Option<Cluster>], i: usize, j: usize| {
        let gain = faces[i].same(&faces[j], settings);
        let apart = || matches!((&clusters[i], &clusters[j]), (Some(a), Some(b)) if !a.overlaps(b));
        if gain > least && apart() {
            heap.push(Candidate { gain, pair: (i, j) });
        }
    };
    for j in 0..clusters.len() {
        for i in 0..j {
            offer(&mut heap, &faces, &clusters, i, j);
        }
    }
    while let Some(Candidate { pair: (i, j), .. }) = heap.pop() {
        if clusters[i].is_none() || clusters[j].is_none() {
            continue;
        }
        let (Some(mut whole), Some(other)) = (clusters[i].take(), clusters[j].take()) else { continue };
        whole.join(&other);
        faces.push(Face::new(&whole));
        clusters.push(Some(whole));
        let new = clusters.len() - 1;
        for k in 0..new {
            if clusters[k].is_some() {
                offer(&mut heap, &faces, &clusters, k, new);
            }
        }
    }
    clusters.into_iter().flatten().collect()
}

/// Gives what was seen too shortly to be sure of to whom it is most like, when nobody else comes near; the persons that are
/// known are known, so this needs less evidence than to say that two of them are one.
#[must_use]
pub fn adopt(clusters: Vec<Cluster>, settings: &Identify) -> Vec<Cluster> {
    let (mut known, mut rest): (Vec<_>, Vec<_>) =
        clusters.into_iter().partition(|cluster| cluster.look.count.max(cluster.kit.count) >= settings.known_pictures);
    rest.sort_by(|a, b| (b.seen, a.members.first()).cmp(&(a.seen, b.members.first())));
    let mut faces: Vec<Face> = known.iter().map(Face::new).collect();
    let mut left = Vec::new();
    for cluster in rest {
        let face = Face::new(&cluster);
        let mut gains: Vec<(f64, usize)> = (0..known.len())
            .filter(|&k| !known[k].overlaps(&cluster))
            .map(|k| (face.same(&faces[k], settings), k))
            .collect();
        gains.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let second = gains.get(1).map_or(f64::NEG_INFINITY, |second| second.0);
        match gains.first() {
            Some(&(gain, k)) if face.looks > 0 && gain > settings.adopt_gain && gain - second > settings.adopt_lead => {
                known[k].join(&cluster);
                faces[k] = Face::new(&known[k]);
            }
            _ => left.push(cluster),
        }
    }
    known.extend(left);
    in_order(&mut known);
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(at: usize, span: (u32, u32, u32), look: [i8; 3], number: Option<u8>) -> Cluster {
        let mut cluster = Cluster { members: vec![at], seen: span.2 - span.1, ..Cluster::default() };
        cluster.spans.push(Span { stage: span.0, first: span.1, last: span.2 });
        for _ in 0..10 {
            cluster.look.add(&look.map(i8::cast_unsigned));
            if let Some(number) = number {
                cluster.numbers.add(&[number, 250], 0.35);
            }
        }
        cluster
    }

    fn groups(clusters: Vec<Cluster>) -> Vec<Vec<usize>> {
        agglomerate(clusters, &Identify::default()).into_iter().map(|cluster| cluster.members).collect()
    }

    const RED: [i8; 3] = [127, 0, 0];
    const REDDISH: [i8; 3] = [124, 25, 0];
    const BLUE: [i8; 3] = [0, 0, 127];

    #[test]
    fn looks_and_numbers_join_tracks_over_cuts_and_periods() {
        let all = vec![
            person(0, (0, 0, 100), RED, Some(7)),
            person(1, (0, 0, 100), BLUE, None),
            person(2, (0, 200, 300), REDDISH, None),
            person(3, (1, 0, 50), BLUE, Some(9)),
            person(4, (1, 60, 90), RED, Some(7)),
        ];
        assert_eq!(groups(all), [vec![0, 2, 4], vec![1, 3]]);
    }

    #[test]
    fn nobody_is_twice_in_one_picture() {
        let all = vec![person(0, (0, 0, 100), RED, Some(7)), person(1, (0, 50, 150), RED, Some(7))];
        assert_eq!(groups(all).len(), 2);
        let handed_over = |at| vec![person(0, (0, 0, 100), RED, None), person(1, (0, at, 150), RED, None)];
        assert_eq!((groups(handed_over(100)).len(), groups(handed_over(101)).len()), (2, 1));
    }

    #[test]
    fn another_number_keeps_twins_apart() {
        let twins = vec![person(0, (0, 0, 100), RED, Some(7)), person(1, (0, 200, 300), RED, Some(9))];
        assert_eq!(groups(twins).len(), 2);
    }

    #[test]
    fn without_evidence_nothing_is_joined() {
        let nothing = |at, first| Cluster {
            members: vec![at],
            spans: vec![Span { stage: 0, first, last: first + 10 }],
            ..Cluster::default()
        };
        assert_eq!(groups(vec![nothing(0, 0), nothing(1, 50), nothing(2, 100)]).len(), 3);
    }

    #[test]
    fn more_tracks_than_a_piece_end_as_the_same_people() {
        let looks = [RED, BLUE, [0, 127, 0]];
        let all = (0..PIECE as u32 * 2)
            .map(|i| person(i as usize, (0, i / 3 * 20, i / 3 * 20 + 10), looks[i as usize % 3], None))
            .collect();
        assert_eq!(groups(all).len(), 3);
    }
}
