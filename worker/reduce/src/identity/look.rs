//! What somebody looks like: the sum of embeddings of unit length, and how alike two such sums are.

/// A sum of embeddings, each number in 127ths as the shard tables have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    sum: Vec<i32>,
    /// Pictures in it.
    pub count: u32,
}

impl Look {
    /// That of one picture.
    #[must_use]
    pub fn of(embedding: &[u8]) -> Self {
        let mut look = Self::default();
        look.add(embedding);
        look
    }

    /// Takes one embedding. One of another length than those before is left out: it is another model's.
    pub fn add(&mut self, embedding: &[u8]) {
        if self.sum.is_empty() {
            self.sum = vec![0; embedding.len()];
        }
        if self.sum.len() == embedding.len() {
            for (sum, &byte) in self.sum.iter_mut().zip(embedding) {
                *sum += i32::from(byte.cast_signed());
            }
            self.count += 1;
        }
    }

    pub fn join(&mut self, other: &Self) {
        if self.sum.is_empty() {
            self.sum.clone_from(&other.sum);
        } else if other.sum.len() == self.sum.len() {
            for (sum, other) in self.sum.iter_mut().zip(&other.sum) {
                *sum += other;
            }
        }
        self.count += other.count;
    }

    #[must_use]
    pub fn direction(&self) -> Direction {
        let square: f64 = self.sum.iter().map(|&n| f64::from(n) * f64::from(n)).sum();
        let scale = if square > 0.0 { ONE / square.sqrt() } else { 0.0 };
        // Rounded towards zero, so that no product of two directions exceeds one.
        Direction(self.sum.iter().map(|&n| (f64::from(n) * scale) as i16).collect())
    }
}

/// A look of unit length in fixed point, for comparing many: the sum of products is exact, whatever its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Direction(Vec<i16>);

const ONE: f64 = 16_383.0;

impl Direction {
    /// Cosine of the angle between both, -1 to 1; `None` where one is unknown.
    #[must_use]
    pub fn cosine(&self, other: &Self) -> Option<f64> {
        if self.0.is_empty() || self.0.len() != other.0.len() {
            return None;
        }
        // By Cauchy and Schwarz no partial sum exceeds the product of the lengths, which fits.
        let product: i32 = self.0.iter().zip(&other.0).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
        Some(f64::from(product) / (ONE * ONE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(embeddings: &[[i8; 3]]) -> Look {
        let mut look = Look::default();
        embeddings.iter().for_each(|e| look.add(&e.map(i8::cast_unsigned)));
        look
    }

    #[test]
    fn the_cosine_is_that_of_the_mean() {
        let a = look(&[[127, 0, 0], [0, 127, 0]]);
        let b = look(&[[90, 90, 0]]);
        assert!((a.direction().cosine(&b.direction()).unwrap() - 1.0).abs() < 1e-3);
        let c = look(&[[0, 0, -127]]);
        assert_eq!(a.direction().cosine(&c.direction()), Some(0.0));
        assert_eq!(a.direction().cosine(&Look::default().direction()), None);
        let mut joined = a.clone();
        joined.join(&c);
        assert_eq!((joined.count, joined.sum), (3, vec![127, 127, -127]));
    }
}
