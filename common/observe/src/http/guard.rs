//! Who may ask. Without a token only this machine, and only under its own name, so that no page of the web can ask in a
//! visitor's place; with one, whoever has it.

use std::{io, net::IpAddr, path::PathBuf};

use super::{BadTokens, Caller, Request, Response, Tokens};

/// Why there is no guard.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    #[error("others than this machine could ask at `{0}`, and there is no token")]
    Open(IpAddr),
    #[error("read the token from `{path}`")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` is no file of tokens")]
    BadTokens {
        path: PathBuf,
        #[source]
        source: BadTokens,
    },
}

impl GuardError {
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Open(_) => "name a file with a token by --api-token-file, or listen at 127.0.0.1",
            Self::Unreadable { .. } | Self::BadTokens { .. } => {
                "put a token into it (`openssl rand -hex 32`), or for each a line with role (viewer, submitter, operator), name \
                 and the token's sha256"
            }
        }
    }
}

/// See the module.
pub struct Guard(Option<Tokens>);

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("tokens", &self.0).finish()
    }
}

impl Guard {
    /// # Errors
    /// An address that others can reach, without a token; a token that cannot be read or guessed too easily.
    pub fn new(address: IpAddr, token_file: Option<&PathBuf>) -> Result<Self, GuardError> {
        let Some(path) = token_file else {
            return if address.is_loopback() { Ok(Self(None)) } else { Err(GuardError::Open(address)) };
        };
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| GuardError::Unreadable { path: path.clone(), source })?;
        let tokens = text.parse().map_err(|source| GuardError::BadTokens { path: path.clone(), source })?;
        Ok(Self(Some(tokens)))
    }

    /// Who asks; or what to answer to who may not ask at all.
    pub(super) fn admits(&self, request: &Request) -> Result<Caller, Response> {
        // A form of another site can send a POST, but not this header.
        if request.method != "GET" && request.header("x-fulltime").is_none() {
            return Err(Response::text(403, "only with the header X-Fulltime\n"));
        }
        let Some(tokens) = &self.0 else {
            return match ours(request.header("host").unwrap_or_default()) {
                true => Ok(Caller::local()),
                false => Err(Response::text(403, "ask at 127.0.0.1 or localhost\n")),
            };
        };
        let shown = shown(request);
        shown.and_then(|token| tokens.whose(&token).cloned()).ok_or_else(|| {
            let refusal = Response::text(401, "a token is needed: as Bearer, or as the password of any user\n");
            refusal.with("WWW-Authenticate", "Basic realm=\"fulltime\", charset=\"UTF-8\"")
        })
    }
}

/// A name of this machine that no name server can give to somebody else.
fn ours(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The token that the request shows.
fn shown(request: &Request) -> Option<String> {
    let (scheme, rest) = request.header("authorization")?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Some(rest.trim().to_owned())
    } else if scheme.eq_ignore_ascii_case("basic") {
        let pair = String::from_utf8(base64(rest.trim())?).ok()?;
        Some(pair.split_once(':')?.1.to_owned())
    } else {
        None
    }
}

/// Reads base64 (RFC 4648).
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for char in text.trim_end_matches('=').bytes() {
        let value = match char {
            b'A'..=b'Z' => char - b'A',
            b'a'..=b'z' => char - b'a' + 26,
            b'0'..=b'9' => char - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Request {
        Request::parse(text.as_bytes()).unwrap().unwrap()
    }

    fn guard(token: &str) -> Result<Guard, GuardError> {
        let path = std::env::temp_dir().join(format!("fulltime-token-{}-{}", std::process::id(), token.len()));
        std::fs::write(&path, token).unwrap();
        let guard = Guard::new("0.0.0.0".parse().unwrap(), Some(&path));
        std::fs::remove_file(path).unwrap();
        guard
    }

    #[test]
    fn an_open_address_demands_a_token() {
        assert!(matches!(Guard::new("0.0.0.0".parse().unwrap(), None), Err(GuardError::Open(_))));
        assert!(Guard::new("::1".parse().unwrap(), None).is_ok());
        assert!(matches!(guard("short"), Err(GuardError::BadTokens { .. })));
        assert!(matches!(guard("two words in one token"), Err(GuardError::BadTokens { .. })));
    }

    #[test]
    fn the_token_is_taken_as_bearer_and_as_a_password() {
        let guard = guard("0123456789abcdef\n").unwrap();
        let status =
            |header: &str| guard.admits(&request(&format!("GET / HTTP/1.1\r\n{header}\r\n"))).err().map(|r| r.status);
        assert_eq!(status(""), Some(401));
        assert_eq!(status("Authorization: Bearer 0123456789abcdef\r\n"), None);
        assert_eq!(status("authorization: bearer 0123456789abcdeg\r\n"), Some(401));
        assert_eq!(status("Authorization: Basic YW5uOjAxMjM0NTY3ODlhYmNkZWY=\r\n"), None);
        assert_eq!(status("Authorization: Basic !!\r\n"), Some(401));
    }

    #[test]
    fn without_a_token_only_this_machines_own_names_are_answered() {
        let guard = Guard(None);
        let status = |host: &str| {
            guard.admits(&request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))).err().map(|r| r.status)
        };
        for host in ["127.0.0.1:9870", "localhost", "localhost:1", "[::1]:9870"] {
            assert_eq!(status(host), None, "{host}");
        }
        for host in ["evil.example:9870", "127.0.0.1.evil.example", ""] {
            assert_eq!(status(host), Some(403), "{host}");
        }
        let post = request("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(guard.admits(&post).err().map(|r| r.status), Some(403), "a form of another site");
    }
}
