//! Who holds which token, and what each may do. A file has either one token, which is an operator's, or a line for each:
//! role, name, SHA-256 of the token. `#` begins a comment. So the file itself opens nothing.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

/// Shorter tokens can be guessed.
const SHORTEST: usize = 16;

/// What a token is good for; each role may do what those before it may. The broker has roles of the same names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    #[default]
    Viewer,
    /// Submits and cancels jobs.
    Submitter,
    /// Does everything.
    Operator,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Submitter, Self::Operator];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Submitter => "submitter",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    pub role: Role,
    /// As the file says; empty where the file has but one token, or where none is needed.
    pub name: String,
}

impl Caller {
    /// Who asks from this machine where no token is demanded.
    pub(super) fn local() -> Self {
        Self { role: Role::Operator, name: String::new() }
    }
}

/// Why a file is no list of tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTokens {
    #[error("there is no token in it")]
    None,
    #[error("the only token in it is not {SHORTEST} or more visible ASCII characters")]
    Token,
    #[error("line {line}: {what}")]
    Line { line: usize, what: &'static str },
}

/// SHA-256 of every token, and whose it is.
pub struct Tokens(Vec<([u8; 32], Caller)>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(_, caller)| caller)).finish()
    }
}

impl FromStr for Tokens {
    type Err = BadTokens;

    fn from_str(text: &str) -> Result<Self, BadTokens> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.split('#').next().unwrap_or(line).trim()));
        let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty()).collect();
        match lines.as_slice() {
            [] => Err(BadTokens::None),
            // A lone token may have a `#` in it.
            [_] if text.split_whitespace().count() == 1 => {
                let token = text.trim();
                if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(BadTokens::Token);
                }
                Ok(Self(vec![(Sha256::digest(token).into(), Caller::local())]))
            }
            lines => lines.iter().map(|&(line, text)| entry(line, text)).collect::<Result<_, _>>().map(Self),
        }
    }
}

fn entry(line: usize, text: &str) -> Result<([u8; 32], Caller), BadTokens> {
    let bad = |what| BadTokens::Line { line, what };
    let words: Vec<_> = text.split_whitespace().collect();
    let [role, name, digest] = words.as_slice() else { return Err(bad("not a role, a name and a sha256")) };
    let role = Role::ALL.into_iter().find(|known| known.name() == *role);
    let role = role.ok_or_else(|| bad("the role is not viewer, submitter or operator"))?;
    let digest = sha256(digest).ok_or_else(|| bad("the last word is not a sha256 (64 hexadecimal characters)"))?;
    Ok((digest, Caller { role, name: (*name).to_owned() }))
}

fn sha256(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != digest.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|nibble| char::from(nibble).to_digit(16));
        *byte = (high? << 4 | low?) as u8;
    }
    Some(digest)
}

impl Tokens {
    /// Whose this token is. Every entry is compared to its end, so the time that it takes says nothing about any of them.
    #[must_use]
    pub fn whose(&self, token: &str) -> Option<&Caller> {
        let shown: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for (digest, caller) in &self.0 {
            let differ = digest.iter().zip(&shown).fold(0, |differ, (a, b)| differ | (a ^ b));
            if std::hint::black_box(differ) == 0 {
                found = Some(caller);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(token: &str) -> String {
        Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_token_has_its_own_role() {
        let (ann, bob) = (hex("ann's token, long"), hex("bob's"));
        let tokens: Tokens =
            format!("# who may ask\n\nviewer ann {ann} # until May\n  operator\tbob {bob}\n").parse().unwrap();
        let role = |token: &str| tokens.whose(token).map(|caller| (caller.role, caller.name.as_str()));
        assert_eq!(role("ann's token, long"), Some((Role::Viewer, "ann")));
        assert_eq!(role("bob's"), Some((Role::Operator, "bob")));
        for none in ["", "ann's token", &ann, "bob's "] {
            assert_eq!(role(none), None, "{none}");
        }
        assert!(!format!("{tokens:?}").contains(&ann));
    }

    #[test]
    fn a_lone_token_is_an_operators() {
        let tokens: Tokens = "0123456789#abcdef\n".parse().unwrap();
        assert_eq!(tokens.whose("0123456789#abcdef"), Some(&Caller::local()));
        assert_eq!(tokens.whose("0123456789"), None);
    }

    #[test]
    fn what_is_no_list_of_tokens_says_where_and_why() {
        let bad = |text: &str| text.parse::<Tokens>().unwrap_err();
        let digest = hex("x");
        assert_eq!(bad(" \n# nobody\n"), BadTokens::None);
        assert_eq!(bad("short"), BadTokens::Token);
        for (text, line) in [
            (format!("viewer a {digest}\nadmin b {digest}"), 2),
            (format!("viewer {digest}"), 1),
            (format!("\nviewer a {}", &digest[1..]), 2),
            (format!("viewer a {}g", &digest[1..]), 1),
            (format!("viewer a {digest} more"), 1),
            ("two words".to_owned(), 1),
        ] {
            assert!(matches!(bad(&text), BadTokens::Line { line: at, .. } if at == line), "{text}: {:?}", bad(&text));
        }
    }
}
