//! The people of a match on its card: teams, numbers, names, and how far they ran where positions are known.

use std::fmt::{self, Write as _};

use fulltime_common::results::PersonSummary;

use super::text::{Esc, duration};

/// Rows that are shown; the table of players has all of them.
const SHOWN: usize = 60;

/// A table that opens on demand; nothing where nothing is known of anybody.
pub fn people(out: &mut String, people: &[PersonSummary]) -> fmt::Result {
    if people.is_empty() {
        return Ok(());
    }
    let mut order: Vec<&PersonSummary> = people.iter().collect();
    // Teams by name, people without one last; then by number, unknown ones last.
    order.sort_by_key(|p| (p.team.is_none(), &p.team, p.number.is_none(), p.number, p.player_id));
    let numbered = people.iter().filter(|person| person.number.is_some()).count();
    let run = people.iter().any(|person| person.distance.is_some());
    writeln!(out, "<details><summary>{} people known, {numbered} by number</summary>", people.len())?;
    write!(out, "<div class=\"scroll\"><table>\n<thead><tr><th>team</th><th>number</th><th>role</th><th>seen</th>")?;
    writeln!(out, "{}</tr></thead>\n<tbody>", if run { "<th>ran</th><th>top speed</th>" } else { "" })?;
    for person in order.iter().take(SHOWN) {
        let team = person.team.as_deref().unwrap_or("–");
        let number = person.number.map_or("–".to_owned(), |number| number.to_string());
        write!(out, "<tr><td>{}", Esc(team))?;
        if let Some(name) = &person.name {
            write!(out, "<small>{}</small>", Esc(name))?;
        }
        let role = person.role.as_deref().unwrap_or("–");
        write!(out, "</td><td>{number}</td><td>{}</td><td>{}</td>", Esc(role), duration(person.visible))?;
        if run {
            let metres = person.distance.map_or("–".to_owned(), |metres| format!("{metres:.0} m"));
            let speed = person.top_speed.map_or("–".to_owned(), |speed| format!("{speed:.1} m/s"));
            write!(out, "<td>{metres}</td><td>{speed}</td>")?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div>")?;
    if order.len() > SHOWN {
        writeln!(out, "<p class=\"soft\">and {} more in the table of players</p>", order.len() - SHOWN)?;
    }
    writeln!(out, "</details>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(player_id: i32, team: Option<&str>, number: Option<i32>) -> PersonSummary {
        PersonSummary {
            player_id,
            team: team.map(str::to_owned),
            number,
            role: Some("player".into()),
            name: number.map(|n| format!("N. {n} <b>")),
            visible: 61.0,
            distance: number.map(|n| n as f32 * 10.0),
            top_speed: None,
        }
    }

    #[test]
    fn teams_and_numbers_are_in_order_and_the_unknown_last() {
        let mut out = String::new();
        let all = [
            person(1, None, None),
            person(2, Some("B"), Some(9)),
            person(3, Some("A"), None),
            person(4, Some("A"), Some(4)),
        ];
        people(&mut out, &all).unwrap();
        let at = |text: &str| out.find(text).unwrap_or_else(|| panic!("no {text} in {out}"));
        assert!(
            at("<td>A<small>N. 4") < at("<td>A</td>")
                && at("<td>A</td>") < at("<td>B<")
                && at("<td>B<") < at("<tr><td>–</td><td>–</td>")
        );
        assert!(out.contains("4 people known, 2 by number") && out.contains("40 m") && out.contains("&lt;b"));
        let mut nothing = String::new();
        people(&mut nothing, &[]).unwrap();
        assert!(nothing.is_empty());
    }
}
