//! The pages of one job and of one match, as HTML. What they say is there without their script; the script moves through
//! the pictures and sends decisions.

use std::fmt::{self, Write as _};

use fulltime_tables::matches::Player;

use super::gallery::{Album, Season};
use crate::report::text::{Esc, count, counted, duration};

fn page(title: &str, up: &str, body: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let title = Esc(title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{title} · fulltime</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"/dashboard.css\">\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\n<header>\n<h1>{title}</h1>\n<nav aria-label=\"Up\">{up}</nav>\n\
         </header>\n<main id=\"main\" tabindex=\"-1\">\n"
    );
    // A string takes everything.
    let _ = body(&mut out);
    out.push_str("</main>\n<script src=\"/viewer.js\"></script>\n</body>\n</html>\n");
    out
}

/// A job: what was given up, with a button to try it again, and its matches.
pub(super) fn season(season: &Season) -> String {
    let job = Esc(&season.job);
    page(&season.job, "<a href=\"/\">All jobs</a>", |out| {
        writeln!(out, "<section aria-labelledby=\"lost\"><h2 id=\"lost\">Given up</h2>")?;
        if season.given_up.is_empty() {
            let none = if season.finished > 0 { "Nothing." } else { "Nothing is told before the job has finished." };
            writeln!(out, "<p class=\"soft\">{none}</p>")?;
        } else {
            writeln!(out, "<ul class=\"problems\">")?;
            for lost in &season.given_up {
                writeln!(out, "<li>{}</li>", Esc(lost))?;
            }
            writeln!(
                out,
                "</ul>\n<p class=\"buttons\"><button type=\"button\" data-job=\"{job}\" data-decide=\"retry\">Try these again</button></p>"
            )?;
        }
        writeln!(out, "<p id=\"said\" role=\"status\" class=\"soft\"></p></section>")?;
        writeln!(out, "<section aria-labelledby=\"matches\"><h2 id=\"matches\">Matches</h2>\n<ul class=\"gallery\">")?;
        for id in &season.matches {
            let slug = id.slug();
            if season.done.contains(&slug) {
                let href = format!("/jobs/{}/matches/{slug}", season.job);
                writeln!(
                    out,
                    "<li><a href=\"{0}\"><img src=\"/api{0}/cover\" alt=\"\" loading=\"lazy\">{1}</a></li>",
                    Esc(href),
                    Esc(id)
                )?;
            } else {
                writeln!(out, "<li class=\"soft\">{}: no tables</li>", Esc(id))?;
            }
        }
        writeln!(out, "</ul></section>")
    })
}

/// A match: the viewer and who was seen.
pub(super) fn album(album: &Album) -> String {
    let title = album.summary.id.to_string();
    let up = format!("<a href=\"/\">All jobs</a> <a href=\"/jobs/{0}\">{0}</a>", Esc(&album.job));
    page(&title, &up, |out| {
        let summary = &album.summary;
        let figures = [
            counted(summary.frames, "frame", "frames"),
            format!("{} in gaps", count(summary.gap_frames)),
            counted(summary.detections, "detection", "detections"),
            counted(summary.tracks, "track", "tracks"),
            counted(summary.players, "person", "people"),
        ];
        let figures: String = figures.iter().map(|figure| format!("<span>{figure}</span>")).collect();
        writeln!(out, "<div class=\"figures soft\">{figures}</div>")?;
        let api = format!("/api/jobs/{}/matches/{}", album.job, album.slug);
        writeln!(out, "<section id=\"viewer\" aria-label=\"Pictures\" data-api=\"{}\">", Esc(api))?;
        if album.recordings.iter().all(|footage| footage.pictures.is_empty()) {
            writeln!(
                out,
                "<p class=\"soft\">No pictures were kept: the pipeline's previews are off, or all was given up.</p></section>"
            )?;
        } else {
            write!(out, "<label for=\"recording\">Recording</label> <select id=\"recording\">")?;
            for (at, footage) in album.recordings.iter().enumerate().filter(|(_, f)| !f.pictures.is_empty()) {
                let (period, camera) = (footage.period(), Esc(footage.camera()));
                write!(out, "<option value=\"{at}\">period {period}, {camera}: {}</option>", Esc(footage.key()))?;
            }
            writeln!(
                out,
                "</select>\n<div class=\"stage\"><svg id=\"picture\" role=\"img\" aria-label=\"No picture yet\"></svg></div>\n\
                 <div class=\"scrub\"><button type=\"button\" id=\"back\" aria-label=\"Picture before\">◀</button>\
                 <input type=\"range\" id=\"scrub\" min=\"0\" value=\"0\" aria-label=\"Time\">\
                 <button type=\"button\" id=\"on\" aria-label=\"Next picture\">▶</button></div>\n\
                 <p class=\"row\"><span id=\"moment\" role=\"status\"></span><span class=\"soft\">Arrow keys: one picture; Page keys: ten; \
                 swipe the picture</span></p>\n\
                 <svg id=\"pitch\" viewBox=\"-55 -37 110 74\" role=\"img\" aria-label=\"Places on the pitch\" hidden></svg>"
            )?;
            writeln!(
                out,
                "<noscript><p>Moving through the pictures needs the page's script.</p></noscript></section>"
            )?;
        }
        people(out, &album.players)
    })
}

/// Teams by name, then numbers; what is unknown comes last and is called so.
fn people(out: &mut String, players: &[Player]) -> fmt::Result {
    writeln!(out, "<section aria-labelledby=\"people\"><h2 id=\"people\">People</h2>")?;
    if players.is_empty() {
        return writeln!(out, "<p class=\"soft\">Nobody was seen for long enough.</p></section>");
    }
    let mut order: Vec<&Player> = players.iter().collect();
    order.sort_by_key(|p| (p.team.is_none(), p.team.clone(), p.number.is_none(), p.number, p.player_id));
    writeln!(
        out,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"people\"><table>\n<thead><tr><th scope=\"col\">show</th>\
         <th scope=\"col\">team</th><th scope=\"col\">number</th><th scope=\"col\">role</th><th scope=\"col\">name</th>\
         <th scope=\"col\">seen</th></tr></thead>\n<tbody>"
    )?;
    let unknown = || "unknown".to_owned();
    for p in order {
        let text = |value: Option<&str>| value.map_or_else(unknown, |value| Esc(value).to_string());
        let number = p.number.map_or_else(unknown, |number| number.to_string());
        writeln!(
            out,
            "<tr><td><button type=\"button\" data-player=\"{0}\" aria-pressed=\"false\">id {0}</button></td><td>{1}</td><td>{number}</td>\
             <td>{2}</td><td>{3}</td><td>{4}</td></tr>",
            p.player_id,
            text(p.team.as_deref()),
            text(p.role.as_deref()),
            text(p.name.as_deref()),
            duration(p.visible)
        )?;
    }
    writeln!(out, "</tbody></table></div></section>")
}

#[cfg(test)]
mod tests {
    use fulltime_common::plan::MatchId;

    use super::*;
    use crate::manifest::Quarantined;

    fn player(player_id: i32, team: Option<&str>, number: Option<i32>) -> Player {
        Player { player_id, team: team.map(Into::into), number, ..Player::default() }
    }

    #[test]
    fn what_is_not_known_of_people_is_called_unknown_and_comes_last() {
        let mut out = String::new();
        people(&mut out, &[player(1, None, None), player(2, Some("<B>"), Some(9)), player(3, Some("<B>"), Some(4))])
            .unwrap();
        let order: Vec<_> = [3, 2, 1].iter().map(|id| out.find(&format!("data-player=\"{id}\"")).unwrap()).collect();
        assert!(order.is_sorted(), "{out}");
        assert!(out.contains("&lt;B&gt;") && out.contains("<td>unknown</td><td>unknown</td>"), "{out}");
    }

    #[test]
    fn a_season_links_what_can_be_seen_and_lets_what_was_given_up_be_tried_again() {
        let id = |name: &str| MatchId { season: "2024".into(), name: name.into() };
        let lost = Quarantined { id: id("b"), recording: None, frames: None, reason: "no <video>".into() };
        let shown = Season {
            job: "j-1".into(),
            finished: 1,
            matches: vec![id("a b"), id("b")],
            done: [id("a b").slug()].into(),
            given_up: vec![lost],
        };
        let page = season(&shown);
        assert!(page.contains("href=\"/jobs/j-1/matches/2024~a%20b\""), "{page}");
        assert!(page.contains("data-decide=\"retry\"") && page.contains("no &lt;video&gt;"), "{page}");
        assert!(!season(&Season { given_up: vec![], ..shown }).contains("data-decide"));
    }
}
