//! Where everybody wants to be: formations that breathe with the ball, pressing, runs for the ball, set pieces.

use crate::{
    geometry::{HALF_LENGTH, HALF_WIDTH, Vec2, vec2},
    scene::{Ball, PLAYERS, Person, Play, Restart, is_keeper, team_of},
};

pub(crate) const FORMATIONS: usize = 3;

/// Outfield places in units of half the pitch: x from the own goal (-1) to the other (1), y across.
const PLACES: [[(f32, f32); 10]; FORMATIONS] = [
    // 4-4-2
    [
        (-0.62, -0.22),
        (-0.62, 0.22),
        (-0.55, -0.66),
        (-0.55, 0.66),
        (-0.16, -0.2),
        (-0.12, 0.22),
        (-0.02, -0.7),
        (-0.02, 0.7),
        (0.3, -0.18),
        (0.34, 0.16),
    ],
    // 4-3-3
    [
        (-0.62, -0.2),
        (-0.62, 0.2),
        (-0.52, -0.64),
        (-0.52, 0.64),
        (-0.28, 0.0),
        (-0.05, -0.34),
        (-0.05, 0.34),
        (0.28, -0.68),
        (0.28, 0.68),
        (0.36, 0.0),
    ],
    // 3-5-2
    [
        (-0.64, 0.0),
        (-0.6, -0.36),
        (-0.6, 0.36),
        (-0.2, -0.78),
        (-0.2, 0.78),
        (-0.22, 0.0),
        (0.0, -0.32),
        (0.02, 0.32),
        (0.32, -0.2),
        (0.34, 0.22),
    ],
];

/// What a decision may look at.
pub(crate) struct Outlook<'a> {
    pub people: &'a [Person],
    pub ball: Ball,
    pub play: Play,
    pub attack: [f32; 2],
    pub last_touch: usize,
    pub formations: [usize; 2],
}

const WALK: f32 = 2.0;
const JOG: f32 = 4.2;
const RUN: f32 = 6.4;
const SPRINT: f32 = 8.2;

impl Outlook<'_> {
    /// Target and pace of player `i`.
    pub fn player(&self, i: usize) -> (Vec2, f32) {
        let team = team_of(i);
        match self.play {
            Play::Held { by, .. } if by == i => (self.dribble_towards(i), 5.6),
            Play::Held { by, .. } if team_of(by) != team => self.defend(i, by),
            Play::Loose { receiver: Some(receiver), .. } if receiver == i => (self.meet_ball(i), SPRINT),
            Play::Loose { .. } if self.rank(i, self.landing()) == 0 && self.may_leave_goal(i) => {
                (self.meet_ball(i), SPRINT)
            }
            Play::Dead { spot, taker, .. } if taker == i => (spot, RUN),
            Play::Dead { kind: Restart::KickOff, .. } => (self.kick_off_place(i), JOG),
            Play::Dead { kind: Restart::Corner, spot, .. } => (self.corner_place(i, spot), JOG),
            Play::Dead { .. } => (self.place(i), JOG),
            Play::Held { .. } | Play::Loose { .. } => self.hold_shape(i),
        }
    }

    /// Target and pace of the referee (0) and his assistants (1 on the right half, 2 on the left).
    pub fn official(&self, i: usize) -> (Vec2, f32) {
        let ball = self.ball.pos.ground();
        if i == 0 {
            // On the diagonal, near enough to see and far enough not to be in the way.
            let offset = vec2(if ball.x > 0.0 { -9.0 } else { 9.0 }, if ball.y > 0.0 { -8.0 } else { 8.0 });
            return (inside(ball + offset, 2.0), RUN);
        }
        let side = if i == 1 { 1.0 } else { -1.0 };
        let line = (ball.x * side).max(self.last_defender(side)).clamp(0.0, HALF_LENGTH);
        (vec2(line * side, -side * (HALF_WIDTH + 1.2)), SPRINT)
    }

    /// Second-last of the players on the `side` of the pitch, which is where an assistant stands.
    fn last_defender(&self, side: f32) -> f32 {
        let mut lines: Vec<f32> = self.people[..PLAYERS].iter().map(|p| p.pos.x * side).collect();
        lines.sort_by(f32::total_cmp);
        lines[PLAYERS - 2]
    }

    fn hold_shape(&self, i: usize) -> (Vec2, f32) {
        let target = self.place(i);
        let far = target.distance(self.people[i].pos);
        (
            target,
            if far > 14.0 {
                RUN
            } else if far > 5.0 {
                JOG
            } else {
                WALK
            },
        )
    }

    fn defend(&self, i: usize, holder: usize) -> (Vec2, f32) {
        if is_keeper(i) {
            return self.hold_shape(i);
        }
        let ball = self.ball.pos.ground();
        let own_goal = vec2(-self.attack[team_of(i)] * HALF_LENGTH, 0.0);
        let back = (own_goal - ball).normalised();
        match self.rank(i, ball) {
            0 => (ball + back * 0.5 + self.people[holder].vel * 0.3, SPRINT),
            1 => (ball + back * 5.0, RUN),
            _ => self.hold_shape(i),
        }
    }

    fn dribble_towards(&self, i: usize) -> Vec2 {
        let team = team_of(i);
        let pos = self.people[i].pos;
        if is_keeper(i) {
            return pos + vec2(self.attack[team] * 2.0, 0.0);
        }
        let goal = vec2(self.attack[team] * (HALF_LENGTH - 8.0), 0.0);
        let mut way = (goal - pos).normalised();
        for opponent in &self.people[(1 - team) * 11..(1 - team) * 11 + 11] {
            let away = pos - opponent.pos;
            let distance = away.length();
            if distance < 5.0 {
                way += away.normalised() * ((5.0 - distance) * 0.3);
            }
        }
        inside(pos + way.normalised() * 8.0, 1.5)
    }

    /// Where to run for a loose ball: ahead of it, as far as it will have rolled meanwhile.
    fn meet_ball(&self, i: usize) -> Vec2 {
        let (ball, vel) = (self.ball.pos.ground(), self.ball.vel.ground());
        let seconds = (self.people[i].pos.distance(ball) / (SPRINT + vel.length())).min(1.6);
        ball + vel * seconds
    }

    fn landing(&self) -> Vec2 {
        self.ball.pos.ground() + self.ball.vel.ground() * 0.6
    }

    /// How many of his outfield team mates are nearer to `spot`.
    fn rank(&self, i: usize, spot: Vec2) -> usize {
        let own = self.people[i].pos.distance(spot);
        let team = team_of(i) * 11;
        (team + 1..team + 11).filter(|&p| p != i && self.people[p].pos.distance(spot) < own).count()
    }

    fn may_leave_goal(&self, i: usize) -> bool {
        let own_goal = vec2(-self.attack[team_of(i)] * HALF_LENGTH, 0.0);
        !is_keeper(i) || self.landing().distance(own_goal) < 11.0
    }

    /// Place of a player in the block that moves and stretches with the ball.
    fn place(&self, i: usize) -> Vec2 {
        let team = team_of(i);
        let (attack, ball) = (self.attack[team], self.ball.pos.ground());
        if is_keeper(i) {
            let goal = vec2(-attack * HALF_LENGTH, 0.0);
            let out = (ball.distance(goal) * 0.12).clamp(1.0, 9.0);
            return goal + (ball - goal).normalised() * out;
        }
        let (x, y) = PLACES[self.formations[team]][i - team * 11 - 1];
        let in_possession = team_of(self.last_touch) == team;
        let push = if in_possession { 7.0 } else { -5.0 };
        let width = if in_possession { 27.0 } else { 21.0 };
        let along = x * 34.0 + ball.x * attack * 0.62 + push;
        let across = y * attack * width + ball.y * 0.38;
        inside(vec2(attack * along.clamp(-HALF_LENGTH + 6.0, HALF_LENGTH - 5.0), across), 2.0)
    }

    fn kick_off_place(&self, i: usize) -> Vec2 {
        let team = team_of(i);
        let attack = self.attack[team];
        if is_keeper(i) {
            return vec2(-attack * (HALF_LENGTH - 4.0), 0.0);
        }
        let (x, y) = PLACES[self.formations[team]][i - team * 11 - 1];
        vec2(attack * (x * 26.0 - 14.0).min(-2.0), y * attack * 26.0)
    }

    /// Attackers crowd the box, each with his marker at his side; the full-backs stay behind.
    fn corner_place(&self, i: usize, spot: Vec2) -> Vec2 {
        let place = i % 11;
        let attacking = self.attack[team_of(i)] == spot.x.signum();
        if place == 0 || place <= 2 && attacking || place >= 9 && !attacking {
            return self.place(i);
        }
        let slot = if attacking { place - 2 } else { place };
        let (depth, across) = (4.0 + (slot % 3) as f32 * 3.2, slot as f32 * 2.1 - 9.0);
        let marking = if attacking { 0.0 } else { 0.9 };
        vec2(spot.x.signum() * (HALF_LENGTH - depth + marking), across * 0.8 + marking * 0.4)
    }
}

fn inside(pos: Vec2, margin: f32) -> Vec2 {
    vec2(
        pos.x.clamp(-HALF_LENGTH + margin, HALF_LENGTH - margin),
        pos.y.clamp(-HALF_WIDTH + margin, HALF_WIDTH - margin),
    )
}
