//! What the user knows beforehand: the squads and the pitch file that a job file names, read and checked.

use std::path::Path;

use fulltime_common::{
    error::{Exit, Explain},
    pitch::{Pitch, PitchFault, PitchFile},
    spec::{Given, JobSpec},
    squads::{SquadFault, Squads},
};

use crate::document::{Document, DocumentError, Place};

/// A file that says what cannot be.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    #[error(transparent)]
    File(#[from] DocumentError),
    #[error("{place}: {fault}")]
    Squads { place: Place, fault: SquadFault },
    #[error("{place}: {fault}")]
    Pitch { place: Place, fault: PitchFault },
}

impl Explain for GivenError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::File(error) => error.hint(),
            Self::Squads { .. } => Some("correct the squads file; `fulltime schema squads` describes it".to_owned()),
            Self::Pitch { .. } => Some("correct the pitch file; `fulltime schema pitch` describes it".to_owned()),
        }
    }
}

/// Reads the files that the job names; nothing where it names none.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn read(folder: &Path, spec: &JobSpec) -> Result<Given, GivenError> {
    let squads = match &spec.squads {
        None => Squads::default(),
        Some(path) => squads(&Document::read("squads file", &folder.join(path))?)?,
    };
    let pitch = match &spec.pitch {
        None => Pitch::default(),
        Some(path) => pitch(&Document::read("pitch file", &folder.join(path))?)?,
    };
    Ok(Given { squads, pitch })
}

fn squads(document: &Document) -> Result<Squads, GivenError> {
    let squads: Squads = document.parse("squads file")?;
    match squads.check() {
        Ok(()) => Ok(squads),
        Err(fault) => {
            let place = document.place_of_text(match &fault {
                SquadFault::Number { team, .. } | SquadFault::Twice { team, .. } | SquadFault::Role { team, .. } => {
                    team
                }
                SquadFault::OneName { name, .. } => name,
                SquadFault::Teams { .. } | SquadFault::NoName { .. } => "[[match]]",
            });
            Err(GivenError::Squads { place, fault })
        }
    }
}

fn pitch(document: &Document) -> Result<Pitch, GivenError> {
    let file: PitchFile = document.parse("pitch file")?;
    file.resolve().map_err(|fault| {
        let place = match &fault {
            PitchFault::Side { side, .. } => document.place(&[side]),
            PitchFault::Points { view, .. }
            | PitchFault::Both { view }
            | PitchFault::NotFinite { view }
            | PitchFault::Singular { view }
            | PitchFault::Degenerate { view } => document.place_of_nth("[[view]]", *view),
        };
        GivenError::Pitch { place, fault }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(squads: Option<&str>, pitch: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let mut spec: JobSpec = toml::from_str("archive = \"a\"\nout = \"o\"\npipeline = \"p\"\n").unwrap();
        for (name, text, place) in [("s.toml", squads, &mut spec.squads), ("p.toml", pitch, &mut spec.pitch)] {
            if let Some(text) = text {
                std::fs::write(dir.path().join(name), text).unwrap();
                *place = Some(name.into());
            }
        }
        let error = read(dir.path(), &spec).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.hint().is_some());
        error.to_string().rsplit('/').next().unwrap_or_default().to_owned()
    }

    #[test]
    fn faults_in_both_files_have_a_place() {
        let twice = "[[match]]\n[[match.team]]\nname = \"Home\"\nplayer = [{ number = 4 }, { number = 4 }]\n";
        assert_eq!(fault(Some(twice), None), "s.toml:3:9: team `Home` has number 4 twice");
        assert!(fault(Some("[[match]]\nteams = 3\n"), None).starts_with("s.toml:2:1: unknown field"));
        let views = "length = 100\n[[view]]\nhomography = [1, 0, 0, 0, 1, 0, 0, 0, 1]\n[[view]]\n";
        assert!(fault(None, Some(views)).starts_with("p.toml:4:1: view 2 has 0 points"));
        assert!(fault(None, Some("width = 3\n")).starts_with("p.toml:1:1: `width` is 3"));
    }
}
