//! One frame: backdrop, shadows, people and ball from far to near, then what lens, shutter and broadcaster add.

use std::collections::BTreeMap;

use crate::{
    backdrop::Backdrop,
    body,
    camera::{Camera, Post},
    cast::{BALL_ID, Cast, Rgb, Role},
    digits,
    feed::Shot,
    geometry::Vec3,
    raster::{Bar, Canvas, Ink, NOBODY, grain_table},
    scene::{BALL_RADIUS, Ball},
    stadium::Stadium,
    truth::{FrameTruth, Print, Truth, rounded},
};

/// Smallest diameter of a drawn ball in a picture 1280 wide, of cameras that follow it and of fixed ones: bloom and
/// compression make a real one no smaller either.
const SMALLEST_BALL: [f32; 2] = [8.0, 3.5];

/// All that pictures of one match share. Cheap to use from many threads: each has its own canvas.
#[derive(Debug)]
pub struct Renderer {
    cast: Cast,
    stadium: Stadium,
    backdrops: BTreeMap<&'static str, Backdrop>,
    grain: Vec<i8>,
    score: [u8; 2],
    seed: u64,
}

impl Renderer {
    /// Paints the backdrops of `posts` on `threads` threads; `grain` is the deviation of the noise in 8-bit levels.
    #[must_use]
    pub fn new(seed: u64, posts: &[Post], (width, height): (u32, u32), grain: f32, threads: usize) -> Self {
        let cast = Cast::new(seed);
        let stadium = Stadium::new(seed, &cast);
        let paint = |post: &Post| (post.name(), Backdrop::paint(&stadium, *post, width, height, threads));
        let backdrops = posts.iter().map(paint).collect();
        let score = [(seed % 4) as u8, (seed / 4 % 3) as u8];
        Self { backdrops, grain: grain_table(seed, width, grain), cast, stadium, score, seed }
    }

    #[must_use]
    pub fn cast(&self) -> &Cast {
        &self.cast
    }

    /// Draws `shot` over whatever is on `canvas` and tells what is to be seen.
    pub fn render(&self, shot: &Shot, canvas: &mut Canvas) -> FrameTruth {
        let camera = &shot.camera;
        canvas.forget();
        if let Some(backdrop) = self.backdrops.get(camera.post.name()) {
            backdrop.show(camera, shot.pan_blur, &mut canvas.frame);
        }
        let people = &shot.scene.people;
        for (member, person) in self.cast.members.iter().zip(people) {
            for bar in body::shadow(member, person, camera, self.stadium.shadow) {
                canvas.draw_shadow(&bar);
            }
        }
        let ball = BallView::new(&shot.scene.ball, camera, self.stadium.shadow, shot.shutter);
        canvas.draw_shadow(&ball.shadow);

        // Far first; equal distances in the order of the cast.
        let mut order: Vec<(f32, usize)> =
            people.iter().map(|p| camera.project(p.pos.at_height(0.0)).depth).zip(0..).collect();
        order.push((ball.depth, people.len()));
        order.sort_by(|a, b| b.0.total_cmp(&a.0));

        let mut bars = Vec::new();
        let mut seen = Vec::new();
        for (_, i) in order {
            let id = if i == people.len() {
                bars.clear();
                bars.extend(ball.bars);
                BALL_ID
            } else {
                body::body(&self.cast.members[i], &people[i], camera, &mut bars);
                self.cast.members[i].id
            };
            if let Some(bounds) = joint_bounds(&bars).filter(|b| clip(*b, camera).is_some()) {
                bars.iter().for_each(|bar| canvas.draw(bar, id));
                seen.push((i, id, bounds));
            }
        }
        if shot.graphics {
            self.scoreboard(shot.scene.clock + shot.clock_offset, canvas);
        }
        canvas.add_grain(&self.grain, self.seed ^ u64::from(shot.picture) << 20 ^ camera.post as u64);

        seen.sort_by_key(|(_, id, _)| *id);
        let objects = seen.into_iter().filter_map(|(i, id, bounds)| {
            let place = people.get(i).map_or_else(|| shot.scene.ball.pos.ground(), |p| p.pos);
            let mut truth = self.truth(i, id, bounds, [place.x, place.y], camera, canvas)?;
            if let (Some(member), Some(person)) = (self.cast.members.get(i), people.get(i)) {
                truth.print = print(&body::number(member, person, camera), id, canvas);
            }
            Some(truth)
        });
        FrameTruth {
            frame: shot.frame,
            view: camera.post.name().to_owned(),
            frozen: shot.frozen,
            replay: shot.replay,
            homography: camera.homography(),
            objects: objects.collect(),
        }
    }

    fn truth(
        &self,
        i: usize,
        id: u8,
        bounds: [f32; 4],
        pitch: [f32; 2],
        camera: &Camera,
        canvas: &Canvas,
    ) -> Option<Truth> {
        let [left, top, right, bottom] = clip(bounds, camera)?;
        let whole = (bounds[2] - bounds[0]) * (bounds[3] - bounds[1]);
        let inside = (right - left) * (bottom - top) / whole.max(1e-3);
        let visible = rounded(inside * canvas.unhidden(id), 100.0);
        let member = self.cast.members.get(i);
        (visible > 0.0).then(|| Truth {
            id,
            role: member.map_or(Role::Ball, |m| m.role),
            team: member.and_then(|m| m.team),
            number: member.and_then(|m| m.number),
            bounds: [left, top, right - left, bottom - top].map(|v| rounded(v, 10.0)),
            visible,
            print: None,
            pitch: pitch.map(|v| rounded(v, 100.0)),
        })
    }

    /// Score and clock in the corner, as every broadcast has them; they hide players like anything else does.
    fn scoreboard(&self, clock: f32, canvas: &mut Canvas) {
        let unit = canvas.frame.width as f32 / 1280.0;
        let dark = Rgb(18, 20, 30);
        let mut panel = |x: f32, width: f32, colour: Rgb| {
            let y = 47.0 * unit;
            let middle = |x: f32| (x * unit, y);
            let (half, ink) = (15.0 * unit, Ink::flat(colour.to_yuv()));
            let bar = Bar { round: 1.5, cap: 0.0, ..Bar::limb(middle(x), middle(x + width), (half, half), ink, 0.0) };
            canvas.draw(&bar, NOBODY);
        };
        panel(50.0, 90.0, Rgb(236, 238, 242));
        panel(142.0, 22.0, self.cast.colours[0]);
        panel(164.0, 70.0, dark);
        panel(234.0, 22.0, self.cast.colours[1]);
        let mut write = |number: u8, pad: bool, x: f32, colour: Rgb| {
            let ink = Ink::flat(colour.to_yuv());
            let height = 17.0 * unit;
            let mut put = |digit: u8, x: f32| {
                digits::lines(digit, |a, b| {
                    let place = |p: (f32, f32)| (x * unit + p.0 * height, 47.0 * unit - p.1 * height);
                    let half = (1.2 * unit).max(0.5);
                    canvas.draw(&Bar::limb(place(a), place(b), (half, half), ink, 0.0), NOBODY);
                });
            };
            if pad {
                put(number / 10, x - 6.5);
                put(number % 10, x + 6.5);
            } else {
                put(number, x);
            }
        };
        let seconds = clock.max(0.0) as u32;
        write((seconds / 60).min(99) as u8, true, 76.0, dark);
        write((seconds % 60) as u8, true, 114.0, dark);
        write(self.score[0], false, 184.0, Rgb(250, 250, 250));
        write(self.score[1], false, 214.0, Rgb(250, 250, 250));
    }
}

/// The ball as bars, smeared along its way while the shutter is open.
struct BallView {
    bars: [Bar; 2],
    shadow: Bar,
    depth: f32,
}

impl BallView {
    fn new(ball: &Ball, camera: &Camera, fall: crate::geometry::Vec2, shutter: f32) -> Self {
        let point = |p: Vec3| camera.project(p);
        let (now, before) = (point(ball.pos), point(ball.pos - ball.vel * shutter));
        let smallest = SMALLEST_BALL[usize::from(camera.post.is_fixed())] / 2.0 * camera.width as f32 / 1280.0;
        let radius = (BALL_RADIUS * camera.focal / now.depth.max(1.0)).max(smallest);
        let way = (now.x - before.x).hypot(now.y - before.y);
        let ink = Ink { shade: 0.18, ..Ink::flat(Rgb(246, 246, 242).to_yuv()) };
        let at = |x: f32, y: f32, half: f32, ink: Ink, alpha: f32| Bar {
            alpha,
            ..Bar::limb((before.x + x, before.y + y), (now.x + x, now.y + y), (half, half), ink, now.depth)
        };
        // Light spread over a longer way is fainter.
        let alpha = (2.0 * radius / (2.0 * radius + way)).sqrt();
        let dark = Ink::flat(Rgb(70, 70, 78).to_yuv());
        let panel = at(radius * 0.15, radius * 0.2, radius * 0.32, dark, alpha * 0.7);
        let ground = point((ball.pos.ground() + fall * ball.pos.z).at_height(0.0));
        let flat = |x: f32| (ground.x + x, ground.y + radius * 0.2);
        let (half, ink_shadow) = (radius * 0.45, Ink::flat([16, 128, 128]));
        let shadow =
            Bar { alpha: 0.45, ..Bar::limb(flat(-radius * 0.6), flat(radius * 0.6), (half, half), ink_shadow, 0.0) };
        Self { bars: [at(0.0, 0.0, radius, ink, alpha), panel], shadow, depth: now.depth }
    }
}

/// Left, top, right, bottom around all of `bars`; none for somebody behind the camera.
fn joint_bounds(bars: &[Bar]) -> Option<[f32; 4]> {
    bars.iter().map(Bar::bounds).reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])])
}

/// What can be seen of a number's strokes: five points of each say.
fn print(strokes: &[Bar], id: u8, canvas: &Canvas) -> Option<Print> {
    let [left, top, right, bottom] = joint_bounds(strokes)?;
    let points = strokes.iter().flat_map(|bar| {
        let ((x0, y0), (x1, y1)) = (bar.from, bar.to);
        (0..5).map(move |i| i as f32 / 4.0).map(move |part| (x0 + (x1 - x0) * part, y0 + (y1 - y0) * part))
    });
    let shown = points.filter(|point| canvas.shows(*point, id)).count();
    let visible = rounded(shown as f32 / (5 * strokes.len()) as f32, 100.0);
    Some(Print { bounds: [left, top, right - left, bottom - top].map(|v| rounded(v, 10.0)), visible })
}

fn clip([left, top, right, bottom]: [f32; 4], camera: &Camera) -> Option<[f32; 4]> {
    let (width, height) = (camera.width as f32, camera.height as f32);
    let clipped = [left.max(0.0), top.max(0.0), right.min(width), bottom.min(height)];
    (clipped[2] - clipped[0] >= 1.0 && clipped[3] - clipped[1] >= 1.0).then_some(clipped)
}
