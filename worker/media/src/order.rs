//! The presentation order of a stream whose container does not tell it (reordered frames in AVI): what only a decoder
//! knows. Used by [`crate::scan`] while it reads the file; it costs decoding the file once.

use fulltime_common::index::Codec;

use crate::{
    codec::{Decoder, Step},
    error::MediaError,
    table::Row,
};

pub(crate) struct PresentationOrder {
    decoder: Decoder,
    /// Rows in the order in which their pictures came out.
    shown: Vec<usize>,
}

impl PresentationOrder {
    pub fn new(codec: &Codec) -> Result<Self, MediaError> {
        // The deepest reordering there is: it delays pictures, which matters to nobody here.
        Ok(Self { decoder: Decoder::new(codec, 16, None)?, shown: Vec::new() })
    }

    pub fn push(&mut self, row: usize, packet: &[u8]) -> Result<(), MediaError> {
        // A damaged packet yields no picture and thus no place; its interval will be a gap.
        self.decoder.send(packet, Some(row as i64))?;
        self.take();
        Ok(())
    }

    fn take(&mut self) {
        loop {
            match self.decoder.receive() {
                Step::Picture { number, .. } => self.shown.extend(number.map(|row| row as usize)),
                Step::Damaged => {}
                Step::Hungry => break,
            }
        }
    }

    /// Gives the rows their presentation times: their decoding times, in order of presentation.
    pub fn apply(mut self, rows: &mut [Row]) {
        self.decoder.drain();
        self.take();
        let mut times: Vec<i64> = self.shown.iter().filter_map(|&row| rows.get(row)?.dts).collect();
        times.sort_unstable();
        rows.iter_mut().for_each(|row| row.pts = None);
        for (row, time) in self.shown.into_iter().zip(times) {
            if let Some(row) = rows.get_mut(row) {
                row.pts.get_or_insert(time);
            }
        }
    }
}
