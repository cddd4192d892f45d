//! The dashboard and its small API, as the server of `observe` asks for them. Reads what the reign has shown last; what
//! people decide goes over the bus, as it does from the command line, whoever leads.

use std::{future::Future, pin::Pin, sync::Arc};

use fulltime_common::{
    queue::Bus,
    wire::{Band, Reply, Request as Ask},
};
use fulltime_observe::http::{Request, Response, Service};
use serde_json::json;
use tokio::sync::watch;

use crate::outlook::Standing;

/// Nothing but itself: no other site, no inline script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// See the module.
#[derive(Debug)]
pub(crate) struct Face {
    pub standing: watch::Receiver<Standing>,
    pub bus: Arc<dyn Bus>,
}

impl Service for Face {
    fn answer<'a>(&'a self, request: &'a Request) -> Pin<Box<dyn Future<Output = Response> + Send + 'a>> {
        Box::pin(async move {
            let path: Vec<&str> = request.path.trim_matches('/').split('/').collect();
            match (request.method.as_str(), path.as_slice()) {
                ("GET", [""]) => page("text/html; charset=utf-8", include_str!("face/index.html")),
                ("GET", ["dashboard.js"]) => page("text/javascript; charset=utf-8", include_str!("face/dashboard.js")),
                ("GET", ["dashboard.css"]) => page("text/css; charset=utf-8", include_str!("face/dashboard.css")),
                ("GET", ["api", "status"]) => self.status(),
                ("POST", ["api", "jobs", job, what]) => self.decide(job, what).await,
                ("GET" | "POST", _) => Response::json(404, &json!({ "error": "there is nothing here" })),
                _ => Response::json(405, &json!({ "error": "GET or POST" })),
            }
        })
    }
}

fn page(content_type: &'static str, body: &str) -> Response {
    Response { content_type, ..Response::text(200, body) }.with("Content-Security-Policy", POLICY)
}

impl Face {
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
