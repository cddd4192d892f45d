//! Squad lists: who may be on the pitch, as far as the user knows. The file that people write, and what a reduce gets of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::MatchId;

/// A squads file (TOML).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Squads {
    /// A match gets the first entry that fits it.
    #[serde(default, rename = "match")]
    pub matches: Vec<MatchSquads>,
}

/// `[[match]]`: the squads of one match, or of all that fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchSquads {
    /// Default: any season.
    #[serde(default)]
    pub season: Option<String>,
    /// Default: any match.
    #[serde(default, rename = "match")]
    pub name: Option<String>,
    /// One team or two; which of them wears which kit is found out.
    #[serde(rename = "team")]
    pub teams: Vec<TeamSheet>,
}

/// `[[match.team]]`: a team and its players.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamSheet {
    pub name: String,
    /// The players' shirts in this match, `#rrggbb`: helps where the numbers do not tell the teams apart.
    #[serde(default, with = "hex", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub colour: Option<[u8; 3]>,
    #[serde(default, rename = "player")]
    pub players: Vec<SheetPlayer>,
}

/// `[[match.team.player]]`: one player. Numbers are unique in a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SheetPlayer {
    /// 0 to 99.
    pub number: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `player` or `goalkeeper`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// What is wrong with a squads file that has the right form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SquadFault {
    #[error("entry {entry} has {count} teams; a match has one or two")]
    Teams { entry: usize, count: usize },
    #[error("team `{team}` has number {number}; numbers go from 0 to 99")]
    Number { team: String, number: u8 },
    #[error("team `{team}` has number {number} twice")]
    Twice { team: String, number: u8 },
    #[error("both teams of entry {entry} are called `{name}`")]
    OneName { entry: usize, name: String },
    #[error("a team of entry {entry} has no name")]
    NoName { entry: usize },
    #[error("number {number} of team `{team}` is a `{role}`; roles are `player` and `goalkeeper`")]
    Role { team: String, number: u8, role: String },
}

impl Squads {
    /// The first thing wrong; entries are counted from 1.
    ///
    /// # Errors
    /// What the types cannot say.
    pub fn check(&self) -> Result<(), SquadFault> {
        for (entry, squads) in self.matches.iter().enumerate().map(|(i, squads)| (i + 1, squads)) {
            match &squads.teams[..] {
                [a, b] if a.name == b.name => return Err(SquadFault::OneName { entry, name: a.name.clone() }),
                [_] | [_, _] => {}
                teams => return Err(SquadFault::Teams { entry, count: teams.len() }),
            }
            for sheet in &squads.teams {
                let team = || sheet.name.clone();
                if sheet.name.is_empty() {
                    return Err(SquadFault::NoName { entry });
                }
                for (i, SheetPlayer { number, role, .. }) in sheet.players.iter().enumerate() {
                    let number = *number;
                    if number > 99 {
                        return Err(SquadFault::Number { team: team(), number });
                    }
                    if sheet.players[..i].iter().any(|other| other.number == number) {
                        return Err(SquadFault::Twice { team: team(), number });
                    }
                    if let Some(role) = role.as_ref().filter(|role| !["player", "goalkeeper"].contains(&role.as_str()))
                    {
                        return Err(SquadFault::Role { team: team(), number, role: role.clone() });
                    }
                }
            }
        }
        Ok(())
    }

    /// The lists of a match: none where no entry fits.
    #[must_use]
    pub fn of(&self, id: &MatchId) -> &[TeamSheet] {
        let fits = |given: &Option<String>, own: &str| given.as_ref().is_none_or(|given| given == own);
        let entry = self.matches.iter().find(|m| fits(&m.season, &id.season) && fits(&m.name, &id.name));
        entry.map_or(&[], |entry| &entry.teams)
    }
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[allow(clippy::ref_option, reason = "serde calls it with this")]
    pub fn serialize<S: Serializer>(colour: &Option<[u8; 3]>, serializer: S) -> Result<S::Ok, S::Error> {
        match colour {
            Some([r, g, b]) => serializer.serialize_str(&format!("#{r:02x}{g:02x}{b:02x}")),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 3]>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let number =
            text.strip_prefix('#').filter(|hex| hex.len() == 6).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let Some(number) = number else {
            return Err(D::Error::custom(format!("`{text}` is not a colour: write `#rrggbb`, like `#c81624`")));
        };
        let [_, r, g, b] = number.to_be_bytes();
        Ok(Some([r, g, b]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "[[match]]\nmatch = \"final\"\n[[match.team]]\nname = \"Home\"\ncolour = \"#c81624\"\n\
        player = [{ number = 1, name = \"A. Keeper\", role = \"goalkeeper\" }, { number = 9 }]\n\
        [[match.team]]\nname = \"Away\"\n[[match]]\n[[match.team]]\nname = \"Anybody\"\n";

    fn id(name: &str) -> MatchId {
        MatchId { season: "2024".into(), name: name.into() }
    }

    #[test]
    fn a_match_gets_the_first_entry_that_fits() {
        let squads: Squads = toml::from_str(FILE).unwrap();
        squads.check().unwrap();
        assert_eq!(squads.of(&id("final")).len(), 2);
        assert_eq!(squads.of(&id("final"))[0].colour, Some([200, 22, 36]));
        assert_eq!(squads.of(&id("other"))[0].name, "Anybody");
        assert!(Squads::default().of(&id("final")).is_empty());
        let again: Squads = serde_json::from_str(&serde_json::to_string(&squads).unwrap()).unwrap();
        assert_eq!(again, squads);
    }

    #[test]
    fn lists_that_cannot_be_are_refused_by_name() {
        let squads = |text: &str| toml::from_str::<Squads>(&FILE.replacen("{ number = 9 }", text, 1)).unwrap();
        let fault = |text: &str| squads(text).check().unwrap_err().to_string();
        assert_eq!(fault("{ number = 1 }"), "team `Home` has number 1 twice");
        assert_eq!(fault("{ number = 100 }"), "team `Home` has number 100; numbers go from 0 to 99");
        assert!(fault("{ number = 9, role = \"coach\" }").contains("roles are"));
        let colour = toml::from_str::<Squads>(&FILE.replace("#c81624", "red")).unwrap_err();
        assert!(colour.to_string().contains("write `#rrggbb`"), "{colour}");
    }
}
