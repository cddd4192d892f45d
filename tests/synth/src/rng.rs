//! `SplitMix64`: sixty lines of generator that we own, because the pictures of a seed must never change with a dependency.

/// A stream of numbers that a seed fixes.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// An independent stream: drawing more from one never changes another.
    #[must_use]
    pub fn stream(seed: u64, label: u64) -> Self {
        Self(mix(seed ^ mix(label)))
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f32 {
        to_unit(self.next_u64())
    }

    pub fn range(&mut self, from: f32, to: f32) -> f32 {
        from + (to - from) * self.unit()
    }

    /// In 0..n; `n` must be above zero.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// A random-looking number in [0, 1) for a cell of a grid: textures need no stream.
#[must_use]
pub fn cell_noise(seed: u64, x: i32, y: i32) -> f32 {
    let cell = (u64::from(x as u32) << 32) | u64::from(y as u32);
    to_unit(mix(seed ^ cell.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn to_unit(bits: u64) -> f32 {
    (bits >> 40) as f32 / (1u32 << 24) as f32
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence_of_splitmix64() {
        let mut rng = Rng::new(1234567);
        assert_eq!(rng.next_u64(), 6457827717110365317);
        assert_eq!(rng.next_u64(), 3203168211198807973);
    }
}
