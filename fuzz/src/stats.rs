//! What the kernel tells of use: every version of it adds lines, and names of interfaces are chosen
//! by whoever makes them.

use std::collections::BTreeSet;

use skiff_cri::v1::PsiStats;
use skiff_stats::metric::{self, Sheet, Subject};
use skiff_stats::{Detail, Files, Usage, network, process};

/// A cgroup in which all files of one value have the same content, and all others have another.
struct Two<'a> {
    single: Option<&'a str>,
    keyed: Option<&'a str>,
}

impl Files for Two<'_> {
    fn read(&mut self, name: &str) -> Option<&str> {
        match name {
            "cpu.stat" | "memory.stat" | "memory.events" | "io.stat" => self.keyed,
            _ if name.ends_with(".pressure") => self.keyed,
            _ => self.single,
        }
    }
}

/// Files of a cgroup that stats and metrics are made of.
pub fn cgroup_usage(data: &[u8]) {
    let [single, keyed] = crate::sections(data).map(|text| std::str::from_utf8(text).ok());
    let mut files = Two { single, keyed };
    let usage = Usage::read(&mut files, 1);
    if let Some(memory) = usage.memory() {
        let value = |value: Option<skiff_cri::v1::UInt64Value>| value.map_or(0, |v| v.value);
        assert!(value(memory.working_set_bytes) <= value(memory.usage_bytes));
    }
    let io = usage.io().and_then(|io| io.psi);
    if let Some(PsiStats { some, full }) = io {
        for data in some.iter().chain(&full) {
            for share in [data.avg10, data.avg60, data.avg300] {
                assert!(share.is_finite() && share >= 0.0, "{data:?}");
            }
        }
    }
    let detail = Detail::read(&mut files, &["2MB".into()]);
    let mut sheet = Sheet::new(Subject::default(), 1);
    metric::cgroup(&mut sheet, &usage, &detail, |io| {
        format!("{}:{}", io.major, io.minor)
    });
    let described: BTreeSet<_> = metric::descriptors()
        .into_iter()
        .map(|descriptor| (descriptor.name, descriptor.label_keys.len()))
        .collect();
    for metric in sheet.finish() {
        let labels = metric.label_values.len();
        assert!(
            described.contains(&(metric.name.clone(), labels)),
            "{metric:?}"
        );
    }
}

/// `/proc/<pid>/net/dev` and `/proc/<pid>/limits`.
pub fn proc_usage(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let interfaces = network::parse(text);
    for interface in &interfaces {
        assert!(
            text.contains(&format!("{}:", interface.name)),
            "{interface:?}"
        );
        assert!(!interface.name.is_empty() && interface.name != "lo");
    }
    let told = network::to_cri(&interfaces, "eth0", 1);
    assert_eq!(told.is_none(), interfaces.is_empty());
    if let Some(told) = told {
        assert!(told.default_interface.is_some());
        assert_eq!(told.interfaces.len() + 1, interfaces.len());
    }
    if let Some(limit) = process::open_files_limit(text) {
        let says = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            line.starts_with("Max open files") && words.any(|word| word.parse() == Ok(limit))
        };
        assert!(text.lines().any(says), "{text:?}");
    }
}
