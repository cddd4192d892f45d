use std::sync::Arc;

use fulltime_kernels::{Conveyor, Device, FIVE_STREAMS, Frame, Infer, Io, KernelError, Stage, THREE_STREAMS};
use fulltime_kernels_cpu::Processor;

use crate::story::{HEIGHT, OnHost, OnStream, PITCH, WIDTH, check, load, picture, run, standing};

#[test]
fn batches_equal_the_references_whatever_the_slots_and_streams() {
    for slots in 1..=4 {
        for streams in [THREE_STREAMS, FIVE_STREAMS, [0; 5]] {
            let device = Processor::new(5);
            run(&mut Conveyor::new(&device, Box::new(OnStream), load(), standing(slots, streams)).unwrap(), slots);
            run(&mut Conveyor::new(&device, Box::new(OnHost), load(), standing(slots, streams)).unwrap(), slots);
        }
    }
}

#[test]
fn the_timeline_has_every_stage_of_every_batch_after_the_one_before() {
    let device = Processor::new(3);
    let mut conveyor = Conveyor::new(&device, Box::new(OnStream), load(), standing(2, THREE_STREAMS)).unwrap();
    run(&mut conveyor, 2);
    let spans = conveyor.timeline();
    assert_eq!(spans.len(), 8 * Stage::ALL.len());
    for (i, span) in spans.iter().enumerate() {
        assert_eq!((span.batch, span.stage), (i as u64 / 5, Stage::ALL[i % 5]));
        assert!(span.start <= span.end);
        if i % 5 > 0 {
            assert!(spans[i - 1].end <= span.start, "{span:?} began before {:?} had ended", spans[i - 1]);
        }
    }
    // A stream does one thing at a time.
    for stream in 0..3 {
        let mut own: Vec<_> = spans.iter().filter(|span| span.stream == stream).collect();
        own.sort_by_key(|span| span.start);
        assert!(own.windows(2).all(|two| two[0].end <= two[1].start));
    }
}

#[test]
fn pictures_on_the_device_are_used_where_they_are_and_held_until_taken() {
    let device = Processor::new(3);
    let mut conveyor = Conveyor::new(&device, Box::new(OnStream), load(), standing(2, THREE_STREAMS)).unwrap();
    // As a decoder leaves them: each somewhere, with a pitch of its own.
    let surfaces: Arc<Vec<Vec<u8>>> = Arc::new((0..3).map(picture).collect());
    let frames: Vec<Frame> = surfaces
        .iter()
        .map(|surface| {
            let luma = surface.as_ptr() as u64;
            let pairs = luma + (PITCH * HEIGHT as usize) as u64;
            Frame::nv12(luma, pairs, PITCH as i32, [WIDTH as i32, HEIGHT as i32])
        })
        .collect();
    // SAFETY: the surfaces are the processor's memory and held.
    unsafe { conveyor.send_from_device(&frames, Box::new(Arc::clone(&surfaces))) }.unwrap();
    assert_eq!(Arc::strong_count(&surfaces), 2);
    check(&conveyor.take().unwrap().unwrap(), 0, 3);
    assert_eq!(Arc::strong_count(&surfaces), 1, "the decoder gets its surfaces back");
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = Processor::new(2);
    let error = Conveyor::new(&device, Box::new(OnStream), load(), standing(1, THREE_STREAMS)).unwrap_err();
    assert_eq!(error.to_string(), "a device with 2 streams cannot take work for 3");
    let mut conveyor = Conveyor::new(&device, Box::new(OnStream), load(), standing(1, [0, 0, 1, 1, 1])).unwrap();
    assert_eq!(conveyor.send(4).unwrap_err().to_string(), "pictures of a batch: 4, but at most 3");
    conveyor.send(3).unwrap();
    assert!(conveyor.room().is_none());
    assert_eq!(conveyor.send(1).unwrap_err().to_string(), "no slot is free to be filled");
    // Dropped with a batch on its way: the buffers go when the streams are done.
}

#[test]
fn a_device_that_refuses_is_told_on() {
    struct Broken;
    impl Infer for Broken {
        unsafe fn infer(&mut self, _: &dyn Device, stream: usize, _: &Io) -> Result<(), KernelError> {
            Err(KernelError::StreamEnded { stream })
        }
    }
    let device = Processor::new(3);
    let mut conveyor = Conveyor::new(&device, Box::new(Broken), load(), standing(2, THREE_STREAMS)).unwrap();
    let error = conveyor.send(1).unwrap_err();
    assert_eq!(error.to_string(), "the thread of stream 1 has ended");
}
