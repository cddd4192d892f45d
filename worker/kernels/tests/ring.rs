//! The ring's state machine against a device that does nothing but reorder: streams run their work in order and wait for
//! events as real ones do; which stream goes on next, when the host hears of it, and when it fills and takes is chance.

#![allow(clippy::unwrap_used)] // Helpers of tests may, too.

use std::collections::VecDeque;

use fulltime_kernels::{Event, FIVE_STREAMS, Ring, RingError, RingOptions, Stage, Step, Streams, THREE_STREAMS};
use proptest::prelude::*;

/// Streams without a device.
struct Fake {
    /// Issued and not yet run, per stream.
    queues: Vec<VecDeque<Step>>,
    /// Run, and not yet told, per stream.
    untold: Vec<VecDeque<(u64, Stage)>>,
    /// What ran, in the order in which it did.
    ran: Vec<Step>,
    /// Per slot: the batch and stage whose event was recorded last, and whether it has passed.
    events: Vec<[Option<(u64, bool)>; 5]>,
}

impl Fake {
    fn new(slots: usize, streams: &Streams) -> Self {
        let count = streams.iter().max().unwrap() + 1;
        Self {
            queues: vec![VecDeque::new(); count],
            untold: vec![VecDeque::new(); count],
            ran: Vec::new(),
            events: vec![[None; 5]; slots],
        }
    }

    fn issue(&mut self, step: Step) {
        self.events[step.slot][step.stage as usize] = Some((step.batch, false));
        self.queues[step.stream].push_back(step);
    }

    fn may_run(&self, stream: usize) -> bool {
        // A wait is for what was recorded when it was issued: the same batch's, since its slot is not reused before.
        self.queues[stream].front().is_some_and(|step| {
            step.after.is_none_or(|after| self.events[step.slot][after as usize].is_some_and(|(_, passed)| passed))
        })
    }

    fn run(&mut self, stream: usize) {
        let step = self.queues[stream].pop_front().unwrap();
        self.events[step.slot][step.stage as usize] = Some((step.batch, true));
        self.untold[stream].push_back((step.batch, step.stage));
        self.ran.push(step);
    }
}

#[derive(Debug)]
struct Story {
    taken: Vec<u64>,
    ran: Vec<Step>,
    /// Most batches that were on their way at once.
    most: usize,
}

/// Sends `batches` through; `dice` decides everything that is left open.
fn play(options: RingOptions, batches: u64, dice: &mut impl FnMut(usize) -> usize) -> Story {
    let mut ring = Ring::new(options);
    let mut fake = Fake::new(options.slots, &options.streams);
    let (mut filled, mut taken, mut most) = (0, Vec::new(), 0);
    // What a slot holds, as the host knows it.
    let mut holds: Vec<Option<u64>> = vec![None; options.slots];
    while (taken.len() as u64) < batches {
        // Everything that could happen next.
        let mut moves: Vec<(u8, usize)> = Vec::new();
        if filled < batches && ring.free().is_some() {
            moves.push((0, 0));
        }
        if ring.next().is_some() {
            moves.push((1, 0));
        }
        moves.extend((0..fake.queues.len()).filter(|&stream| fake.may_run(stream)).map(|stream| (2, stream)));
        moves
            .extend((0..fake.untold.len()).filter(|&stream| !fake.untold[stream].is_empty()).map(|stream| (3, stream)));
        if ring.done().is_some() {
            moves.push((4, 0));
        }
        assert!(!moves.is_empty(), "nothing can happen any more: {ring:?}");
        match moves[dice(moves.len())] {
            (0, _) => {
                let (batch, slot) = ring.free().unwrap();
                assert_eq!(batch, filled);
                assert_eq!(holds[slot], None, "a slot is filled while its batch is on its way");
                holds[slot] = Some(batch);
                ring.on(Event::Filled).unwrap();
                filled += 1;
            }
            (1, _) => {
                let step = ring.next().unwrap();
                assert_eq!(holds[step.slot], Some(step.batch));
                if options.on_host == Some(step.stage) {
                    let before = Stage::ALL[step.stage as usize - 1];
                    assert_eq!(fake.events[step.slot][before as usize], Some((step.batch, true)), "{step:?}");
                }
                fake.issue(step);
                ring.on(Event::Issued { batch: step.batch, stage: step.stage }).unwrap();
            }
            (2, stream) => fake.run(stream),
            (3, stream) => {
                let (batch, stage) = fake.untold[stream].pop_front().unwrap();
                ring.on(Event::Completed { batch, stage }).unwrap();
            }
            _ => {
                let (batch, slot) = ring.done().unwrap();
                assert_eq!(fake.events[slot], [Some((batch, true)); 5], "taken before it was finished");
                holds[slot] = None;
                ring.on(Event::Taken).unwrap();
                taken.push(batch);
            }
        }
        most = most.max(ring.in_flight());
    }
    assert!(ring.next().is_none() && ring.in_flight() == 0);
    Story { taken, ran: fake.ran, most }
}

fn options() -> impl Strategy<Value = RingOptions> {
    let streams = prop_oneof![
        Just(THREE_STREAMS),
        Just(FIVE_STREAMS),
        Just([0; 5]),
        // Whatever else somebody may come up with.
        prop::array::uniform5(0_usize..4),
    ];
    let on_host = prop::option::of(prop::sample::select(vec![Stage::Preprocess, Stage::Infer, Stage::Postprocess]));
    (1_usize..6, streams, on_host).prop_map(|(slots, streams, on_host)| RingOptions { slots, streams, on_host })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_batch_passes_every_stage_once_in_order_whatever_completes_first(
        options in options(), batches in 0_u64..25, seed in any::<u64>(),
    ) {
        let mut state = seed | 1;
        let mut dice = |sides: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % sides as u64) as usize
        };
        let story = play(options, batches, &mut dice);
        prop_assert_eq!(&story.taken, &(0..batches).collect::<Vec<_>>());
        prop_assert!(story.most <= options.slots);
        for batch in 0..batches {
            let own: Vec<Stage> = story.ran.iter().filter(|step| step.batch == batch).map(|step| step.stage).collect();
            prop_assert_eq!(own, Stage::ALL);
        }
        // Within a stage no batch overtakes another.
        for stage in Stage::ALL {
            let order: Vec<u64> = story.ran.iter().filter(|step| step.stage == stage).map(|step| step.batch).collect();
            prop_assert!(order.is_sorted());
        }
        for step in &story.ran {
            prop_assert_eq!(step.stream, options.streams[step.stage as usize]);
        }
    }

    #[test]
    fn what_cannot_have_happened_is_refused_and_changes_nothing(
        options in options(), batch in 0_u64..3, stage in prop::sample::select(Stage::ALL.to_vec()),
    ) {
        let mut ring = Ring::new(options);
        prop_assert_eq!(ring.on(Event::Taken), Err(RingError::NoneDone));
        prop_assert_eq!(ring.on(Event::Completed { batch, stage }), Err(RingError::NeverIssued { batch, stage }));
        prop_assert_eq!(ring.on(Event::Issued { batch, stage }), Err(RingError::OutOfTurn { batch, stage }));
        for _ in 0..options.slots {
            ring.on(Event::Filled).unwrap();
        }
        prop_assert_eq!(ring.on(Event::Filled), Err(RingError::NoneFree));
        let due = ring.next().unwrap();
        if (batch, stage) != (due.batch, due.stage) {
            prop_assert_eq!(ring.on(Event::Issued { batch, stage }), Err(RingError::OutOfTurn { batch, stage }));
        }
        prop_assert_eq!(ring.next(), Some(due));
    }
}

#[test]
fn a_batch_is_issued_to_its_end_before_the_host_hears_of_anything() {
    let mut ring = Ring::new(RingOptions { slots: 2, streams: THREE_STREAMS, on_host: None });
    ring.on(Event::Filled).unwrap();
    let mut steps = Vec::new();
    while let Some(step) = ring.next() {
        ring.on(Event::Issued { batch: step.batch, stage: step.stage }).unwrap();
        steps.push((step.stage, step.stream, step.after));
    }
    // Within a stream its order does; across streams an event is waited for.
    assert_eq!(
        steps,
        [
            (Stage::CopyIn, 0, None),
            (Stage::Preprocess, 1, Some(Stage::CopyIn)),
            (Stage::Infer, 1, None),
            (Stage::Postprocess, 1, None),
            (Stage::CopyOut, 2, Some(Stage::Postprocess)),
        ]
    );
    assert_eq!(ring.awaited(), Some((0, Stage::CopyOut)));
}

#[test]
fn while_an_engine_on_the_host_waits_the_next_batches_are_copied_and_prepared() {
    let mut ring = Ring::new(RingOptions { slots: 3, streams: THREE_STREAMS, on_host: Some(Stage::Infer) });
    let mut issued = Vec::new();
    for _ in 0..3 {
        ring.on(Event::Filled).unwrap();
    }
    while let Some(step) = ring.next() {
        ring.on(Event::Issued { batch: step.batch, stage: step.stage }).unwrap();
        issued.push((step.batch, step.stage));
    }
    let both = |batch| [(batch, Stage::CopyIn), (batch, Stage::Preprocess)];
    assert_eq!(issued, [both(0), both(1), both(2)].concat());
    assert_eq!(ring.awaited(), Some((0, Stage::Preprocess)));
    // The second batch may not overtake the first.
    ring.on(Event::Completed { batch: 1, stage: Stage::Preprocess }).unwrap();
    assert_eq!(ring.next(), None);
    ring.on(Event::Completed { batch: 0, stage: Stage::Preprocess }).unwrap();
    assert_eq!(ring.next().map(|step| (step.batch, step.stage)), Some((0, Stage::Infer)));
}

#[test]
fn what_is_told_late_of_a_slot_s_last_batch_is_not_taken_for_the_next_one() {
    let options = RingOptions { slots: 1, streams: FIVE_STREAMS, on_host: Some(Stage::Infer) };
    let mut ring = Ring::new(options);
    let issue_all = |ring: &mut Ring| {
        while let Some(step) = ring.next() {
            ring.on(Event::Issued { batch: step.batch, stage: step.stage }).unwrap();
        }
    };
    ring.on(Event::Filled).unwrap();
    issue_all(&mut ring);
    ring.on(Event::Completed { batch: 0, stage: Stage::Preprocess }).unwrap();
    issue_all(&mut ring);
    ring.on(Event::Completed { batch: 0, stage: Stage::CopyOut }).unwrap();
    ring.on(Event::Taken).unwrap();
    ring.on(Event::Filled).unwrap();
    issue_all(&mut ring);
    // Copying in of batch 0 is told only now: nothing is known of batch 1 by it.
    ring.on(Event::Completed { batch: 0, stage: Stage::Infer }).unwrap();
    assert_eq!(ring.next(), None, "batch 1 has not been prepared");
}
