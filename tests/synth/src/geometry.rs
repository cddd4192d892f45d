//! Points and directions on the pitch and in the picture, and the dimensions of the pitch itself.
//!
//! World coordinates are metres: the origin is the centre spot, x runs along the touch lines (to the right as the main
//! camera sees it), y away from the main camera, z up.

use std::ops::{Add, AddAssign, Mul, Neg, Sub};

/// Half the length of the pitch (105 m) and half its width (68 m), Laws of the Game, international matches.
pub const HALF_LENGTH: f32 = 52.5;
pub const HALF_WIDTH: f32 = 34.0;
/// Half the width and the height of a goal.
pub const GOAL_HALF_WIDTH: f32 = 3.66;
pub const GOAL_HEIGHT: f32 = 2.44;

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Vec2 {
    pub x: f32,
    pub y: f32,
}

#[must_use]
pub const fn vec2(x: f32, y: f32) -> Vec2 {
    Vec2 { x, y }
}

impl Vec2 {
    #[must_use]
    pub fn from_angle(angle: f32) -> Self {
        vec2(angle.cos(), angle.sin())
    }

    #[must_use]
    pub fn angle(self) -> f32 {
        self.y.atan2(self.x)
    }

    #[must_use]
    pub fn dot(self, other: Self) -> f32 {
        self.x * other.x + self.y * other.y
    }

    #[must_use]
    pub fn length(self) -> f32 {
        self.dot(self).sqrt()
    }

    #[must_use]
    pub fn distance(self, other: Self) -> f32 {
        (self - other).length()
    }

    /// Unit vector, or zero where there is no direction.
    #[must_use]
    pub fn normalised(self) -> Self {
        let length = self.length();
        if length > 1e-6 { self * (1.0 / length) } else { Self::default() }
    }

    #[must_use]
    pub fn clamp_length(self, longest: f32) -> Self {
        let length = self.length();
        if length > longest { self * (longest / length) } else { self }
    }

    /// A quarter turn to the right of this direction.
    #[must_use]
    pub fn right(self) -> Self {
        vec2(self.y, -self.x)
    }

    #[must_use]
    pub fn at_height(self, z: f32) -> Vec3 {
        Vec3 { x: self.x, y: self.y, z }
    }
}

impl Add for Vec2 {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        vec2(self.x + other.x, self.y + other.y)
    }
}

impl AddAssign for Vec2 {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Vec2 {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        vec2(self.x - other.x, self.y - other.y)
    }
}

impl Mul<f32> for Vec2 {
    type Output = Self;
    fn mul(self, factor: f32) -> Self {
        vec2(self.x * factor, self.y * factor)
    }
}

impl Neg for Vec2 {
    type Output = Self;
    fn neg(self) -> Self {
        vec2(-self.x, -self.y)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Vec3 {
    pub x: f32,
    pub y: f32,
    pub z: f32,
}

#[must_use]
pub const fn vec3(x: f32, y: f32, z: f32) -> Vec3 {
    Vec3 { x, y, z }
}

impl Vec3 {
    #[must_use]
    pub fn ground(self) -> Vec2 {
        vec2(self.x, self.y)
    }
}

impl Add for Vec3 {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        vec3(self.x + other.x, self.y + other.y, self.z + other.z)
    }
}

impl Sub for Vec3 {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        vec3(self.x - other.x, self.y - other.y, self.z - other.z)
    }
}

impl Mul<f32> for Vec3 {
    type Output = Self;
    fn mul(self, factor: f32) -> Self {
        vec3(self.x * factor, self.y * factor, self.z * factor)
    }
}

/// `angle` brought into (-pi, pi].
#[must_use]
pub fn wrap_angle(angle: f32) -> f32 {
    let turn = std::f32::consts::TAU;
    let wrapped = angle.rem_euclid(turn);
    if wrapped > turn / 2.0 { wrapped - turn } else { wrapped }
}
