//! `fulltime topology`: the machine as lanes see it, and the lanes that a worker would run here.

use std::io;

use fulltime_common::{Exit, error::Failure};
use fulltime_topology::{LanePlan, Machine, NVML, Table, Wishes, lanes, machine, plan};

use crate::{
    args::{LaneArgs, TopologyArgs},
    text,
};

impl LaneArgs {
    fn wishes(&self) -> Wishes {
        Wishes {
            lanes: self.lanes.map(usize::from),
            gpus: self.gpus.parse().unwrap_or_else(|never: std::convert::Infallible| match never {}),
            gpus_a_lane: usize::from(self.gpus_a_lane),
            pin: true,
        }
    }

    /// The machine and its plan.
    ///
    /// # Errors
    /// A system without `/sys` or `/proc`, or a recorded tree that is none.
    pub fn look(&self) -> Result<(Machine, LanePlan), Failure> {
        let machine = Machine::read(&self.root, std::env::var_os(NVML)).map_err(|error| self.unreadable(&error))?;
        let plan = plan(&machine, &self.wishes());
        Ok((machine, plan))
    }

    fn unreadable(&self, error: &io::Error) -> Failure {
        let cause = format!("read the processors below `{}`: {error}", self.root.display());
        Failure::new(Exit::Usage, cause, "mount /sys and /proc, or name the folder of a machine recorded with them")
    }
}

/// `fulltime topology`.
///
/// # Errors
/// See [`LaneArgs::look`].
pub fn topology(args: &TopologyArgs) -> Result<Exit, Failure> {
    let (found, plan) = args.lanes.look()?;
    if args.json {
        println!("{}", serde_json::json!({ "machine": found, "plan": plan }));
    } else {
        let tables: Vec<_> = machine(&found).iter().chain([&lanes(&plan)]).map(show).collect();
        print!("{}", tables.join("\n"));
    }
    Ok(Exit::Ok)
}

/// The table with what stands below it. One without rows has only that.
pub fn show(table: &Table) -> String {
    let mut out = String::new();
    if !table.rows.is_empty() {
        let columns: Vec<_> = table.columns.iter().map(|name| (*name).to_owned()).collect();
        out.push_str(&text::table(&columns, &table.rows));
    }
    table.notes.iter().for_each(|note| out.push_str(&format!("  {note}\n")));
    out
}
