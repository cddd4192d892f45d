//! A person as bars: a skeleton that walks, runs and kicks in three dimensions, projected joint by joint and dressed.

use crate::{
    camera::Camera,
    cast::{Member, Rgb},
    digits,
    geometry::{Vec2, Vec3, vec3},
    raster::{Bar, Ink},
    scene::Person,
};

/// Below so many pixels a metre nobody can read a number, so none is drawn.
const READABLE: f32 = 12.0;

/// The bars of one body, far ones first.
pub fn body(member: &Member, person: &Person, camera: &Camera, bars: &mut Vec<Bar>) {
    bars.clear();
    let foot = camera.project(person.pos.at_height(0.9));
    if foot.depth < 2.0 {
        return;
    }
    let figure = Figure::new(member, person, camera, foot.depth);
    figure.build(bars);
    bars.sort_by(|a, b| b.depth.total_cmp(&a.depth));
}

/// The strokes of the shirt number that [`body`] draws, whether or not something hides them; none where it draws none.
#[must_use]
pub fn number(member: &Member, person: &Person, camera: &Camera) -> Vec<Bar> {
    let mut bars = Vec::new();
    let foot = camera.project(person.pos.at_height(0.9));
    if foot.depth >= 2.0 {
        let figure = Figure::new(member, person, camera, foot.depth);
        let Pose { lean, pelvis, .. } = figure.pose();
        figure.number(&|up| vec3(lean * up * 1.2, 0.0, pelvis + up), &mut bars);
    }
    bars
}

/// Where the shadow of a body falls: two bars on the ground, legs and trunk.
#[must_use]
pub fn shadow(member: &Member, person: &Person, camera: &Camera, fall: Vec2) -> [Bar; 2] {
    let cast = |height: f32| camera.project((person.pos + fall * height).at_height(0.0));
    let (feet, hip, crown) = (cast(0.0), cast(member.height * 0.5), cast(member.height));
    let scale = camera.focal / feet.depth.max(1.0);
    // The ground is seen at a slant: a round shadow looks flat.
    let flat = (camera.post.position().z / feet.depth.max(1.0)).clamp(0.15, 0.8);
    let bar = |a: (f32, f32), b: (f32, f32), half: f32| {
        let half = (half * scale * (0.5 + flat)).max(0.5);
        Bar { alpha: 0.34, ..Bar::limb(a, b, (half, half), Ink::flat([16, 128, 128]), feet.depth) }
    };
    let point = |p: crate::camera::Projected| (p.x, p.y);
    [bar(point(feet), point(hip), 0.09), bar(point(hip), point(crown), 0.15)]
}

struct Figure<'a> {
    member: &'a Member,
    person: &'a Person,
    camera: &'a Camera,
    /// Body lengths are given for somebody of 1.80 m.
    unit: f32,
    /// Pixels per metre at the body's distance.
    scale: f32,
}

/// One leg: hip, knee, ankle and toe relative to the body's frame (ahead, to the right, up), metres.
struct Leg {
    hip: Vec3,
    knee: Vec3,
    ankle: Vec3,
    toe: Vec3,
}

impl Leg {
    /// `thigh` forward from the vertical, `bend` of the knee, radians.
    fn new(side: f32, pelvis: f32, thigh: f32, bend: f32) -> Self {
        let hip = vec3(0.0, side * 0.10, pelvis);
        let reach = |from: Vec3, angle: f32, length: f32| from + vec3(angle.sin() * length, 0.0, -angle.cos() * length);
        let knee = reach(hip, thigh, 0.44);
        let ankle = reach(knee, thigh - bend, 0.43);
        // A foot stands flat under a straight leg and points down behind a bent one.
        let pitch = (bend * 0.6 - thigh * 0.2).clamp(-0.3, 1.1);
        let toe = ankle + vec3(pitch.cos() * 0.17, side * 0.03, -0.05 - pitch.sin() * 0.1);
        Self { hip, knee, ankle, toe }
    }

    fn lowest(&self) -> f32 {
        self.ankle.z.min(self.toe.z)
    }

    fn raised(self, by: f32) -> Self {
        let up = vec3(0.0, 0.0, by);
        Self { hip: self.hip + up, knee: self.knee + up, ankle: self.ankle + up, toe: self.toe + up }
    }
}

/// How a body stands at an instant.
struct Pose {
    legs: [Leg; 2],
    /// Metres forward a metre up, and height of the pelvis.
    lean: f32,
    pelvis: f32,
    /// -1 when the legs swing the other way round.
    backwards: f32,
}

impl<'a> Figure<'a> {
    fn new(member: &'a Member, person: &'a Person, camera: &'a Camera, distance: f32) -> Self {
        Self { member, person, camera, unit: member.height / 1.80, scale: camera.focal / distance }
    }

    fn pose(&self) -> Pose {
        let Person { phase, kick, vel, heading, .. } = *self.person;
        let speed = vel.length();
        // Running backwards swings the legs the other way round.
        let backwards = if vel.dot(Vec2::from_angle(heading)) < -0.3 { -1.0 } else { 1.0 };
        let swing = if speed < 0.15 { 0.04 } else { (0.24 + 0.10 * speed).min(0.92) };
        let lift = if speed < 0.15 { 0.0 } else { (0.3 + 0.2 * speed).min(1.7) };
        let legs = [1.0f32, -1.0].map(|side| {
            let phase = phase * backwards + if side > 0.0 { 0.0 } else { std::f32::consts::PI };
            let kicking = if side > 0.0 && kick > 0.0 { (1.0 - kick / 0.32) * std::f32::consts::PI } else { 0.0 };
            let thigh = swing * phase.sin() + kicking.sin() * 0.9 + 0.06 * lift;
            let bend = 0.08 + lift * phase.cos().max(0.0) * (1.0 - kicking.sin());
            Leg::new(side, 0.93, thigh, bend)
        });
        let ground = 0.03 - legs[0].lowest().min(legs[1].lowest());
        let lean = (0.025 * speed).min(0.2);
        let pelvis = 0.93 + ground;
        Pose { legs: legs.map(|leg| leg.raised(ground)), lean, pelvis, backwards }
    }

    fn build(&self, bars: &mut Vec<Bar>) {
        let Pose { legs, lean, pelvis, backwards } = self.pose();
        let (phase, speed) = (self.person.phase, self.person.vel.length());
        let spine = |up: f32| vec3(lean * up * 1.2, 0.0, pelvis + up);

        for (leg, side) in legs.iter().zip([1.0, -1.0]) {
            self.leg(leg, bars);
            self.arm(spine(0.50) + vec3(0.0, side * 0.19, 0.0), side, phase * backwards, speed, bars);
        }
        let kit = &self.member.kit;
        // Hips inside the shorts, trunk inside the shirt.
        self.trunk(spine(-0.06), spine(0.06), (0.155, 0.165), kit.shorts, false, bars);
        self.trunk(spine(0.02), spine(0.52), (0.165, 0.215), kit.shirt, true, bars);
        let head = spine(0.72) + vec3(0.02, 0.0, 0.0);
        let front = self.depth(head, head) - 0.02;
        self.limb(spine(0.54), spine(0.62), (0.055, 0.055), self.member.skin, front, bars);
        let (chin, brow) = (head + vec3(0.005, 0.0, -0.035), head + vec3(0.0, 0.0, 0.035));
        self.limb(chin, brow, (0.085, 0.10), self.member.skin, front - 0.01, bars);
        // Hair covers the crown and the back of the head: in front of the face only when seen from behind.
        let (nape, crown) = (head + vec3(-0.045, 0.0, 0.0), head + vec3(-0.01, 0.0, 0.065));
        self.limb(nape, crown, (0.085, 0.088), self.member.hair, front - 0.01 - 0.04 * self.facing(), bars);
        self.number(&spine, bars);
    }

    fn leg(&self, leg: &Leg, bars: &mut Vec<Bar>) {
        let Member { kit, skin, boots, .. } = self.member;
        let between = |a: Vec3, b: Vec3, part: f32| a + (b - a) * part;
        // What covers a limb takes its depth, or it would sink into it when the limb points at the camera.
        let (thigh, shin) = (self.depth(leg.hip, leg.knee), self.depth(leg.knee, leg.ankle));
        self.limb(leg.ankle, leg.toe, (0.048, 0.042), *boots, self.depth(leg.ankle, leg.toe), bars);
        self.limb(leg.knee, leg.ankle, (0.062, 0.045), *skin, shin, bars);
        self.limb(between(leg.knee, leg.ankle, 0.22), leg.ankle, (0.064, 0.048), kit.socks, shin - 0.002, bars);
        self.limb(leg.hip, leg.knee, (0.085, 0.064), *skin, thigh, bars);
        self.limb(leg.hip, between(leg.hip, leg.knee, 0.68), (0.105, 0.112), kit.shorts, thigh - 0.002, bars);
    }

    fn arm(&self, shoulder: Vec3, side: f32, phase: f32, speed: f32, bars: &mut Vec<Bar>) {
        // Arms swing against the leg of their side, bent when running.
        let swing = -side * phase.sin() * (0.12 + 0.11 * speed).min(0.95);
        let elbow_bend = (0.25 + 0.22 * speed).min(1.6);
        let out = side * (0.10 + 0.012 * speed);
        let elbow = shoulder + vec3(swing.sin() * 0.28, out, -swing.cos() * 0.27);
        let fore = swing + elbow_bend;
        let hand = elbow + vec3(fore.sin() * 0.27, out * 0.3, -fore.cos() * 0.27);
        let sleeve_end = shoulder + (elbow - shoulder) * 0.75;
        let upper = self.depth(shoulder, elbow);
        self.limb(elbow, hand, (0.042, 0.036), self.member.skin, self.depth(elbow, hand), bars);
        self.limb(shoulder, elbow, (0.055, 0.042), self.member.skin, upper, bars);
        self.limb(shoulder, sleeve_end, (0.072, 0.068), self.member.kit.trim, upper - 0.002, bars);
    }

    /// A part as wide as a chest, seen from any side.
    fn trunk(&self, low: Vec3, high: Vec3, half: (f32, f32), colour: Rgb, shirt: bool, bars: &mut Vec<Bar>) {
        let (a, b) = (self.project(low), self.project(high));
        let seen = |half: f32| {
            half * self.unit * self.scale * (self.facing().powi(2) + (0.58 * self.sideways()).powi(2)).sqrt()
        };
        let kit = &self.member.kit;
        let ink = Ink {
            stripes: if shirt && kit.striped { 7.0 * self.facing().abs().max(0.35) } else { 0.0 },
            second: kit.trim.to_yuv(),
            ..Ink::shaded(colour.to_yuv())
        };
        let half = (seen(half.0), seen(half.1));
        let round = (half.0.min(half.1) * 0.5).max(0.3);
        bars.push(Bar {
            from: (a.0, a.1),
            to: (b.0, b.1),
            half,
            round,
            cap: 0.05 * self.unit * self.scale,
            ink,
            alpha: 1.0,
            depth: (a.2 + b.2) / 2.0 - 0.015,
        });
    }

    fn limb(&self, from: Vec3, to: Vec3, half: (f32, f32), colour: Rgb, depth: f32, bars: &mut Vec<Bar>) {
        let (a, b) = (self.project(from), self.project(to));
        let to_pixels = self.unit * self.scale;
        let half = ((half.0 * to_pixels).max(0.5), (half.1 * to_pixels).max(0.5));
        bars.push(Bar::limb((a.0, a.1), (b.0, b.1), half, Ink::shaded(colour.to_yuv()), depth));
    }

    fn depth(&self, from: Vec3, to: Vec3) -> f32 {
        self.project((from + to) * 0.5).2
    }

    /// On the back as high as the rules ask (25 to 35 cm), half as high on the chest.
    fn number(&self, spine: &dyn Fn(f32) -> Vec3, bars: &mut Vec<Bar>) {
        let Some(number) = self.member.number.filter(|_| self.scale > READABLE) else { return };
        let from_behind = self.facing() < 0.0;
        // Nearly edge-on, strokes would only smear.
        if self.facing().abs() < 0.3 {
            return;
        }
        let (middle, height, surface) = if from_behind { (0.30, 0.31, -0.12) } else { (0.36, 0.20, 0.12) };
        let reading = if from_behind { 1.0 } else { -1.0 };
        let base = spine(middle) + vec3(surface, 0.0, 0.0);
        let up = (spine(middle + 0.5) - spine(middle)) * 2.0;
        let ink = Ink::flat(self.member.kit.number.to_yuv());
        let half = (height * 0.078 * self.unit * self.scale).max(0.45);
        let depth = self.project(spine(middle)).2 - 0.2;
        digits::lines(number, |a, b| {
            let place = |(x, y): (f32, f32)| {
                let p = self.project(base + vec3(0.0, x * height * reading, 0.0) + up * (y * height));
                (p.0, p.1)
            };
            bars.push(Bar::limb(place(a), place(b), (half, half), ink, depth));
        });
    }

    /// Cosine between the chest and the way to the camera: 1 is face on, -1 from behind.
    fn facing(&self) -> f32 {
        let to_camera = (self.camera.post.position().ground() - self.person.pos).normalised();
        Vec2::from_angle(self.person.heading).dot(to_camera)
    }

    fn sideways(&self) -> f32 {
        (1.0 - self.facing().powi(2)).max(0.0).sqrt()
    }

    /// From the body's frame to pixels and depth.
    fn project(&self, local: Vec3) -> (f32, f32, f32) {
        let ahead = Vec2::from_angle(self.person.heading);
        let at = self.person.pos + (ahead * local.x + ahead.right() * local.y) * self.unit;
        let p = self.camera.project(at.at_height(local.z * self.unit));
        (p.x, p.y, p.depth)
    }
}
