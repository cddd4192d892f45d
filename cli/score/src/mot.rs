//! The `MOTChallenge` text format: one object a line, `frame,id,left,top,width,height,confidence` and then either class
//! and visibility (MOT16 and later, ground truth of `SportsMOT`) or a place in the world (MOT15, results). Frames count
//! from 1; an id of -1 means none, as in `det.txt`. See Leal-Taixé et al., "MOTChallenge 2015", arXiv:1504.01942.
//!
//! ```
//! use fulltime_score::mot;
//! let tracked = mot::read("1,7,10,20,30,60,0.9,-1,-1,-1\n".as_bytes())?;
//! assert_eq!(tracked.frame(1)[0].id, Some(7));
//! # Ok::<(), fulltime_score::FormatError>(())
//! ```

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
};

use flate2::bufread::MultiGzDecoder;

use crate::{
    error::FormatError,
    rect::Rect,
    sequence::{Object, Sequence},
};

const COLUMNS: [&str; 10] = ["frame", "id", "left", "top", "width", "height", "confidence", "x", "y", "z"];
const NEEDED: usize = 7;

/// Reads a `gt.txt`, `det.txt` or result file, packed with gzip or not. Columns may be parted by commas or by white
/// space, lines may come in any order; empty lines mean nothing.
///
/// # Errors
/// With the line: too few columns, something that is not a finite number, a frame below 1, or the same identity twice in
/// one frame.
pub fn read(input: impl Read) -> Result<Sequence, FormatError> {
    let mut input = BufReader::new(input);
    let packed = input.fill_buf().map_err(|source| FormatError::Read { line: 1, source })?.starts_with(&[0x1f, 0x8b]);
    if packed { lines(BufReader::new(MultiGzDecoder::new(input))) } else { lines(input) }
}

fn lines(mut input: impl BufRead) -> Result<Sequence, FormatError> {
    let mut sequence = Sequence::new();
    let mut known = BTreeSet::new();
    let (mut text, mut line) = (String::new(), 0);
    loop {
        line += 1;
        text.clear();
        match input.read_line(&mut text) {
            Ok(0) => return Ok(sequence),
            Ok(_) => {}
            Err(source) => return Err(FormatError::Read { line, source }),
        }
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            continue;
        }
        let (frame, object) = object(text, line)?;
        if let Some(id) = object.id
            && !known.insert((frame, id))
        {
            return Err(FormatError::Twice { line, frame, id });
        }
        sequence.push(frame, object);
    }
}

fn object(text: &str, line: usize) -> Result<(u32, Object), FormatError> {
    let mut columns = [0.0; COLUMNS.len()];
    let mut found = 0;
    let mut take = |text: &str| {
        if found < COLUMNS.len() {
            columns[found] = number(text, line, found)?;
        }
        found += 1;
        Ok::<(), FormatError>(())
    };
    if text.contains(',') {
        // A comma at the end of the line ends the last column.
        text.trim_end_matches(',').split(',').try_for_each(|column| take(column.trim()))?;
    } else {
        text.split_ascii_whitespace().try_for_each(take)?;
    }
    if found < NEEDED {
        return Err(FormatError::Columns { line, found, needed: NEEDED });
    }
    let [frame, id, x, y, w, h, score, a, b, c] = columns;
    let frame = whole(frame, 1.0..=f64::from(u32::MAX), line, 0, "a whole number of at least 1")? as u32;
    // Beyond 2^53 a float cannot tell two identities apart.
    let id = whole(id, -1.0..=9e15, line, 1, "a whole number of at least -1")? as i64;
    let mut object = Object::new((id >= 0).then_some(id), Rect { x, y, w, h }, score);
    match found {
        NEEDED => {}
        8 | 9 => {
            let bounds = f64::from(i32::MIN)..=f64::from(i32::MAX);
            object.class = Some(whole(a, bounds, line, 7, "the number of a class")? as i32);
            object.visibility = (found == 9).then_some(b);
        }
        _ => object.world = ([a, b, c] != [-1.0; 3]).then_some([a, b, c]),
    }
    Ok((frame, object))
}

fn number(text: &str, line: usize, index: usize) -> Result<f64, FormatError> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(wrong(line, index, text, "a finite number")),
    }
}

fn whole(
    value: f64,
    range: std::ops::RangeInclusive<f64>,
    line: usize,
    index: usize,
    expected: &'static str,
) -> Result<f64, FormatError> {
    if value.fract() == 0.0 && range.contains(&value) {
        Ok(value)
    } else {
        Err(wrong(line, index, &value.to_string(), expected))
    }
}

fn wrong(line: usize, index: usize, text: &str, expected: &'static str) -> FormatError {
    FormatError::Value { line, column: index + 1, name: COLUMNS[index], text: text.to_owned(), expected }
}

/// Writes every object that has a box, by frame. Those with a class get the nine columns of ground truth, the others the
/// ten of results. Numbers keep every digit they have.
///
/// # Errors
/// When the writer fails.
pub fn write(sequence: &Sequence, mut output: impl Write) -> Result<(), FormatError> {
    for (frame, object) in sequence.objects() {
        let Some(Rect { x, y, w, h }) = object.bounds else { continue };
        let (id, score) = (object.id.unwrap_or(-1), object.score);
        write!(output, "{frame},{id},{x},{y},{w},{h},{score}")?;
        match (object.class, object.visibility, object.world) {
            (Some(class), Some(visibility), _) => writeln!(output, ",{class},{visibility}")?,
            (Some(class), None, _) => writeln!(output, ",{class}")?,
            (None, _, Some([x, y, z])) => writeln!(output, ",{x},{y},{z}")?,
            (None, _, None) => writeln!(output, ",-1,-1,-1")?,
        }
    }
    output.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn error(text: &str) -> String {
        read(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn detections_ground_truth_and_results_read_as_what_they_are() {
        let text = "1,-1,291.557,192.468,39.494,119.227,0.995128,-1,-1,-1\r\n\n2, 0, 660, 331, 22, 77, 1, 1, 0.5\n";
        let sequence = read(text.as_bytes()).unwrap();
        let detection = &sequence.frame(1)[0];
        assert_eq!((detection.id, detection.score, detection.world), (None, 0.995_128, None));
        let truth = &sequence.frame(2)[0];
        assert_eq!((truth.id, truth.class, truth.visibility), (Some(0), Some(1), Some(0.5)));
        assert_eq!(truth.bounds, Some(Rect { x: 660.0, y: 331.0, w: 22.0, h: 77.0 }));
        assert_eq!(sequence.len(), 2);
        assert_eq!(read("3 1 2 3 4 5 1".as_bytes()).unwrap().frame(3).len(), 1);
    }

    #[test]
    fn a_wrong_line_is_named_with_what_is_wrong_in_it() {
        assert_eq!(
            error("1,1,0,0,5,5,1\n1,2,0,0,5\n"),
            "line 2: 5 columns, at least 7 are needed (frame, id, left, top, width, height, confidence)"
        );
        assert_eq!(error("1,1,0,x,5,5,1"), "line 1, column 4 (top): `x` is not a finite number");
        assert_eq!(error("1,1,0,NaN,5,5,1"), "line 1, column 4 (top): `NaN` is not a finite number");
        assert!(error("0,1,0,0,5,5,1").contains("column 1 (frame): `0` is not a whole number of at least 1"));
        assert!(error("1,1.5,0,0,5,5,1").contains("column 2 (id): `1.5`"));
        assert_eq!(error("1,4,0,0,5,5,1\n\n1,4,9,9,5,5,1"), "line 3: identity 4 is already in frame 1");
    }

    #[test]
    fn a_packed_file_reads_like_the_file() {
        let text = "1,1,0,0,5,5,1,1,1\n2,1,1,0,5,5,1,1,1\n";
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        assert_eq!(read(packed.finish().unwrap().as_slice()).unwrap(), read(text.as_bytes()).unwrap());
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error_of_their_line() {
        assert!(matches!(read(&b"1,1,0,0,5,5,1\n\xff\xfe\n"[..]), Err(FormatError::Read { line: 2, .. })));
    }

    fn any_object() -> impl Strategy<Value = Object> {
        let side = || -1e4..1e4f64;
        let columns = (side(), side(), 0.0..1e4f64, 0.0..1e4f64, 0.0..1.0f64);
        let tail = (option::of(0i32..20), 0.0..1.0f64, option::of((side(), side(), side())));
        (columns, tail).prop_map(|((x, y, w, h, score), (class, visibility, world))| Object {
            class,
            visibility: class.map(|_| visibility),
            world: world.filter(|_| class.is_none()).map(|(x, y, z)| [x, y, z]),
            ..Object::new(None, Rect { x, y, w, h }, score)
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(frames in vec((1u32..500, vec(any_object(), 0..5), any::<bool>()), 0..20)) {
            let mut sequence = Sequence::new();
            for (i, (frame, objects, named)) in frames.into_iter().enumerate() {
                for (k, object) in objects.into_iter().enumerate() {
                    let id = named.then_some((i * 10 + k) as i64);
                    sequence.push(frame, Object { id, ..object });
                }
            }
            let mut text = Vec::new();
            write(&sequence, &mut text).unwrap();
            prop_assert_eq!(read(text.as_slice()).unwrap(), sequence);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-0-9a-z,. \n]{0,200}") {
            let _ = read(text.as_bytes());
        }
    }
}
