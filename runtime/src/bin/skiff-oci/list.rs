//! `list`.

use anyhow::Result;
use serde_json::Value;

use crate::args::{self, Format};
use crate::record::Root;
use crate::{state, sys};

/// Prints all containers.
pub(crate) fn run(root: &Root, args: &args::List) -> Result<()> {
    let records = root.all()?;
    if args.quiet {
        let ids: String = records
            .iter()
            .map(|record| format!("{}\n", record.id))
            .collect();
        return sys::print(&ids);
    }
    let states = records.iter().map(state::of).collect::<Result<Vec<_>>>()?;
    if args.format == Format::Json {
        return sys::print(&format!("{}\n", Value::Array(states)));
    }
    let mut text = format!(
        "{:<24} {:>8} {:<9} {:<32} CREATED\n",
        "ID", "PID", "STATUS", "BUNDLE"
    );
    for state in &states {
        let word = |key: &str| state[key].as_str().unwrap_or_default();
        text.push_str(&format!(
            "{:<24} {:>8} {:<9} {:<32} {}\n",
            word("id"),
            state["pid"],
            word("status"),
            word("bundle"),
            word("created")
        ));
    }
    sys::print(&text)
}
