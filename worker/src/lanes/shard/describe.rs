//! The last stage of a shard, where the pipeline describes: what the people in some of the frames look like.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::mpsc::Receiver,
    time::Duration,
};

use fulltime_observe::Meter;
use fulltime_tables::shard::DescriptionRow;
use fulltime_vision::{Describer, Description};

use super::{clock::Stage, infer::Found, prepare::RECENT};
use crate::{attempt::Attempt, error::TaskError, lanes::picture::NoColour};

#[derive(Default)]
pub struct Described {
    pub rows: Vec<DescriptionRow>,
    pub busy: Duration,
}

/// Works until there are no frames any more, or the attempt is halted. Without a describer there is nothing to do.
pub fn describe(
    describer: Option<&mut Describer>,
    frames: Receiver<Found>,
    attempt: &Attempt,
    meter: &Meter,
) -> Result<Described, TaskError> {
    let Some(describer) = describer else { return Ok(Described::default()) };
    let mut stage = Stage::start(meter, "describe");
    let mut no_colour = NoColour::default();
    let mut said: BTreeMap<u32, Vec<Description>> = BTreeMap::new();
    // Every described frame, and the one whose picture it shows: each picture is described once.
    let mut sources: Vec<(u32, u32)> = Vec::new();
    let mut recent: VecDeque<(u32, u32)> = VecDeque::new();
    for Found { frame, inferred, picture, detections } in frames {
        let known = recent.iter().find(|(of, _)| *of == inferred).map(|&(_, source)| source);
        sources.push((frame, known.unwrap_or(frame)));
        if known.is_some() {
            continue;
        }
        recent.truncate(RECENT - 1);
        recent.push_front((inferred, frame));
        stage.begin();
        if describer.add(frame, &no_colour.view(&picture), &detections)? >= describer.preferred_batch() {
            collect(&mut said, describer)?;
            attempt.beat();
        }
        stage.done();
        if attempt.is_halted() {
            break;
        }
    }
    stage.begin();
    collect(&mut said, describer)?;
    stage.done();
    let rows_of = |&(frame, source): &(u32, u32)| {
        let people = said.get(&source).map(Vec::as_slice).unwrap_or_default();
        people.iter().map(move |person| row(frame, person))
    };
    Ok(Described { rows: sources.iter().flat_map(rows_of).collect(), busy: stage.total.cpu })
}

fn collect(said: &mut BTreeMap<u32, Vec<Description>>, describer: &mut Describer) -> Result<(), TaskError> {
    for (frame, person) in describer.finish()? {
        said.entry(frame).or_default().push(person);
    }
    Ok(())
}

fn row(frame: u32, person: &Description) -> DescriptionRow {
    let Description { detection, look, kit, numbers, sharpness } = person.clone();
    DescriptionRow { frame, detection, look, kit, numbers, sharpness }
}
