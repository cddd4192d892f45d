//! The match itself, without pictures: 22 players, three officials and a ball that move plausibly in steps of one frame.
//! The tactics are simple on purpose; what counts is what a tracker sees: runs, turns, crowding and occlusion.

use crate::{
    cast::REFEREE,
    geometry::{GOAL_HALF_WIDTH, GOAL_HEIGHT, HALF_LENGTH, HALF_WIDTH, Vec2, Vec3, vec2, wrap_angle},
    rng::Rng,
    tactics::{self, Outlook},
};

pub(crate) const PLAYERS: usize = 22;
const PEOPLE: usize = 25;
pub(crate) const BALL_RADIUS: f32 = 0.11;
const KICK_SECONDS: f32 = 0.32;

/// One person at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Person {
    pub pos: Vec2,
    pub vel: Vec2,
    /// Direction of the chest, radians from the x axis.
    pub heading: f32,
    /// Of the stride, radians.
    pub phase: f32,
    /// Seconds that a kick still takes; zero when none.
    pub kick: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Ball {
    pub pos: Vec3,
    pub vel: Vec3,
}

/// Everything that a picture of one moment needs; people in the order of [`crate::cast::Cast::members`].
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Match time in seconds.
    pub clock: f32,
    pub people: Vec<Person>,
    pub ball: Ball,
}

/// Who has the ball, or what the game waits for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Play {
    /// Nobody's; the kicker may not touch it again for a moment, the receiver runs for it.
    Loose {
        kicker: usize,
        receiver: Option<usize>,
        for_seconds: f32,
    },
    Held {
        by: usize,
        until: f32,
        pressed: f32,
    },
    /// Out of play: put at `spot`, kicked by `taker` when he is there.
    Dead {
        spot: Vec2,
        taker: usize,
        since: f32,
        kind: Restart,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    KickOff,
    ThrowIn,
    Corner,
    GoalKick,
}

/// The simulation of one period. The same seed and step give the same match, whoever films it.
#[derive(Debug, Clone)]
pub struct Simulation {
    rng: Rng,
    dt: f32,
    clock: f32,
    people: Vec<Person>,
    ball: Ball,
    play: Play,
    /// The side that each team attacks: 1 to the right, -1 to the left.
    attack: [f32; 2],
    last_touch: usize,
    formations: [usize; 2],
    /// Own rhythm of each person: two phases, a frequency.
    habits: Vec<[f32; 3]>,
}

pub(crate) fn team_of(player: usize) -> usize {
    player / 11
}

pub(crate) fn is_keeper(player: usize) -> bool {
    player.is_multiple_of(11)
}

impl Simulation {
    /// Period `period` (from 1; teams change ends), already some seconds into the game so that clips start in play.
    #[must_use]
    pub fn new(seed: u64, period: u32, fps: f32) -> Self {
        let mut rng = Rng::stream(seed, 0x5ce2e + u64::from(period));
        let right = if period.is_multiple_of(2) { -1.0 } else { 1.0 };
        let formations = [rng.below(tactics::FORMATIONS), rng.below(tactics::FORMATIONS)];
        let habits = (0..PEOPLE).map(|_| [rng.range(0.0, 6.3), rng.range(0.0, 6.3), rng.range(0.15, 0.5)]).collect();
        let kick_off = Play::Dead { spot: Vec2::default(), taker: 10, since: 0.0, kind: Restart::KickOff };
        let mut simulation = Self {
            rng,
            dt: 1.0 / fps,
            clock: 0.0,
            people: vec![Person::default(); PEOPLE],
            ball: Ball { pos: Vec2::default().at_height(BALL_RADIUS), vel: Vec3::default() },
            play: kick_off,
            attack: [right, -right],
            last_touch: 21,
            formations,
            habits,
        };
        for i in 0..PEOPLE {
            let (pos, _) = simulation.aim(i);
            simulation.people[i] = Person { pos, heading: (-pos).angle(), ..Person::default() };
        }
        let lead_in = simulation.rng.range(8.0, 45.0);
        while simulation.clock < lead_in {
            simulation.step();
        }
        simulation.clock = 0.0;
        if let Play::Dead { since, .. } | Play::Held { until: since, .. } = &mut simulation.play {
            *since -= lead_in;
        }
        simulation
    }

    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { clock: self.clock, people: self.people.clone(), ball: self.ball }
    }

    /// Moves everything on by one frame.
    pub fn step(&mut self) {
        self.clock += self.dt;
        for i in 0..PEOPLE {
            let (target, pace) = self.aim(i);
            self.walk(i, target, pace);
        }
        self.keep_apart();
        match self.play {
            Play::Held { by, until, pressed } => self.dribble(by, until, pressed),
            Play::Loose { kicker, receiver, for_seconds } => self.roll(kicker, receiver, for_seconds),
            Play::Dead { spot, taker, since, kind } => self.wait(spot, taker, since, kind),
        }
    }

    /// Where person `i` wants to be, and how fast he wants to get there.
    fn aim(&self, i: usize) -> (Vec2, f32) {
        let outlook = Outlook {
            people: &self.people,
            ball: self.ball,
            play: self.play,
            attack: self.attack,
            last_touch: self.last_touch,
            formations: self.formations,
        };
        let (target, pace) = if i < PLAYERS { outlook.player(i) } else { outlook.official(i - REFEREE) };
        // Nobody stands like a post.
        let [a, b, frequency] = self.habits[i];
        let sway = vec2((self.clock * frequency + a).sin(), (self.clock * frequency * 1.3 + b).sin());
        (target + sway * if i < PLAYERS { 1.6 } else { 0.5 }, pace)
    }

    fn walk(&mut self, i: usize, target: Vec2, pace: f32) {
        let (dt, ball) = (self.dt, self.ball.pos.ground());
        let person = &mut self.people[i];
        let way = target - person.pos;
        let wanted = way.normalised() * pace.min(way.length() * 1.1);
        // Feet grip: about 4.5 m/s2 in any direction.
        person.vel += (wanted - person.vel).clamp_length(4.5 * dt);
        person.pos += person.vel * dt;
        let speed = person.vel.length();
        let facing = if speed > 1.2 { person.vel.angle() } else { (ball - person.pos).angle() };
        person.heading = wrap_angle(person.heading + wrap_angle(facing - person.heading).clamp(-5.0 * dt, 5.0 * dt));
        // Stride frequency rises from a walk at 0.9 Hz to a sprint at 1.9 Hz.
        let stride = if speed < 0.15 { 0.0 } else { 0.8 + 0.14 * speed };
        person.phase = (person.phase + std::f32::consts::TAU * stride * dt) % std::f32::consts::TAU;
        person.kick = (person.kick - dt).max(0.0);
    }

    /// Bodies may cover each other in the picture but do not stand in one another.
    fn keep_apart(&mut self) {
        for i in 0..PEOPLE {
            for j in 0..i {
                let between = self.people[i].pos - self.people[j].pos;
                let overlap = 0.55 - between.length();
                if overlap > 0.0 {
                    let push = between.normalised() * (overlap * 0.5);
                    self.people[i].pos += push;
                    self.people[j].pos += -push;
                }
            }
        }
    }

    fn dribble(&mut self, by: usize, until: f32, pressed: f32) {
        let holder = self.people[by];
        let speed = holder.vel.length();
        // The ball runs ahead and is caught up with, once a stride.
        let ahead = 0.45 + (0.1 + 0.1 * speed) * (holder.phase * 0.5).sin().abs();
        let spot = holder.pos + Vec2::from_angle(holder.heading) * ahead;
        let ball = self.ball.pos.ground();
        let pos = ball + (spot - ball) * (self.dt * 12.0).min(1.0);
        self.ball = Ball { pos: pos.at_height(BALL_RADIUS), vel: holder.vel.at_height(0.0) };
        let opponent = self.nearest(pos, |p| team_of(p) != team_of(by) && !is_keeper(p));
        let close = self.people[opponent].pos.distance(pos) < 1.1;
        let pressed = if close { pressed + self.dt } else { 0.0 };
        self.play = Play::Held { by, until, pressed };
        if self.out_of_play(pos, by) {
            return;
        }
        if pressed > 0.7 && self.rng.chance(self.dt * 0.6) {
            self.take(opponent);
        } else if self.clock > until || (pressed > 0.3 && self.rng.chance(self.dt * 3.0)) {
            self.kick_on(by);
        }
    }

    fn roll(&mut self, kicker: usize, receiver: Option<usize>, for_seconds: f32) {
        let dt = self.dt;
        let Ball { pos, vel } = &mut self.ball;
        *pos = *pos + *vel * dt;
        if pos.z > BALL_RADIUS {
            vel.z -= 9.81 * dt;
        } else {
            pos.z = BALL_RADIUS;
            vel.z = if vel.z < -1.2 { -vel.z * 0.55 } else { 0.0 };
            let slowed = vel.ground();
            let slowed = slowed.normalised() * (slowed.length() - 2.2 * dt).max(0.0);
            (vel.x, vel.y) = (slowed.x, slowed.y);
        }
        let (pos, height, speed) = (self.ball.pos.ground(), self.ball.pos.z, self.ball.vel.ground().length());
        self.play = Play::Loose { kicker, receiver, for_seconds: for_seconds + dt };
        if self.out_of_play(pos, kicker) {
            return;
        }
        let first = self.nearest(pos, |p| p != kicker || for_seconds > 0.6);
        // A kick leaves the feet around it before anybody can react.
        if for_seconds < 0.25 {
            return;
        }
        let reach = if is_keeper(first) { 1.3 } else { 0.8 };
        let reachable =
            self.people[first].pos.distance(pos) < reach && height < if is_keeper(first) { 2.3 } else { 1.1 };
        // A hard shot slips through more often than not; a pass to its receiver seldom.
        let sure = if receiver == Some(first) { 14.0 } else { 9.0 / (1.0 + speed * 0.15) };
        if reachable && self.rng.chance(dt * sure) {
            self.take(first);
        }
    }

    fn wait(&mut self, spot: Vec2, taker: usize, since: f32, kind: Restart) {
        let waited = self.clock - since;
        // The ball rolls out and is then fetched off the picture's mind.
        let rolling = self.ball.vel.ground() * (1.0 - waited).max(0.0);
        let settled = waited > 2.0;
        let pos = if settled { spot } else { self.ball.pos.ground() + rolling * self.dt };
        self.ball.pos = pos.at_height(if settled { BALL_RADIUS } else { self.ball.pos.z.max(BALL_RADIUS) });
        if settled {
            self.ball.vel = Vec3::default();
        }
        let pause = if kind == Restart::KickOff { 6.0 } else { 3.5 };
        let ready = self.people[taker].pos.distance(spot) < 1.0 && waited > pause;
        if !(ready || waited > 20.0) {
            return;
        }
        let team = team_of(taker);
        self.people[taker].kick = KICK_SECONDS;
        match kind {
            Restart::Corner => {
                let target = vec2(self.attack[team] * self.rng.range(42.0, 48.0), self.rng.range(-5.0, 5.0));
                self.launch(taker, target, 17.0, 9.0, None);
            }
            Restart::GoalKick => {
                let target = vec2(self.attack[team] * self.rng.range(-8.0, 12.0), self.rng.range(-22.0, 22.0));
                self.launch(taker, target, 24.0, 11.0, None);
            }
            Restart::KickOff | Restart::ThrowIn => {
                let receiver = self.nearest(spot, |p| team_of(p) == team && p != taker && !is_keeper(p));
                let target = self.people[receiver].pos;
                let up = if kind == Restart::ThrowIn { 3.0 } else { 0.0 };
                self.launch(taker, target, 9.0, up, Some(receiver));
            }
        }
    }

    fn take(&mut self, by: usize) {
        self.last_touch = by;
        let patience = if is_keeper(by) { (1.5, 3.5) } else { (0.6, 3.2) };
        let until = self.clock + self.rng.range(patience.0, patience.1);
        self.play = Play::Held { by, until, pressed: 0.0 };
    }

    /// A shot when the goal is near, otherwise a pass to whoever stands free and forward.
    fn kick_on(&mut self, by: usize) {
        let team = team_of(by);
        let (from, goal) = (self.people[by].pos, vec2(self.attack[team] * HALF_LENGTH, 0.0));
        self.people[by].kick = KICK_SECONDS;
        let to_goal = from.distance(goal);
        if to_goal < 24.0 && self.rng.chance(0.75 - to_goal * 0.02) {
            let target = goal + vec2(0.0, self.rng.range(-5.5, 5.5));
            let (pace, up) = (self.rng.range(20.0, 28.0), self.rng.range(0.0, 5.5));
            return self.launch(by, target, pace, up, None);
        }
        let mut best = (f32::MIN, by);
        for mate in (team * 11..team * 11 + 11).filter(|&p| p != by) {
            let pos = self.people[mate].pos;
            let distance = pos.distance(from);
            let free = self.people[self.nearest(pos, |p| team_of(p) != team)].pos.distance(pos);
            let forward = (pos.x - from.x) * self.attack[team];
            let far = (distance - 17.0).abs();
            let mut score = forward * 0.25 + free.min(8.0) * 1.2 - far * 0.45 + self.rng.range(0.0, 9.0);
            if distance < 5.0 || is_keeper(mate) {
                score -= 14.0;
            }
            if score > best.0 {
                best = (score, mate);
            }
        }
        let mate = best.1;
        let distance = self.people[mate].pos.distance(from);
        let lofted = distance > 24.0 || self.rng.chance(0.12);
        let pace = if lofted { 10.0 + distance * 0.35 } else { (7.0 + distance * 0.55).min(21.0) };
        let lead = self.people[mate].vel * (distance / pace * 0.8);
        let error = distance * 0.06;
        let target = self.people[mate].pos + lead + vec2(self.rng.range(-error, error), self.rng.range(-error, error));
        let up = if lofted { 9.81 * 0.5 * distance / pace } else { self.rng.range(0.0, 0.8) };
        self.launch(by, target, pace, up, Some(mate));
    }

    fn launch(&mut self, by: usize, target: Vec2, pace: f32, up: f32, receiver: Option<usize>) {
        let from = self.ball.pos.ground();
        self.ball.vel = ((target - from).normalised() * pace).at_height(up);
        self.ball.pos.z = self.ball.pos.z.max(BALL_RADIUS + 0.01);
        self.last_touch = by;
        self.play = Play::Loose { kicker: by, receiver, for_seconds: 0.0 };
    }

    /// Stops play when the ball at `pos` has left the pitch.
    fn out_of_play(&mut self, pos: Vec2, touched_by: usize) -> bool {
        let over_end = pos.x.abs() > HALF_LENGTH + BALL_RADIUS;
        let over_side = pos.y.abs() > HALF_WIDTH + BALL_RADIUS;
        if !over_end && !over_side {
            return false;
        }
        let (side, team) = (pos.x.signum(), team_of(touched_by));
        let other = 1 - team;
        let attacks_here = self.attack[team] == side;
        let (kind, spot, to) = if !over_end {
            (Restart::ThrowIn, vec2(pos.x, pos.y.signum() * HALF_WIDTH), other)
        } else if pos.y.abs() < GOAL_HALF_WIDTH && self.ball.pos.z < GOAL_HEIGHT {
            let scored_by = if attacks_here { team } else { other };
            (Restart::KickOff, Vec2::default(), 1 - scored_by)
        } else if attacks_here {
            (Restart::GoalKick, vec2(side * (HALF_LENGTH - 5.5), pos.y.signum() * 7.0), other)
        } else {
            (Restart::Corner, vec2(side * HALF_LENGTH, pos.y.signum() * HALF_WIDTH), other)
        };
        let taker = match kind {
            Restart::GoalKick => to * 11,
            Restart::KickOff => to * 11 + 10,
            Restart::Corner | Restart::ThrowIn => self.nearest(spot, |p| team_of(p) == to && !is_keeper(p)),
        };
        self.play = Play::Dead { spot, taker, since: self.clock, kind };
        true
    }

    fn nearest(&self, to: Vec2, eligible: impl Fn(usize) -> bool) -> usize {
        let distance = |p: &usize| self.people[*p].pos.distance(to);
        (0..PLAYERS).filter(|p| eligible(*p)).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_of_play_stay_plausible() {
        for seed in 0..4 {
            let mut simulation = Simulation::new(seed, 1, 25.0);
            let mut moving = 0u32;
            let (mut left, mut right) = (0u32, 0u32);
            for _ in 0..15_000 {
                simulation.step();
                let shot = simulation.snapshot();
                for (i, person) in shot.people.iter().enumerate() {
                    assert!(person.vel.length() < 9.5, "person {i} runs {} m/s", person.vel.length());
                    assert!(person.pos.x.abs() < 58.0 && person.pos.y.abs() < 39.0, "person {i} at {:?}", person.pos);
                }
                moving += u32::from(shot.ball.vel.ground().length() > 0.5);
                left += u32::from(shot.ball.pos.x < -15.0);
                right += u32::from(shot.ball.pos.x > 15.0);
            }
            assert!(moving > 7_500, "seed {seed}: the ball rests {} of 15000 frames", 15_000 - moving);
            assert!(left > 500 && right > 500, "seed {seed}: play stays on one side: {left} {right}");
        }
    }

    #[test]
    fn a_seed_is_a_match() {
        let run = |seed, period| {
            let mut simulation = Simulation::new(seed, period, 25.0);
            (0..500).for_each(|_| simulation.step());
            simulation.snapshot()
        };
        assert_eq!(run(3, 1), run(3, 1));
        assert_ne!(run(3, 1), run(4, 1));
        assert_ne!(run(3, 1), run(3, 2));
    }
}
