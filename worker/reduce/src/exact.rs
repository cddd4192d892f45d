//! Logarithm and exponential from additions, multiplications and divisions alone: the system's differ in the last bit
//! between versions, and what is stored must not.

use std::f64::consts::{LN_2, SQRT_2};

/// Natural logarithm of a normal positive number, to about 1e-15 of it; that of anything smaller is that of the smallest.
#[must_use]
pub fn ln(x: f64) -> f64 {
    let x = x.max(f64::MIN_POSITIVE);
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) as i32 - 1023) as f64;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > SQRT_2 {
        mantissa /= 2.0;
        exponent += 1.0;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)); the argument is at most 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for k in (0..10).rev() {
        sum = sum * square + 1.0 / f64::from(2 * k + 1);
    }
    2.0 * s * sum + exponent * LN_2
}

/// Exponential, to about 1e-13 of it; 0 below -700, and no more than that of 700.
#[must_use]
pub fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let x = x.min(700.0);
    let halvings = (x / LN_2 + 0.5).floor();
    let rest = x - halvings * LN_2;
    let mut sum = 1.0;
    for k in (1..16).rev() {
        sum = 1.0 + sum * rest / f64::from(k);
    }
    sum * f64::from_bits(((halvings as i64 + 1023) as u64) << 52)
}

/// 1 / (1 + exp(-x)): the chance that goes with a log-odds.
#[must_use]
pub fn chance(log_odds: f64) -> f64 {
    1.0 / (1.0 + exp(-log_odds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_agree_with_the_system() {
        for i in 1..4000 {
            let x = f64::from(i) * 0.37 - 650.0;
            if x < 690.0 {
                assert!((exp(x) / x.exp() - 1.0).abs() < 1e-12, "exp {x}");
            }
            let y = f64::from(i) * f64::from(i) * 1e-5;
            assert!((ln(y) - y.ln()).abs() < 1e-13, "ln {y}");
        }
        assert_eq!((exp(0.0), ln(1.0), exp(-1000.0)), (1.0, 0.0, 0.0));
        assert!(ln(0.0) < -700.0 && exp(1000.0).is_finite());
        assert!((chance(2.0) - 0.880_797_077_977_882_4).abs() < 1e-15);
    }
}
