//! Changes of resources.

use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};
use skiff_cri::v1::{HugepageLimit, LinuxContainerResources};
use skiff_spec::update_resources;

use crate::case::{Case, text_map};

fn asked() -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        memory_limit_in_bytes: 1000,
        ..Default::default()
    }
}

/// What is written, and what the container has then.
fn update(
    asked: &LinuxContainerResources,
    change: &LinuxContainerResources,
) -> (Value, LinuxContainerResources) {
    let (write, merged) = update_resources(asked, change, &Case::plain().host).unwrap();
    (
        serde_json::to_value::<LinuxResources>(write).unwrap(),
        merged,
    )
}

#[test]
fn what_is_not_set_is_not_written() {
    let nothing = LinuxContainerResources::default();
    assert_eq!(update(&asked(), &nothing), (json!({}), asked()));
    let change = LinuxContainerResources {
        memory_limit_in_bytes: 2000,
        ..Default::default()
    };
    let (write, merged) = update(&asked(), &change);
    assert_eq!(write, json!({"memory": {"limit": 2000}}));
    assert_eq!(
        (merged.memory_limit_in_bytes, merged.cpu_shares),
        (2000, 512)
    );
}

#[test]
fn quota_and_period_are_written_together() {
    let change = LinuxContainerResources {
        cpu_period: 50_000,
        ..Default::default()
    };
    let (write, merged) = update(&asked(), &change);
    assert_eq!(write, json!({"cpu": {"quota": 50_000, "period": 50_000}}));
    assert_eq!((merged.cpu_quota, merged.cpu_period), (50_000, 50_000));
    let unlimited = LinuxContainerResources::default();
    let (write, _) = update(&unlimited, &change);
    assert_eq!(write, json!({"cpu": {"quota": -1, "period": 50_000}}));
}

/// A limit of memory and swap together stays when that of memory moves.
#[test]
fn swap_follows_the_memory_that_it_is_counted_with() {
    let asked = LinuxContainerResources {
        memory_swap_limit_in_bytes: 3000,
        ..asked()
    };
    let change = LinuxContainerResources {
        memory_limit_in_bytes: 2500,
        ..Default::default()
    };
    let (write, _) = update(&asked, &change);
    let expected = json!({"memory": {"limit": 2500}, "unified": {"memory.swap.max": "500"}});
    assert_eq!(write, expected);
    let above = LinuxContainerResources {
        memory_limit_in_bytes: 4000,
        ..Default::default()
    };
    let error = update_resources(&asked, &above, &Case::plain().host).unwrap_err();
    assert_eq!(error.field(), "linux.resources.memory_swap_limit_in_bytes");
}

#[test]
fn unified_wins_in_one_request_and_the_later_of_two() {
    let first = LinuxContainerResources {
        unified: text_map(&[("memory.max", "1"), ("memory.swap.max", "7")]),
        ..asked()
    };
    let typed = LinuxContainerResources {
        memory_limit_in_bytes: 2000,
        ..Default::default()
    };
    let (write, merged) = update(&first, &typed);
    assert_eq!(write, json!({"memory": {"limit": 2000}}));
    assert_eq!(merged.unified, text_map(&[("memory.swap.max", "7")]));
    let both = LinuxContainerResources {
        unified: text_map(&[("memory.max", "3")]),
        ..typed
    };
    let (write, _) = update(&first, &both);
    assert_eq!(write, json!({"unified": {"memory.max": "3"}}));
}

#[test]
fn huge_pages_are_replaced_by_size() {
    let limit = |size: &str, limit| HugepageLimit {
        page_size: size.into(),
        limit,
    };
    let asked = LinuxContainerResources {
        hugepage_limits: vec![limit("2MB", 0), limit("1GB", 0)],
        ..asked()
    };
    let change = LinuxContainerResources {
        hugepage_limits: vec![limit("2MB", 4 << 20)],
        ..Default::default()
    };
    let (write, merged) = update(&asked, &change);
    let expected = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]});
    assert_eq!(write, expected);
    assert_eq!(
        merged.hugepage_limits,
        [limit("1GB", 0), limit("2MB", 4 << 20)]
    );
}

#[test]
fn what_cannot_be_meant_is_refused() {
    type Change = fn(&mut LinuxContainerResources);
    for (field, change) in [
        ("oom_score_adj", (|r| r.oom_score_adj = 2000) as Change),
        ("cpu_shares", |r| r.cpu_shares = -1),
        ("unified", |r| r.unified = text_map(&[("x", "1")])),
    ] {
        let mut request = LinuxContainerResources::default();
        change(&mut request);
        let error = update_resources(&asked(), &request, &Case::plain().host).unwrap_err();
        assert_eq!(error.field(), format!("linux.resources.{field}"));
    }
}
