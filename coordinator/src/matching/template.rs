//! Path templates: `{season}/{match}/half{period}_{camera}.mp4` says what a file's path means. Pure text; `matching`
//! calls it for every recording of the archive.

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text(String),
    Field(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Season,
    Match,
    Period,
    Camera,
    Ignore,
}

/// What a path said. Fields that the template does not name are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    pub season: Option<String>,
    pub name: String,
    pub period: Option<u32>,
    pub camera: Option<String>,
}

/// A template that cannot be understood. `at` counts characters from 1.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    #[error("template `{template}`, character {at}: `{{` without `}}`")]
    Unclosed { template: String, at: usize },
    #[error("template `{template}`, character {at}: no field is called `{field}`")]
    UnknownField { template: String, at: usize, field: String },
    #[error("template `{template}`, character {at}: `{field}` stands here a second time")]
    Twice { template: String, at: usize, field: String },
    #[error("template `{template}`, character {at}: two fields without text between them")]
    Adjoining { template: String, at: usize },
    #[error("template `{template}` has no `{{match}}`")]
    NoMatch { template: String },
}

/// Longest period number; keeps the number inside `u32`.
const PERIOD_DIGITS: usize = 6;

impl Template {
    /// # Errors
    /// Where and why the text is not a template.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let own = || template.to_owned();
        let mut tokens: Vec<Token> = Vec::new();
        let mut rest = template;
        while let Some(first) = rest.chars().next() {
            let at = template[..template.len() - rest.len()].chars().count() + 1;
            let (field, name, length) = match first {
                '*' => (Field::Ignore, "*", 1),
                '{' => {
                    let end = rest.find('}').ok_or_else(|| TemplateError::Unclosed { template: own(), at })?;
                    let name = &rest[1..end];
                    let unknown = || TemplateError::UnknownField { template: own(), at, field: name.to_owned() };
                    (Field::named(name).ok_or_else(unknown)?, name, end + 1)
                }
                _ => {
                    let end = rest.find(['{', '*']).unwrap_or(rest.len());
                    tokens.push(Token::Text(rest[..end].to_owned()));
                    rest = &rest[end..];
                    continue;
                }
            };
            if matches!(tokens.last(), Some(Token::Field(_))) {
                return Err(TemplateError::Adjoining { template: own(), at });
            }
            if field != Field::Ignore && tokens.contains(&Token::Field(field)) {
                return Err(TemplateError::Twice { template: own(), at, field: name.to_owned() });
            }
            tokens.push(Token::Field(field));
            rest = &rest[length..];
        }
        if !tokens.contains(&Token::Field(Field::Match)) {
            return Err(TemplateError::NoMatch { template: own() });
        }
        Ok(Self(tokens))
    }

    /// What this path says, or `None` where the template does not fit. Where several readings fit, earlier fields take
    /// as much as they can: `{match}_{camera}` reads `a_b_c` as match `a_b`, camera `c`.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<Fields> {
        let mut walk = Walk { tokens: &self.0, path, fields: Fields::default(), dead: Vec::new() };
        walk.dead.resize(self.0.len() * (path.len() + 1), false);
        walk.from(0, 0).then_some(walk.fields)
    }
}

impl Field {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "season" => Self::Season,
            "match" => Self::Match,
            "period" => Self::Period,
            "camera" => Self::Camera,
            "ignore" => Self::Ignore,
            _ => return None,
        })
    }
}

/// Backtracking search that never tries a (token, position) pair twice, so hostile paths cost no more than their length
/// squared.
struct Walk<'a> {
    tokens: &'a [Token],
    path: &'a str,
    fields: Fields,
    dead: Vec<bool>,
}

impl Walk<'_> {
    fn from(&mut self, token: usize, at: usize) -> bool {
        let rest = &self.path[at..];
        let Some(next) = self.tokens.get(token) else { return rest.is_empty() };
        let here = token * (self.path.len() + 1) + at;
        if self.dead[here] {
            return false;
        }
        let found = match next {
            Token::Text(text) => rest.starts_with(text.as_str()) && self.from(token + 1, at + text.len()),
            Token::Field(field) => {
                let longest = rest.find(|c| !field.allows(c)).unwrap_or(rest.len());
                let ends = (1..=longest).rev().filter(|end| rest.is_char_boundary(*end));
                ends.into_iter().any(|end| self.from(token + 1, at + end) && self.take(*field, &rest[..end]))
            }
        };
        self.dead[here] = !found;
        found
    }

    fn take(&mut self, field: Field, value: &str) -> bool {
        let text = || Some(value.to_owned());
        match field {
            Field::Season => self.fields.season = text(),
            Field::Match => self.fields.name = value.to_owned(),
            Field::Camera => self.fields.camera = text(),
            Field::Ignore => {}
            Field::Period => match value.parse() {
                Ok(period) if period > 0 && value.len() <= PERIOD_DIGITS => self.fields.period = Some(period),
                _ => return false,
            },
        }
        true
    }
}

impl Field {
    fn allows(self, c: char) -> bool {
        if self == Self::Period { c.is_ascii_digit() } else { c != '/' }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(template: &str, path: &str) -> Option<Fields> {
        Template::parse(template).unwrap().read(path)
    }

    #[test]
    fn a_template_reads_season_match_period_and_camera_from_a_path() {
        let fields = read("{season}/{match}/half{period}_{camera}.mp4", "2023-24/ars-che/half2_left.mp4").unwrap();
        let expected = Fields {
            season: Some("2023-24".into()),
            name: "ars-che".into(),
            period: Some(2),
            camera: Some("left".into()),
        };
        assert_eq!(fields, expected);
    }

    #[test]
    fn earlier_fields_take_as_much_as_they_can_and_none_crosses_a_slash() {
        let fields = read("{match}_{camera}.mp4", "a_b_c.mp4").unwrap();
        assert_eq!((fields.name.as_str(), fields.camera.as_deref()), ("a_b", Some("c")));
        assert_eq!(read("{match}.mp4", "a/b.mp4"), None);
        assert_eq!(read("*/{match}.mp4", "x/b.mp4").unwrap().name, "b");
        assert_eq!(read("{match}.mp4", ".mp4"), None, "a field takes at least one character");
    }

    #[test]
    fn a_period_is_a_number_from_one() {
        assert_eq!(read("{match}-{period}.ts", "m-0.ts"), None);
        assert_eq!(read("{match}-{period}.ts", "m-x.ts"), None);
        assert_eq!(read("{match}-{period}.ts", "m-2.ts").unwrap().period, Some(2));
        assert_eq!(read("{match}-{period}.ts", "m-99999999999.ts"), None);
    }

    #[test]
    fn a_bad_template_is_refused_with_its_position() {
        let error = |template: &str| Template::parse(template).unwrap_err().to_string();
        assert_eq!(error("é/{match"), "template `é/{match`, character 3: `{` without `}`");
        assert_eq!(error("{match}/{team}"), "template `{match}/{team}`, character 9: no field is called `team`");
        assert!(error("{match}{period}").contains("character 8: two fields"));
        assert!(error("{match}-{match}").contains("a second time"));
        assert!(error("{season}.mp4").contains("no `{match}`"));
    }

    proptest! {
        #[test]
        fn what_a_template_wrote_it_reads_back(
            season in "[a-z0-9]{1,8}", name in "[a-zé ]{1,8}", period in 1_u32..9999, camera in "[a-z]{1,6}"
        ) {
            let path = format!("{season}/{name}/h{period}-{camera}.mkv");
            let fields = read("{season}/{match}/h{period}-{camera}.mkv", &path).unwrap();
            prop_assert_eq!(fields, Fields { season: Some(season), name, period: Some(period), camera: Some(camera) });
        }

        #[test]
        fn no_path_makes_reading_slow_or_panics(path in "[ab_/.é]{0,200}") {
            let _ = read("{season}_{match}_{camera}_*_{ignore}.a", &path);
        }
    }
}
