//! The dashboard, the viewer of matches and their small API, as the server of `observe` asks for them. Reads what the reign
//! has shown last, and published objects; what people decide goes over the bus, as it does from the command line, whoever
//! leads.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use fulltime_common::{
    queue::Bus,
    wire::{Band, Reply, Request as Ask},
};
use fulltime_observe::http::{Request, Response, Role, Service};
use fulltime_tables::matches::Detection;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::outlook::Standing;

mod gallery;
mod pages;

pub(crate) use gallery::Gallery;
use gallery::{Album, GalleryError, WINDOW};

/// Nothing but itself: no other site, no inline script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// See the module.
#[derive(Debug)]
pub(crate) struct Face {
    pub standing: watch::Receiver<Standing>,
    pub bus: Arc<dyn Bus>,
    pub gallery: Gallery,
}

impl Service for Face {
    fn answer<'a>(&'a self, request: &'a Request) -> Pin<Box<dyn Future<Output = Response> + Send + 'a>> {
        Box::pin(async move {
            let path: Vec<&str> = request.path.trim_matches('/').split('/').collect();
            let needed = needs(&request.method, &path);
            if request.caller.role < needed {
                let error = format!("that needs a token of the role `{needed}`");
                return Response::json(403, &json!({ "error": error }));
            }
            match (request.method.as_str(), path.as_slice()) {
                ("GET", [""]) => page("text/html; charset=utf-8", include_str!("face/index.html")),
                ("GET", ["dashboard.js"]) => page("text/javascript; charset=utf-8", include_str!("face/dashboard.js")),
                ("GET", ["dashboard.css"]) => page("text/css; charset=utf-8", include_str!("face/dashboard.css")),
                ("GET", ["viewer.js"]) => page("text/javascript; charset=utf-8", include_str!("face/viewer.js")),
                ("GET", ["api", "status"]) => self.status(),
                ("GET", ["jobs", job]) => shown(self.gallery.season(job).await, |season| html(&pages::season(&season))),
                ("GET", ["jobs", job, "matches", slug]) => {
                    shown(self.gallery.album(job, slug).await, |album| html(&pages::album(&album)))
                }
                ("GET", ["api", "jobs", job, "matches", slug, what @ ..]) => self.look(job, slug, what).await,
                ("POST", ["api", "jobs", job, what]) => self.decide(job, what).await,
                ("GET" | "POST", _) => Response::json(404, &json!({ "error": "there is nothing here" })),
                _ => Response::json(405, &json!({ "error": "GET or POST" })),
            }
        })
    }
}

/// Who may ask for this at least. What is new and not thought of here is an operator's.
fn needs(method: &str, path: &[&str]) -> Role {
    match (method, path) {
        ("GET", _) => Role::Viewer,
        ("POST", ["api", "jobs", _, "cancel"]) => Role::Submitter,
        _ => Role::Operator,
    }
}

fn page(content_type: &'static str, body: &str) -> Response {
    Response { content_type, ..Response::text(200, body) }.with("Content-Security-Policy", POLICY)
}

fn html(body: &str) -> Response {
    page("text/html; charset=utf-8", body)
}

fn shown<T>(looked: Result<T, GalleryError>, show: impl FnOnce(T) -> Response) -> Response {
    match looked {
        Ok(found) => show(found),
        Err(error) => Response::json(error.status(), &json!({ "error": fulltime_common::error::chain(&error) })),
    }
}

/// A picture never changes below its frame's number, but for a later generation.
fn jpeg(body: Vec<u8>) -> Response {
    let response = Response { content_type: "image/jpeg", ..Response::text(200, body) };
    response.with("Cache-Control", "private, max-age=60")
}

/// What the viewer needs before the first picture. Whose a track is: `tracks` by number; what is not known is null.
fn outline(album: &Album) -> Response {
    let recordings = album.recordings.iter().map(|footage| {
        let (width, height) = footage.size();
        json!({ "key": footage.key(), "period": footage.period(), "camera": footage.camera(), "width": width, "height": height,
                "fps": footage.fps(), "pictures": footage.pictures })
    });
    let people = album.players.iter().map(|player| {
        json!({ "id": player.player_id, "team": player.team.as_deref(), "number": player.number, "role": player.role.as_deref(),
                "name": player.name.as_deref() })
    });
    let tracks: BTreeMap<i32, Option<i32>> =
        album.tracks.iter().map(|track| (track.track_id, track.player_id)).collect();
    Response::json(
        200,
        &json!({ "window": WINDOW, "recordings": recordings.collect::<Vec<_>>(), "people": people.collect::<Vec<_>>(),
                 "tracks": tracks }),
    )
}

/// A row as an array: x, y, w, h in pixels of the recording, track, class, and the place on the pitch in metres. A tenth is
/// more than anybody sees.
fn plain(row: &Detection) -> Value {
    let tenths = |value: f32| (f64::from(value) * 10.0).round() / 10.0;
    let [x, y, w, h] = [row.x, row.y, row.w, row.h].map(tenths);
    let (right, away) = (row.pitch_x.map(tenths), row.pitch_y.map(tenths));
    json!([x, y, w, h, row.track_id, &*row.class, right, away])
}

impl Face {
    async fn look(&self, job: &str, slug: &str, what: &[&str]) -> Response {
        if what == ["cover"] {
            return shown(self.gallery.cover(job, slug).await, jpeg);
        }
        let album = match self.gallery.album(job, slug).await {
            Ok(album) => album,
            Err(error) => return shown(Err::<(), _>(error), |()| html("")),
        };
        let nothing = || Response::json(404, &json!({ "error": "album, cover, pictures or boxes" }));
        let (kind, recording, number) = match what {
            ["album"] => return outline(&album),
            [kind, recording, number] => match (recording.parse(), number.trim_end_matches(".jpg").parse::<u32>()) {
                (Ok(recording), Ok(number)) => (*kind, recording, number),
                _ => return nothing(),
            },
            _ => return nothing(),
        };
        match kind {
            "pictures" => shown(self.gallery.picture(&album, recording, number).await, jpeg),
            "boxes" => shown(self.gallery.boxes(&album, recording, number as usize).await, |frames| {
                let rows = |(frame, rows): (u32, Vec<Detection>)| (frame, rows.iter().map(plain).collect::<Vec<_>>());
                let frames: BTreeMap<u32, Vec<Value>> = frames.into_iter().map(rows).collect();
                Response::json(200, &json!({ "frames": frames }))
            }),
            _ => nothing(),
        }
    }

    fn status(&self) -> Response {
        match &*self.standing.borrow() {
            Standing::Leads(reply) => Response::json(200, &**reply),
            Standing::StandsBy(leader) => {
                Response::json(503, &json!({ "error": "this coordinator stands by", "leader": leader }))
            }
        }
    }

    async fn decide(&self, job: &str, what: &str) -> Response {
        let job = job.to_owned();
        let ask = match what {
            "pause" => Ask::Pause { job },
            "resume" => Ask::Resume { job },
            "cancel" => Ask::Cancel { job },
            "retry" => Ask::Retry { job },
            "high" => Ask::Priority { job, band: Band::High },
            "normal" => Ask::Priority { job, band: Band::Normal },
            "low" => Ask::Priority { job, band: Band::Low },
            _ => return Response::json(404, &json!({ "error": "pause, resume, cancel, retry, high, normal or low" })),
        };
        match self.bus.request(&ask).await {
            Ok(Reply::Refused { cause }) => Response::json(409, &json!({ "error": cause })),
            Ok(Reply::Accepted | Reply::Status { .. }) => Response::json(200, &json!({ "done": what })),
            Err(error) => Response::json(503, &json!({ "error": fulltime_common::error::chain(&error) })),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use fulltime_common::{Digest, queue::MemoryBus, store::Store};
    use fulltime_observe::{
        health::Health,
        http::{Listen, Server, Serving},
        metrics::{Board, COORDINATOR},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    const DECISIONS: [&str; 7] = ["pause", "resume", "cancel", "retry", "high", "normal", "low"];

    async fn serve(tokens: &str) -> Serving {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), tokens).unwrap();
        let listen = Listen::At("127.0.0.1:0".parse().unwrap());
        let server = Server::bind(listen, Some(&file.path().to_owned())).await.unwrap().unwrap();
        let bus = Arc::new(MemoryBus::default());
        let state = tempfile::tempdir().unwrap();
        let gallery = Gallery::new(Store::create(state.path().to_str().unwrap()).unwrap());
        let face = Face { standing: watch::channel(Standing::StandsBy(None)).1, bus, gallery };
        server.serve(Board::new(COORDINATOR), Health::new(Duration::from_secs(60)), Arc::new(face)).unwrap()
    }

    async fn status(address: SocketAddr, method: &str, path: &str, token: Option<&str>) -> u16 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let ask = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Fulltime: 1\r\n{token}\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// No coordinator hears the bus, so what is allowed is answered by 503 where it would have been done.
    #[tokio::test]
    async fn every_role_may_do_what_it_may_and_nothing_else() {
        let token = |role: Role| format!("the-token-of-the-{role}");
        let line = |role: Role| format!("{role} somebody {}\n", Digest::of_bytes(token(role).as_bytes()));
        let serving = serve(&Role::ALL.map(line).concat()).await;
        let reads = ["/", "/dashboard.js", "/dashboard.css", "/api/status"];
        let mut cells = 0;
        for caller in [None, Some(Role::Viewer), Some(Role::Submitter), Some(Role::Operator)] {
            let shown = caller.map(token);
            let read = |path| ("GET", path, Some(Role::Viewer), if path == "/api/status" { 503 } else { 200 });
            let decisions = DECISIONS.map(|what| (format!("/api/jobs/j1/{what}"), what));
            let decide = decisions.iter().map(|(path, what)| {
                let needed = if *what == "cancel" { Role::Submitter } else { Role::Operator };
                ("POST", path.as_str(), Some(needed), 503)
            });
            let open = ["/livez", "/metrics"].map(|path| ("GET", path, None, 200));
            let odd = [
                ("GET", "/api/nothing", Some(Role::Viewer), 404),
                ("POST", "/api/jobs/j1/explode", Some(Role::Operator), 404),
                ("POST", "/api/jobs/j1/cancel/pause", Some(Role::Operator), 404),
                ("DELETE", "/api/jobs/j1", Some(Role::Operator), 405),
                ("POST", "/", Some(Role::Operator), 404),
            ];
            for (method, path, needed, allowed) in reads.map(read).into_iter().chain(decide).chain(open).chain(odd) {
                let wanted = match (needed, caller) {
                    (None, _) => allowed,
                    (Some(_), None) => 401,
                    (Some(needed), Some(role)) if role < needed => 403,
                    (Some(_), Some(_)) => allowed,
                };
                let found = status(serving.address, method, path, shown.as_deref()).await;
                assert_eq!(found, wanted, "{caller:?} {method} {path}");
                cells += 1;
            }
        }
        assert_eq!(cells, 72);
        let digest = Digest::of_bytes(token(Role::Operator).as_bytes()).to_string();
        assert_eq!(status(serving.address, "GET", "/", Some(&digest)).await, 401, "the file's own words open nothing");
    }
}
