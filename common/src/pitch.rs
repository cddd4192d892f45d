//! Views of the pitch: how places on it and pixels of a recording belong together, as far as the user knows. The file that
//! people write, and what a reduce gets of it.
//!
//! Metres from the centre spot: x along the touchline, y across.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{MatchId, Placement};

/// A pitch file (TOML).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PitchFile {
    /// Metres between the goal lines.
    #[serde(default = "length")]
    pub length: f64,
    /// Metres between the touchlines.
    #[serde(default = "width")]
    pub width: f64,
    /// A recording gets every view that fits it.
    #[serde(default, rename = "view")]
    pub views: Vec<ViewFile>,
}

/// `[[view]]`: one recording's, or that of all recordings that fit. Has a `homography` or four points and more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewFile {
    /// Default: any season, match, period, camera.
    #[serde(default)]
    pub season: Option<String>,
    #[serde(default, rename = "match")]
    pub name: Option<String>,
    #[serde(default)]
    pub period: Option<u32>,
    #[serde(default)]
    pub camera: Option<String>,
    /// The frame that it was taken at.
    #[serde(default)]
    pub frame: u32,
    /// The camera moves: the view holds for that frame, and is carried on from there by the camera's motion up to the next
    /// cut. Otherwise it holds from that frame on, whatever happens.
    #[serde(default)]
    pub moving: bool,
    /// Row by row, from (x, y, 1) on the pitch in metres to homogeneous pixels.
    #[serde(default)]
    pub homography: Option<[f64; 9]>,
    /// Places that are known in both.
    #[serde(default, rename = "point")]
    pub points: Vec<Point>,
}

/// `[[view.point]]`: a place in the picture and on the pitch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Pixels.
    pub picture: [f64; 2],
    /// Metres.
    pub pitch: [f64; 2],
}

fn length() -> f64 {
    105.0
}
fn width() -> f64 {
    68.0
}

/// All views of the pitch, every homography known: what is stored with a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pitch {
    pub views: Vec<JobView>,
}

/// A view and which recordings have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    pub season: Option<String>,
    #[serde(rename = "match")]
    pub name: Option<String>,
    pub period: Option<u32>,
    pub camera: Option<String>,
    pub view: View,
}

/// One recording's view, as a reduce gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub frame: u32,
    pub moving: bool,
    /// Row by row, from (x, y, 1) on the pitch in metres to homogeneous pixels.
    pub homography: [f64; 9],
    /// Length and width of the pitch, metres.
    pub pitch: [f64; 2],
}

// All numbers are finite: a pitch with others is refused.
impl Eq for View {}

/// What is wrong with a pitch file that has the right form. Views are counted from 1.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PitchFault {
    #[error("`{side}` is {metres}; a side of the pitch has 20 to 200 metres")]
    Side { side: &'static str, metres: f64 },
    #[error("view {view} has {points} points and no homography; it needs one of them, and four points at least")]
    Points { view: usize, points: usize },
    #[error("view {view} has a homography and points; keep one of them")]
    Both { view: usize },
    #[error("view {view} has a number that is none")]
    NotFinite { view: usize },
    #[error("the homography of view {view} cannot be turned round: it maps the pitch to a line")]
    Singular { view: usize },
    #[error("three of the points of view {view} lie on one line, or nearly: they fix no homography")]
    Degenerate { view: usize },
}

impl PitchFile {
    /// # Errors
    /// The first thing wrong.
    pub fn resolve(&self) -> Result<Pitch, PitchFault> {
        for (side, metres) in [("length", self.length), ("width", self.width)] {
            if !(20.0..=200.0).contains(&metres) {
                return Err(PitchFault::Side { side, metres });
            }
        }
        let views = self.views.iter().enumerate().map(|(i, file)| {
            Ok(JobView {
                season: file.season.clone(),
                name: file.name.clone(),
                period: file.period,
                camera: file.camera.clone(),
                view: View {
                    frame: file.frame,
                    moving: file.moving,
                    homography: file.homography(i + 1)?,
                    pitch: [self.length, self.width],
                },
            })
        });
        Ok(Pitch { views: views.collect::<Result<_, _>>()? })
    }
}

impl ViewFile {
    fn homography(&self, view: usize) -> Result<[f64; 9], PitchFault> {
        let homography = match (self.homography, self.points.len()) {
            (Some(homography), 0) => homography,
            (Some(_), _) => return Err(PitchFault::Both { view }),
            (None, 0..4) => return Err(PitchFault::Points { view, points: self.points.len() }),
            (None, _) => fit(&self.points).ok_or(PitchFault::Degenerate { view })?,
        };
        if !homography.iter().all(|number| number.is_finite()) {
            return Err(PitchFault::NotFinite { view });
        }
        if invert(&homography).is_none() {
            return Err(PitchFault::Singular { view });
        }
        Ok(homography)
    }
}

impl Pitch {
    /// The views of one recording, by frame.
    #[must_use]
    pub fn of(&self, id: &MatchId, placement: &Placement) -> Vec<View> {
        let fits = |given: &Option<String>, own: &str| given.as_ref().is_none_or(|given| given == own);
        let mut views: Vec<View> = self
            .views
            .iter()
            .filter(|v| fits(&v.season, &id.season) && fits(&v.name, &id.name) && fits(&v.camera, &placement.camera))
            .filter(|v| v.period.is_none_or(|period| period == placement.period))
            .map(|v| v.view.clone())
            .collect();
        views.sort_by_key(|view| view.frame);
        views
    }
}

/// The inverse of a 3 by 3 matrix, row by row; `None` for one that has none.
#[must_use]
pub fn invert(m: &[f64; 9]) -> Option<[f64; 9]> {
    let minor = |a: usize, b: usize, c: usize, d: usize| m[a] * m[d] - m[b] * m[c];
    let [x, y, z] = [minor(4, 5, 7, 8), -minor(3, 5, 6, 8), minor(3, 4, 6, 7)];
    let det = m[0] * x + m[1] * y + m[2] * z;
    let size = m.iter().fold(0.0, |most: f64, n| most.max(n.abs()));
    if !det.is_finite() || det.abs() <= size * size * size * 1e-14 {
        return None;
    }
    let inverse = [
        x,
        -minor(1, 2, 7, 8),
        minor(1, 2, 4, 5),
        y,
        minor(0, 2, 6, 8),
        -minor(0, 2, 3, 5),
        z,
        -minor(0, 1, 6, 7),
        minor(0, 1, 3, 4),
    ];
    Some(inverse.map(|n| n / det))
}

/// The homography that brings points of the pitch nearest to their pixels, by linear least squares with its last element
/// 1 (Hartley and Zisserman, Multiple View Geometry, 2004, section 4.1); `None` where the points fix none.
#[must_use]
pub fn fit(points: &[Point]) -> Option<[f64; 9]> {
    // Pixels are brought near 1, so that all equations weigh alike.
    const PIXELS: f64 = 1000.0;
    const METRES: f64 = 50.0;
    let mut normal = [[0.0_f64; 9]; 8];
    let mut add = |row: [f64; 8], right: f64| {
        for i in 0..8 {
            for j in 0..8 {
                normal[i][j] += row[i] * row[j];
            }
            normal[i][8] += row[i] * right;
        }
    };
    for Point { picture: [u, v], pitch: [x, y] } in points {
        let (u, v, x, y) = (u / PIXELS, v / PIXELS, x / METRES, y / METRES);
        add([x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y], u);
        add([0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y], v);
    }
    let h = solve(normal)?;
    let (a, b) = (PIXELS / METRES, PIXELS);
    Some([h[0] * a, h[1] * a, h[2] * b, h[3] * a, h[4] * a, h[5] * b, h[6] / METRES, h[7] / METRES, 1.0])
}

/// Gauss with pivots; the right-hand side is the last column.
fn solve(mut m: [[f64; 9]; 8]) -> Option<[f64; 8]> {
    for column in 0..8 {
        let pivot = (column..8).max_by(|a, b| m[*a][column].abs().total_cmp(&m[*b][column].abs()))?;
        if m[pivot][column].abs() < 1e-9 {
            return None;
        }
        m.swap(column, pivot);
        let upper = m[column];
        for lower in &mut m[column + 1..] {
            let factor = lower[column] / upper[column];
            for (value, above) in lower[column..].iter_mut().zip(&upper[column..]) {
                *value -= factor * above;
            }
        }
    }
    let mut solution = [0.0; 8];
    for row in (0..8).rev() {
        let known: f64 = (row + 1..8).map(|at| m[row][at] * solution[at]).sum();
        solution[row] = (m[row][8] - known) / m[row][row];
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a broadcast camera on the halfway line sees it.
    const H: [f64; 9] = [13.0, 4.2, 640.0, 0.3, -5.1, 420.0, 0.0004, 0.0068, 1.0];

    fn seen(x: f64, y: f64) -> [f64; 2] {
        let w = H[6] * x + H[7] * y + H[8];
        [(H[0] * x + H[1] * y + H[2]) / w, (H[3] * x + H[4] * y + H[5]) / w]
    }

    #[test]
    fn points_fix_the_homography_that_made_them() {
        let places = [[-52.5, -34.0], [52.5, -34.0], [52.5, 34.0], [-52.5, 34.0], [0.0, 0.0], [-36.0, 20.16]];
        let points = places.map(|pitch| Point { picture: seen(pitch[0], pitch[1]), pitch });
        let found = fit(&points).unwrap();
        assert!(found.iter().zip(H).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        let line = [0.0, 10.0, 20.0, 30.0].map(|x| Point { picture: seen(x, 0.0), pitch: [x, 0.0] });
        assert_eq!(fit(&line), None);
    }

    #[test]
    fn the_inverse_leads_back() {
        let back = invert(&H).unwrap();
        let [u, v] = seen(12.0, -7.0);
        let w = back[6] * u + back[7] * v + back[8];
        assert!(((back[0] * u + back[1] * v + back[2]) / w - 12.0).abs() < 1e-9);
        assert!(((back[3] * u + back[4] * v + back[5]) / w + 7.0).abs() < 1e-9);
        assert_eq!(invert(&[1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 0.0, 0.0, 1.0]), None);
    }

    #[test]
    fn a_recording_gets_the_views_that_fit_it() {
        let text = "[[view]]\ncamera = \"left\"\nhomography = [1, 0, 0, 0, 1, 0, 0, 0, 1]\n\
            [[view]]\nperiod = 2\nframe = 50\nmoving = true\nhomography = [2, 0, 0, 0, 2, 0, 0, 0, 1]\n";
        let pitch = toml::from_str::<PitchFile>(text).unwrap().resolve().unwrap();
        let id = MatchId { season: "2024".into(), name: "final".into() };
        let recording = crate::plan::RecordingRef { key: "k".into(), size: 1, etag: "e".into() };
        let of = |period, camera: &str| {
            let placement = Placement { recording: recording.clone(), period, camera: camera.into(), offset_us: 0 };
            pitch.of(&id, &placement).iter().map(|view| view.frame).collect::<Vec<_>>()
        };
        assert_eq!((of(1, "left"), of(2, "left"), of(1, "main")), (vec![0], vec![0, 50], vec![]));
    }

    #[test]
    fn views_that_fix_nothing_are_refused() {
        let fault = |text: &str| toml::from_str::<PitchFile>(text).unwrap().resolve().unwrap_err().to_string();
        assert!(fault("[[view]]\n").starts_with("view 1 has 0 points and no homography"));
        assert!(fault("length = 5\n").starts_with("`length` is 5"));
        assert!(fault("[[view]]\nhomography = [0, 0, 0, 0, 0, 0, 0, 0, 1]\n").contains("cannot be turned round"));
    }
}
