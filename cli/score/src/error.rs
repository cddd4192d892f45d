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
    #[error("line {line}: identity {id} is already in frame {frame}")]
    Twice { line: usize, frame: u32, id: i64 },
}
