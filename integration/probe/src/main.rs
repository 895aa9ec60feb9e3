//! Says what the container it runs in really has. See the library for what it reports.
//!
//!     skiff-probe report              one JSON object
//!     skiff-probe hold                the same, then sleeps until it is killed
//!     skiff-probe attempt ATTEMPT...  one JSON object: attempt to outcome
//!     skiff-probe allocate BYTES      writes to so much memory, says so, and sleeps

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use skiff_probe::attempt;
use skiff_probe::report::Report;

const PAGE: usize = 4096;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["report"] => say(&serde_json::to_string(&Report::read()?)?),
        ["hold"] => {
            say(&serde_json::to_string(&Report::read()?)?)?;
            sleep()
        }
        ["attempt", ref attempts @ ..] => {
            let mut outcomes = BTreeMap::new();
            for attempt in attempts {
                outcomes.insert(attempt, attempt::in_child(attempt)?);
            }
            say(&serde_json::to_string(&outcomes)?)
        }
        ["try", attempt] => {
            write!(io::stdout(), "{}", attempt::here(attempt)?).context("say what came of it")
        }
        ["allocate", bytes] => allocate(bytes.parse().context("BYTES")?),
        _ => bail!("usage: skiff-probe report | hold | attempt ATTEMPT... | allocate BYTES"),
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("print")
}

fn sleep() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Writes to every page, so that each needs memory, with bytes that no compression saves on.
fn allocate(bytes: usize) -> anyhow::Result<()> {
    let mut memory: Vec<u8> = Vec::new();
    memory.try_reserve_exact(bytes).context("reserve")?;
    for page in 0..bytes / PAGE {
        let number = page.to_ne_bytes();
        memory.extend(number.iter().cycle().take(PAGE));
    }
    say(&format!("allocated {}", memory.len()))?;
    sleep()
}
