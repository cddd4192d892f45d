//! What one camera's recording shows, frame by frame: the simulation seen through an operator, and on request a director
//! who cuts away, freezes the picture and shows scenes again.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    camera::{Camera, Operator, Post},
    rng::Rng,
    scene::{Simulation, Snapshot},
};

/// Everything that the picture of a frame depends on.
#[derive(Debug, Clone)]
pub struct Shot {
    pub frame: u32,
    /// Grain and graphics belong to a picture; a frozen frame repeats the picture of an earlier one.
    pub picture: u32,
    pub scene: Arc<Snapshot>,
    pub camera: Camera,
    /// Pixels that the view moves sideways while the shutter is open.
    pub pan_blur: f32,
    /// Seconds that the shutter is open.
    pub shutter: f32,
    /// Added to the scene's clock for the graphics: later periods start later.
    pub clock_offset: f32,
    pub graphics: bool,
    pub frozen: bool,
    pub replay: bool,
}

/// What the director does with the main feed, in numbers of occasions over the recording.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directing {
    /// Cuts to the tight camera and back.
    pub cuts: u32,
    /// Stretches of the same picture repeated.
    pub freezes: u32,
    /// Slow motion from the tight camera, at half speed.
    pub replays: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Cut,
    Freeze,
    Replay,
}

/// Period length in the score graphic.
const HALF_TIME: f32 = 45.0 * 60.0;

/// An endless iterator of shots; take as many as the recording has frames.
#[derive(Debug)]
pub struct Feed {
    simulation: Simulation,
    operator: Operator,
    /// Of the tight camera, for cuts; keeps following so that a cut finds the ball.
    second: Operator,
    /// Frame ranges, in order and apart.
    acts: VecDeque<(u32, u32, Act)>,
    /// The last seconds, for replays: oldest first.
    past: VecDeque<(Arc<Snapshot>, Camera)>,
    last: Option<Shot>,
    frame: u32,
    fps: f32,
    clock_offset: f32,
    graphics: bool,
}

impl Feed {
    /// Frames `0..frames` of one period from one post. Directing applies to cameras that follow play.
    #[must_use]
    pub fn new(
        seed: u64,
        period: u32,
        post: Post,
        size: (u32, u32),
        fps: f32,
        frames: u32,
        directing: Directing,
    ) -> Self {
        let simulation = Simulation::new(seed, period, fps);
        let ball = simulation.snapshot().ball.pos.ground();
        let directing = if post == Post::Main { directing } else { Directing::default() };
        Self {
            acts: script(seed ^ u64::from(period), frames, fps, directing),
            past: VecDeque::new(),
            operator: Operator::new(post, seed, size, ball),
            second: Operator::new(Post::Tight, seed, size, ball),
            simulation,
            last: None,
            frame: 0,
            fps,
            clock_offset: (period - 1) as f32 * HALF_TIME,
            graphics: post == Post::Main,
        }
    }

    /// The posts whose backdrops the shots of such a feed need.
    #[must_use]
    pub fn posts(post: Post, directing: Directing) -> Vec<Post> {
        let second = post == Post::Main && directing.cuts + directing.replays > 0;
        if second { vec![post, Post::Tight] } else { vec![post] }
    }

    fn remembered(&self) -> usize {
        (self.fps * 4.0) as usize
    }
}

impl Iterator for Feed {
    type Item = Shot;

    fn next(&mut self) -> Option<Shot> {
        let frame = self.frame;
        self.frame += 1;
        let dt = 1.0 / self.fps;
        if frame > 0 {
            self.simulation.step();
        }
        let scene = Arc::new(self.simulation.snapshot());
        let (main, tight) = (self.operator.follow(&scene.ball, dt), self.second.follow(&scene.ball, dt));
        self.past.push_back((Arc::clone(&scene), tight));
        if self.past.len() > self.remembered() {
            self.past.pop_front();
        }
        while self.acts.front().is_some_and(|(_, to, _)| *to <= frame) {
            self.acts.pop_front();
        }
        let act = self.acts.front().filter(|(from, _, _)| *from <= frame).copied();
        let live = Shot {
            frame,
            picture: frame,
            scene,
            camera: main,
            pan_blur: 0.0,
            shutter: dt * 0.4,
            clock_offset: self.clock_offset,
            graphics: self.graphics,
            frozen: false,
            replay: false,
        };
        let mut shot = match (act, &self.last) {
            (Some((_, _, Act::Cut)), _) => Shot { camera: tight, ..live },
            (Some((_, _, Act::Freeze)), Some(last)) => {
                let repeated = Shot { frame, frozen: true, ..last.clone() };
                self.last = Some(repeated.clone());
                return Some(repeated);
            }
            (Some((from, _, Act::Replay)), _) => {
                // As the past grows by one frame a frame and is cut to the same length, a step back from its start keeps
                // the same scene; half a step forward each frame is half speed.
                let since = (frame - from) as usize;
                let begin = self.past.len().saturating_sub(1 + since);
                let index = (begin.saturating_sub(self.remembered() / 2) + since / 2).min(self.past.len() - 1);
                let (scene, camera) = self.past[index].clone();
                Shot { scene, camera, replay: true, graphics: false, ..live }
            }
            (Some((_, _, Act::Freeze)) | None, _) => live,
        };
        if let Some(last) = self.last.as_ref().filter(|l| l.camera.post == shot.camera.post) {
            // The shutter is open for part of the way between two frames; a jump is a cut, which no shutter sees.
            let moved = (shot.camera.pan - last.camera.pan).abs() * shot.camera.focal * 0.4;
            shot.pan_blur = if moved < 60.0 { moved } else { 0.0 };
        }
        self.last = Some(shot.clone());
        Some(shot)
    }
}

/// Spreads the acts over the recording, each in a slot of its own.
fn script(seed: u64, frames: u32, fps: f32, directing: Directing) -> VecDeque<(u32, u32, Act)> {
    let mut rng = Rng::stream(seed, 0xd1ec);
    let mut acts = Vec::new();
    for (count, act) in [(directing.cuts, Act::Cut), (directing.freezes, Act::Freeze), (directing.replays, Act::Replay)]
    {
        acts.extend((0..count).map(|_| act));
    }
    rng.shuffle(&mut acts);
    let slot = frames as f32 / acts.len().max(1) as f32;
    let place = |(i, act): (usize, Act)| {
        let seconds = match act {
            Act::Cut => rng.range(1.5, 4.0),
            Act::Freeze => rng.range(0.5, 1.6),
            Act::Replay => rng.range(2.5, 3.8),
        };
        let length = (seconds * fps).min(slot * 0.6).max(1.0);
        let from = (i as f32 + rng.range(0.2, 0.35)) * slot;
        (from as u32, (from + length) as u32, act)
    };
    acts.into_iter().enumerate().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shots(directing: Directing) -> Vec<Shot> {
        Feed::new(5, 1, Post::Main, (640, 360), 25.0, 500, directing).take(500).collect()
    }

    #[test]
    fn each_request_to_the_director_is_met() {
        let shots = shots(Directing { cuts: 3, freezes: 2, replays: 1 });
        let starts = |is: &dyn Fn(&Shot) -> bool| shots.windows(2).filter(|w| !is(&w[0]) && is(&w[1])).count();
        assert_eq!(starts(&|s| s.frozen), 2);
        assert_eq!(starts(&|s| s.replay), 1);
        assert_eq!(starts(&|s| s.camera.post == Post::Tight && !s.replay), 3);
    }

    #[test]
    fn a_frozen_frame_repeats_the_picture_before_it() {
        let shots = shots(Directing { freezes: 2, ..Directing::default() });
        for pair in shots.windows(2).filter(|w| w[1].frozen) {
            assert_eq!(pair[0].picture, pair[1].picture);
            assert_eq!(pair[0].camera, pair[1].camera);
        }
    }

    #[test]
    fn the_ball_stays_in_the_main_picture() {
        let shots = shots(Directing::default());
        let inside = |s: &&Shot| {
            let p = s.camera.project(s.scene.ball.pos);
            (0.0..640.0).contains(&p.x) && (0.0..360.0).contains(&p.y)
        };
        let share = shots.iter().filter(inside).count();
        assert!(share > 470, "in {share} of 500 frames");
    }
}
