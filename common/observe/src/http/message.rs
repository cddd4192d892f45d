//! A request as it comes and a response as it goes.

use super::Caller;

/// A whole request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Who asks, as the guard has found out.
    pub caller: Caller,
}

/// See [`Response::text`] and [`Response::json`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// `None` while more has to come.
    ///
    /// # Errors
    /// What to answer to something that is no request.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Response> {
        let bad = |_| Response::text(400, "not an HTTP request\n");
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut headers);
        let httparse::Status::Complete(length) = parsed.parse(bytes).map_err(bad)? else { return Ok(None) };
        let target = parsed.path.unwrap_or("/");
        let headers = parsed.headers.iter();
        let headers =
            headers.map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).trim().to_owned()));
        let mut request = Self {
            method: parsed.method.unwrap_or_default().to_owned(),
            path: target.split('?').next().unwrap_or(target).to_owned(),
            headers: headers.collect(),
            body: Vec::new(),
            caller: Caller::default(),
        };
        if request.header("transfer-encoding").is_some() {
            return Err(Response::text(411, "send a length\n"));
        }
        let wanted = match request.header("content-length").map(str::parse::<usize>) {
            None => 0,
            Some(Ok(wanted)) if wanted <= super::LARGEST => wanted,
            Some(_) => return Err(Response::text(413, "too large\n")),
        };
        let Some(body) = bytes[length..].get(..wanted) else { return Ok(None) };
        request.body = body.to_vec();
        Ok(Some(request))
    }

    /// By its name in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Response {
    #[must_use]
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", headers: Vec::new(), body: body.into() }
    }

    #[must_use]
    pub fn json(status: u16, value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self { content_type: "application/json", ..Self::text(status, body) },
            Err(error) => Self::text(500, format!("{error}\n")),
        }
    }

    #[must_use]
    pub fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }

    pub(super) fn head(&self) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            409 => "Conflict",
            411 => "Length Required",
            413 => "Content Too Large",
            503 => "Service Unavailable",
            _ => "Status",
        };
        let mut head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\
             X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n",
            self.status,
            self.content_type,
            self.body.len(),
        );
        // Everything changes from second to second, unless it says otherwise.
        if !self.headers.iter().any(|(name, _)| *name == "Cache-Control") {
            head.push_str("Cache-Control: no-store\r\n");
        }
        for (name, value) in &self.headers {
            // What came from elsewhere must not begin a header of its own.
            head.push_str(&format!("{name}: {}\r\n", value.replace(['\r', '\n'], " ")));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}
