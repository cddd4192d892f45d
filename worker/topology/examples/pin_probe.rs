//! Plans lanes for this machine, pins itself as one of them, and says what the kernel says about its threads and buffers.
//! Small and static where it is built so: for machines (and guests of tests) that have nothing else.
//!
//! `pin_probe LANES LANE [off]`

use std::process::ExitCode;

use fulltime_topology::{Choice, Machine, Wishes, pin, plan};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().and_then(|argument| argument.parse::<usize>().ok());
    let (Some(lanes), Some(lane)) = (number(), number()) else {
        eprintln!("usage: pin_probe LANES LANE [off]");
        return ExitCode::from(2);
    };
    let wishes = Wishes {
        lanes: Some(lanes),
        gpus: Choice::None,
        pin: arguments.next().as_deref() != Some("off"),
        ..Wishes::default()
    };
    match probe(&wishes, lane) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn probe(wishes: &Wishes, lane: usize) -> std::io::Result<()> {
    let made = plan(&Machine::here()?, wishes);
    let lane = made.lanes.get(lane).ok_or_else(|| std::io::Error::other("there is no such lane"))?;
    match lane.place() {
        Some(place) => println!("place {place}\n{}", pin::pin(&place)),
        None => println!("place none"),
    }
    // A lane's stages, each with a buffer that it touches first.
    let stages: Vec<_> = (0..4).map(|_| std::thread::spawn(|| vec![1_u8; 8 << 20])).collect();
    let threads = pin::threads()?;
    let mut nodes = std::collections::BTreeMap::new();
    for stage in stages {
        let buffer = stage.join().map_err(|_| std::io::Error::other("a stage panicked"))?;
        pin::nodes_of(&buffer)?.into_iter().for_each(|node| *nodes.entry(node).or_insert(0) += 1);
    }
    for (thread, cores) in threads {
        println!("thread {thread} on {cores}");
    }
    for (node, pages) in nodes {
        println!("{pages} pages on node {}", node.map_or_else(|| "none".to_owned(), |node| node.to_string()));
    }
    Ok(())
}
