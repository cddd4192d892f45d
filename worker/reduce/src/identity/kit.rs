//! What somebody wears: the sum of kit descriptors, and how different two kits are.

/// Numbers of a descriptor: for torso and legs each the shares of eight hues, of black, grey and white in 255ths, and how
/// much of the region is not grass.
pub const LENGTH: usize = 24;
const REGION: usize = LENGTH / 2;
/// Legs are thin, move, and stand in the grass: they count half.
const LEGS: f64 = 0.5;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kit {
    sum: [u32; LENGTH],
    /// Pictures in it.
    pub count: u32,
}

impl Kit {
    pub fn add(&mut self, descriptor: &[u8; LENGTH]) {
        for (sum, &number) in self.sum.iter_mut().zip(descriptor) {
            *sum += u32::from(number);
        }
        self.count += 1;
    }

    pub fn join(&mut self, other: &Self) {
        for (sum, other) in self.sum.iter_mut().zip(other.sum) {
            *sum += other;
        }
        self.count += other.count;
    }

    #[must_use]
    pub fn colours(&self) -> Colours {
        let all = f64::from(self.count.max(1)) * 255.0;
        Colours(self.sum.map(|sum| f64::from(sum) / all))
    }
}

/// The mean of descriptors, shares from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Colours(pub [f64; LENGTH]);

impl Colours {
    /// Half the sum of differences, torso and half the legs: 0 for equal kits, 1.5 for kits without a common colour.
    #[must_use]
    pub fn distance(&self, other: &Self) -> f64 {
        let mut distance = 0.0;
        for (at, (a, b)) in self.0.iter().zip(&other.0).enumerate() {
            // The last of each region is no colour.
            if at % REGION != REGION - 1 {
                distance += (a - b).abs() * if at < REGION { 0.5 } else { 0.5 * LEGS };
            }
        }
        distance
    }
}

/// Kits that are alike, as one.
#[derive(Debug, Clone)]
pub struct Group {
    pub colours: Colours,
    /// Indices of those who wear it.
    pub wearers: Vec<usize>,
}

/// Pictures from which on somebody's kit is known well enough to found a group.
const KNOWN: u32 = 8;
/// One person's pictures count up to this many.
const MOST: u32 = 50;
const ROUNDS: usize = 4;

/// Sorts kits into groups that are less than `apart` from their group's mean. The kits that were seen most come first.
/// Kits that nobody has looked at are in no group.
#[must_use]
pub fn group(kits: &[Kit], apart: f64) -> Vec<Group> {
    let colours: Vec<Colours> = kits.iter().map(Kit::colours).collect();
    let mut order: Vec<usize> = (0..kits.len()).filter(|&i| kits[i].count > 0).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(kits[i].count), i));
    let mut groups: Vec<Group> = Vec::new();
    for round in 0..ROUNDS {
        for group in &mut groups {
            group.wearers.clear();
        }
        for &i in &order {
            let nearest = nearest(&groups, &colours[i]);
            match nearest {
                Some((at, distance)) if distance < apart || (round > 0 && kits[i].count < KNOWN) => {
                    groups[at].wearers.push(i);
                }
                _ if kits[i].count >= KNOWN || groups.is_empty() => {
                    groups.push(Group { colours: colours[i], wearers: vec![i] });
                }
                _ => {}
            }
            // While groups grow, they are where their wearers are.
            if round == 0 {
                groups.iter_mut().for_each(|group| centre(group, kits, &colours));
            }
        }
        groups.retain(|group| !group.wearers.is_empty());
        groups.iter_mut().for_each(|group| centre(group, kits, &colours));
    }
    groups
}

/// The group whose kit is most like these colours, and how far that is.
#[must_use]
pub fn nearest(groups: &[Group], colours: &Colours) -> Option<(usize, f64)> {
    groups
        .iter()
        .enumerate()
        .map(|(at, group)| (at, group.colours.distance(colours)))
        .min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)))
}

fn centre(group: &mut Group, kits: &[Kit], colours: &[Colours]) {
    let mut sum = [0.0; LENGTH];
    let mut all = 0.0;
    for &i in &group.wearers {
        let weight = f64::from(kits[i].count.min(MOST));
        for (sum, number) in sum.iter_mut().zip(colours[i].0) {
            *sum += number * weight;
        }
        all += weight;
    }
    if all > 0.0 {
        group.colours = Colours(sum.map(|sum| sum / all));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kit(torso: usize, legs: usize, count: u32) -> Kit {
        let mut descriptor = [0; LENGTH];
        descriptor[torso] = 200;
        descriptor[(torso + 1) % 8] = 55;
        descriptor[REGION + legs] = 255;
        let mut kit = Kit::default();
        (0..count).for_each(|_| kit.add(&descriptor));
        kit
    }

    #[test]
    fn distance_is_nothing_for_equal_kits_and_most_for_strangers() {
        assert!(kit(0, 3, 1).colours().distance(&kit(0, 3, 9).colours()) < 1e-12);
        assert!((kit(0, 3, 1).colours().distance(&kit(4, 5, 9).colours()) - 1.5).abs() < 1e-9);
        assert!((kit(0, 3, 1).colours().distance(&kit(0, 5, 9).colours()) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn kits_fall_into_groups_whatever_their_order() {
        let kits =
            [kit(0, 1, 30), kit(4, 1, 20), kit(0, 1, 2), kit(4, 1, 90), kit(8, 8, 40), kit(0, 1, 9), Kit::default()];
        let mut wearers: Vec<_> = group(&kits, 0.4).into_iter().map(|group| group.wearers).collect();
        wearers.iter_mut().for_each(|w| w.sort_unstable());
        wearers.sort();
        assert_eq!(wearers, [vec![0, 2, 5], vec![1, 3], vec![4]]);
    }
}
