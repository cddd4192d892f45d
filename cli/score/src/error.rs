//! What can be wrong with a file of ground truth or results. Lines count from 1; the caller adds the file's name.

use std::io;

/// A file that does not read as its format.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("read line {line}")]
    Read {
        line: usize,
        #[source]
        source: io::Error,
    },
    #[error("write")]
    Write(#[from] io::Error),
    #[error(
        "line {line}: {found} columns, at least {needed} are needed (frame, id, left, top, width, height, confidence)"
    )]
    Columns { line: usize, found: usize, needed: usize },
    #[error("line {line}, column {column} ({name}): `{text}` is not {expected}")]
    Value { line: usize, column: usize, name: &'static str, text: String, expected: &'static str },
    #[error("not the JSON of its format")]
    Json(#[from] serde_json::Error),
    #[error("line {line} is not the JSON of its format")]
    JsonLine {
        line: usize,
        #[source]
        source: serde_json::Error,
    },
    #[error("{field} of {what}: `{text}` is not {expected}")]
    Field { what: String, field: &'static str, text: String, expected: &'static str },
    #[error("line {line}: identity {id} is already in frame {frame}")]
    Twice { line: usize, frame: u32, id: i64 },
}

/// Truth and results that cannot be scored against each other.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScoreError {
    #[error("frame {frame} of {whose} has an object without identity")]
    NoIdentity { whose: &'static str, frame: u32 },
    #[error("frame {frame} of {whose} has identity {id} twice")]
    Twice { whose: &'static str, frame: u32, id: i64 },
    #[error("frame {frame} of the ground truth has an object of {}, which the rules do not know", class_name(*class))]
    Class { frame: u32, class: Option<i32> },
}

fn class_name(class: Option<i32>) -> String {
    class.map_or_else(|| "no class".to_owned(), |class| format!("class {class}"))
}
