//! Pinhole cameras that pan, tilt and zoom from a fixed place, never roll; and the operator who follows the ball.

use std::f32::consts::TAU;

use crate::{
    geometry::{HALF_LENGTH, HALF_WIDTH, Vec2, Vec3, vec2, vec3, wrap_angle},
    rng::Rng,
    scene::Ball,
};

/// Where a camera stands and how it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Post {
    /// The main broadcast camera: high, on the halfway line, follows play.
    Main,
    /// Lower and closer, on the same side: larger players, what a director cuts to.
    Tight,
    /// Fixed: the whole pitch.
    Wide,
    /// Fixed: one half each.
    Left,
    Right,
}

impl Post {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Tight => "tight",
            Self::Wide => "wide",
            Self::Left => "left",
            Self::Right => "right",
        }
    }

    #[must_use]
    pub fn position(self) -> Vec3 {
        match self {
            Self::Main => vec3(0.0, -104.0, 28.0),
            Self::Tight => vec3(0.0, -76.0, 15.0),
            Self::Wide | Self::Left | Self::Right => vec3(0.0, -74.0, 24.0),
        }
    }

    /// The view of a fixed camera: centre of the picture on the pitch, and the width that it must hold there.
    fn fixed_view(self) -> Option<(Vec2, f32)> {
        match self {
            Self::Main | Self::Tight => None,
            Self::Wide => Some((vec2(0.0, 6.0), 132.0)),
            Self::Left => Some((vec2(-27.0, 1.0), 70.0)),
            Self::Right => Some((vec2(27.0, 1.0), 70.0)),
        }
    }

    /// Focal length in picture widths, from widest to closest.
    #[must_use]
    pub fn zoom(self) -> (f32, f32) {
        match self {
            Self::Main => (3.5, 4.6),
            Self::Tight => (4.2, 5.6),
            Self::Wide | Self::Left | Self::Right => {
                let (centre, width) = self.fixed_view().unwrap_or((vec2(0.0, 0.0), 100.0));
                let zoom = self.position().ground().distance(centre) / width;
                (zoom, zoom)
            }
        }
    }

    #[must_use]
    pub fn is_fixed(self) -> bool {
        self.fixed_view().is_some()
    }
}

/// One view. Angles in radians: pan from the y axis to the right, tilt down from the horizon. Lengths in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    pub post: Post,
    pub pan: f32,
    pub tilt: f32,
    pub focal: f32,
    pub width: u32,
    pub height: u32,
}

/// A world point in the picture: pixels, and the distance along the optical axis in metres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Projected {
    pub x: f32,
    pub y: f32,
    pub depth: f32,
}

impl Camera {
    #[must_use]
    pub fn looking_at(post: Post, target: Vec2, zoom: f32, width: u32, height: u32) -> Self {
        let position = post.position();
        let to = target - position.ground();
        let (pan, tilt) = (to.x.atan2(to.y), position.z.atan2(to.length()));
        Self { post, pan, tilt, focal: zoom * width as f32, width, height }
    }

    /// Points behind the camera have a depth of zero or less; their pixels mean nothing.
    #[must_use]
    pub fn project(&self, point: Vec3) -> Projected {
        let d = point - self.post.position();
        let ((sin_pan, cos_pan), (sin_tilt, cos_tilt)) = (self.pan.sin_cos(), self.tilt.sin_cos());
        let right = d.x * cos_pan - d.y * sin_pan;
        let ahead = d.x * sin_pan + d.y * cos_pan;
        let depth = ahead * cos_tilt - d.z * sin_tilt;
        let down = -ahead * sin_tilt - d.z * cos_tilt;
        let scale = self.focal / depth.max(0.1);
        Projected { x: self.width as f32 / 2.0 + right * scale, y: self.height as f32 / 2.0 + down * scale, depth }
    }

    /// Row-major homography from (x, y, 1) on the pitch, metres, to homogeneous pixels.
    #[must_use]
    pub fn homography(&self) -> [f64; 9] {
        let p = self.post.position();
        let [px, py, pz] = [p.x, p.y, p.z].map(f64::from);
        let ((sp, cp), (st, ct)) = (f64::from(self.pan).sin_cos(), f64::from(self.tilt).sin_cos());
        let focal = f64::from(self.focal);
        let right = [cp, -sp, -(cp * px - sp * py)];
        let ahead = [sp, cp, -(sp * px + cp * py)];
        let depth = [ahead[0] * ct, ahead[1] * ct, ahead[2] * ct + pz * st];
        let down = [-ahead[0] * st, -ahead[1] * st, -ahead[2] * st + pz * ct];
        let (cx, cy) = (f64::from(self.width) / 2.0, f64::from(self.height) / 2.0);
        let mut h = [0.0; 9];
        for i in 0..3 {
            h[i] = focal * right[i] + cx * depth[i];
            h[3 + i] = focal * down[i] + cy * depth[i];
            h[6 + i] = depth[i];
        }
        h.map(|value| value / depth[2])
    }

    /// Right, ahead and down of the ray through a pixel, in the frame of a camera that pans to zero and does not tilt.
    #[must_use]
    pub fn ray(&self, x: f32, y: f32) -> Vec3 {
        let (sin_tilt, cos_tilt) = self.tilt.sin_cos();
        let (right, down) = (x - self.width as f32 / 2.0, y - self.height as f32 / 2.0);
        vec3(right, self.focal * cos_tilt - down * sin_tilt, -(down * cos_tilt + self.focal * sin_tilt))
    }
}

/// Follows the ball as a person would: late, smoothly, with a zoom that breathes. One step a frame.
#[derive(Debug, Clone)]
pub struct Operator {
    post: Post,
    size: (u32, u32),
    look: Vec2,
    drift: Vec2,
    zoom: f32,
    mood: [f32; 3],
    time: f32,
}

impl Operator {
    #[must_use]
    pub fn new(post: Post, seed: u64, size: (u32, u32), ball: Vec2) -> Self {
        let mut rng = Rng::stream(seed, 0xca3e + post as u64);
        let (wide, close) = post.zoom();
        let mood = [rng.range(0.0, 6.0), rng.range(0.0, 6.0), rng.range(0.10, 0.2)];
        Self { post, size, look: ball, drift: Vec2::default(), zoom: (wide + close) / 2.0, mood, time: 0.0 }
    }

    pub fn follow(&mut self, ball: &Ball, dt: f32) -> Camera {
        self.time += dt;
        if let Some((centre, _)) = self.post.fixed_view() {
            return Camera::looking_at(self.post, centre, self.post.zoom().0, self.size.0, self.size.1);
        }
        // A critically damped spring; its stiffness is the operator's reaction time. He sees where a pass goes.
        let reaction = if self.post == Post::Tight { 0.32 } else { 0.42 };
        let ball = ball.pos.ground() + ball.vel.ground() * 0.5;
        let target = vec2(
            ball.x.clamp(-HALF_LENGTH + 6.0, HALF_LENGTH - 6.0),
            ball.y.clamp(-HALF_WIDTH + 9.0, HALF_WIDTH - 7.0),
        );
        let omega = 1.0 / reaction;
        let pull = (target - self.look) * (omega * omega) - self.drift * (2.0 * omega);
        self.drift += pull * dt;
        self.look += self.drift * dt;
        let (wide, close) = self.post.zoom();
        let breath = 0.5 + 0.35 * (self.time * self.mood[2] * TAU + self.mood[0]).sin();
        // Wider when the ball flies, closer in front of the goals.
        let near_goal = ((self.look.x.abs() - 25.0) / 25.0).clamp(0.0, 1.0) * 0.35;
        let haste = (self.drift.length() / 16.0).clamp(0.0, 0.5);
        let wanted = wide + (close - wide) * (breath + near_goal - haste).clamp(0.0, 1.0);
        self.zoom += (wanted - self.zoom) * (dt / 1.2).min(1.0);
        let mut camera = Camera::looking_at(self.post, self.look, self.zoom, self.size.0, self.size.1);
        // A hand on the head of the tripod: a fraction of a pixel to two.
        camera.pan = wrap_angle(camera.pan + 0.0003 * (self.time * 2.1 + self.mood[1]).sin());
        camera.tilt += 0.0002 * (self.time * 1.7 + self.mood[0]).sin();
        camera
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homography_and_projection_agree_on_the_ground() {
        for post in [Post::Main, Post::Tight, Post::Wide, Post::Left] {
            let camera = Camera::looking_at(post, vec2(20.0, 5.0), post.zoom().0, 1280, 720);
            let h = camera.homography();
            for (x, y) in [(0.0, 0.0), (30.0, -20.0), (10.0, 34.0), (25.0, 7.5)] {
                let p = camera.project(vec3(x as f32, y as f32, 0.0));
                let w = h[6] * x + h[7] * y + h[8];
                let (hx, hy) = ((h[0] * x + h[1] * y + h[2]) / w, (h[3] * x + h[4] * y + h[5]) / w);
                assert!((hx - f64::from(p.x)).abs() < 0.05 && (hy - f64::from(p.y)).abs() < 0.05, "{post:?}");
            }
        }
    }

    #[test]
    fn what_a_camera_looks_at_is_in_the_middle() {
        let camera = Camera::looking_at(Post::Main, vec2(-31.0, 12.0), 4.0, 1280, 720);
        let p = camera.project(vec3(-31.0, 12.0, 0.0));
        assert!((p.x - 640.0).abs() < 0.01 && (p.y - 360.0).abs() < 0.01);
    }

    #[test]
    fn a_ray_leads_back_to_its_pixel() {
        let camera = Camera { pan: 0.0, ..Camera::looking_at(Post::Main, vec2(0.0, 3.0), 4.0, 1280, 720) };
        let ray = camera.ray(200.0, 500.0);
        let p = camera.project(camera.post.position() + ray * 0.01);
        assert!((p.x - 200.0).abs() < 0.1 && (p.y - 500.0).abs() < 0.1, "{p:?}");
    }
}
