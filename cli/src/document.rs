//! A TOML file with places: every complaint about a pipeline, a manifest or a job file names file, line and column.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use fulltime_common::error::{Exit, Explain};
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

/// A TOML file that has been read.
#[derive(Debug)]
pub struct Document {
    path: PathBuf,
    text: String,
}

/// Line and column in a file, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A file that cannot be read, or does not say what it should.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("read {what} `{}`", file.display())]
    Read { what: &'static str, file: PathBuf, source: std::io::Error },
    /// The parser's own error shows the line again, over several lines; its message is all that is kept.
    #[error("{place}: {message}")]
    Content { what: &'static str, place: Place, message: String },
}

impl Explain for DocumentError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read { what, .. } => format!("check the path of the {what}"),
            Self::Content { what, .. } => {
                let schema = what.split(' ').next().filter(|w| matches!(*w, "job" | "pipeline" | "squads" | "pitch"));
                let schema = schema.unwrap_or("manifest");
                format!("correct the {what}; `fulltime schema {schema}` describes it")
            }
        })
    }
}

impl Document {
    /// # Errors
    /// When the file cannot be read as text.
    pub fn read(what: &'static str, path: &Path) -> Result<Self, DocumentError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self { path: path.to_owned(), text }),
            Err(source) => Err(DocumentError::Read { what, file: path.to_owned(), source }),
        }
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The folder that relative paths in this file start from.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// # Errors
    /// TOML that is wrong, or is not a `T`.
    pub fn parse<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, DocumentError> {
        toml::from_str(&self.text).map_err(|error| DocumentError::Content {
            what,
            place: self.at(error.span().unwrap_or_default()),
            message: error.message().replace('\n', ", "),
        })
    }

    /// Where a key stands, or the nearest table above it that is there.
    #[must_use]
    pub fn place(&self, keys: &[&str]) -> Place {
        let mut span = 0..0;
        if let Ok(root) = DeTable::parse(&self.text) {
            let mut table = Some(root.get_ref());
            for key in keys {
                let Some((name, value)) = table.and_then(|t| t.iter().find(|(name, _)| name.get_ref() == key)) else {
                    break;
                };
                span = name.span();
                table = match value.get_ref() {
                    DeValue::Table(inner) => Some(inner),
                    _ => None,
                };
            }
        }
        self.at(span)
    }

    /// Where this text first stands; the beginning of the file where it does not.
    #[must_use]
    pub fn place_of_text(&self, text: &str) -> Place {
        self.place_of_nth(text, 1)
    }

    /// Where this text stands for the n-th time, from 1.
    #[must_use]
    pub fn place_of_nth(&self, text: &str, n: usize) -> Place {
        let start = self.text.match_indices(text).nth(n.saturating_sub(1)).map_or(0, |(start, _)| start);
        self.at(start..start)
    }

    fn at(&self, span: Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
        Place { file: self.path.clone(), line, column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document { path: "p.toml".into(), text: text.to_owned() }
    }

    #[test]
    fn a_key_is_found_in_its_table_and_a_missing_one_falls_back_to_the_table() {
        let document = document("name = \"x\"\n[detect]\nmodel = \"m\"\n  every = 0\n");
        assert_eq!(document.place(&["detect", "every"]).to_string(), "p.toml:4:3");
        assert_eq!(document.place(&["detect", "tiles", "rows"]).to_string(), "p.toml:2:2");
        assert_eq!(document.place(&["nothing"]).to_string(), "p.toml:1:1");
    }

    #[test]
    fn a_wrong_type_is_one_line_with_its_place() {
        #[derive(Debug, serde::Deserialize)]
        struct Wanted {
            #[allow(dead_code)]
            every: u32,
        }
        let error = document("# ü\nevery = \"two\"\n").parse::<Wanted>("pipeline file").unwrap_err().to_string();
        assert!(error.starts_with("p.toml:2:9: invalid type"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
