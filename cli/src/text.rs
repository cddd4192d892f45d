//! How figures, durations, places and tables look at a terminal.

use fulltime_common::store;

/// `1234567` as `1,234,567`.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 match`, `2 matches`, `3 shards`.
#[must_use]
pub fn plural(n: u64, noun: &str) -> String {
    let ending = match (n, noun.ends_with("ch")) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{} {noun}{ending}", count(n))
}

/// `0.8 s`, `42 s`, `3 min 07 s`, `2 h 05 min`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !(0.0..10.0).contains(&seconds) {
        // `as` saturates, and makes nothing of what is not a number.
        let whole = seconds.round() as u64;
        return match (whole / 3600, whole / 60 % 60, whole % 60) {
            (0, 0, s) => format!("{s} s"),
            (0, m, s) => format!("{m} min {s:02} s"),
            (h, m, _) => format!("{h} h {m:02} min"),
        };
    }
    format!("{seconds:.1} s")
}

/// Frames per second, with a decimal only where it tells something.
#[must_use]
pub fn rate(fps: f64) -> String {
    if fps < 10.0 { format!("{fps:.1}") } else { count(fps.round() as u64) }
}

/// `1.5 MB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.0} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

/// A folder as people type it; any other URL as it is.
#[must_use]
pub fn place(url: &str) -> String {
    match store::resolve_url(url) {
        Ok(parsed) if parsed.scheme() == "file" => {
            parsed.to_file_path().map_or_else(|()| url.to_owned(), |path| path.display().to_string())
        }
        _ => url.to_owned(),
    }
}

/// Columns as wide as their widest cell, numbers to the right; a heading line and the rows, indented by two.
#[must_use]
pub fn table(columns: &[String], rows: &[Vec<String>]) -> String {
    let cell = |row: &Vec<String>, c: usize| row.get(c).cloned().unwrap_or_default();
    let is_number = |text: &str| text.is_empty() || text.trim_end_matches('%').replace(',', "").parse::<f64>().is_ok();
    let widths: Vec<(usize, bool)> = columns
        .iter()
        .enumerate()
        .map(|(c, name)| {
            let width = rows.iter().map(|row| cell(row, c).chars().count()).max().unwrap_or(0);
            let right =
                rows.iter().all(|row| is_number(&cell(row, c))) && rows.iter().any(|row| !cell(row, c).is_empty());
            (width.max(name.chars().count()), right)
        })
        .collect();
    let mut out = String::new();
    for row in std::iter::once(&columns.to_vec()).chain(rows) {
        let mut line = String::new();
        for (c, (width, right)) in widths.iter().enumerate() {
            let text = cell(row, c);
            line.push_str("  ");
            line.push_str(&if *right { format!("{text:>width$}") } else { format!("{text:<width$}") });
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped_and_durations_short() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(plural(1, "match"), "1 match");
        assert_eq!(plural(2_000, "match"), "2,000 matches");
        assert_eq!(plural(0, "shard"), "0 shards");
        assert_eq!(duration(0.84), "0.8 s");
        assert_eq!(duration(59.6), "1 min 00 s");
        assert_eq!(duration(7_500.0), "2 h 05 min");
        assert_eq!(duration(f64::NAN), "0 s");
        assert_eq!(rate(3.1259), "3.1");
        assert_eq!(rate(1_234.5), "1,235");
    }

    #[test]
    fn a_table_lines_up_numbers_to_the_right_and_words_to_the_left() {
        let columns = ["id", "class", "team"].map(str::to_owned);
        let rows = [["7", "person", ""], ["12", "ball", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&columns, &rows), "  id  class   team\n   7  person\n  12  ball\n");
    }
}
