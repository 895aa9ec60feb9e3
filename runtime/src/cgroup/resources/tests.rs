use super::*;
use serde_json::{Value, json};

fn of(value: Value) -> Result<Vec<(String, String)>, Error> {
    let resources: LinuxResources = serde_json::from_value(value).unwrap();
    Ok(writes(&resources)?
        .into_iter()
        .map(|w| (w.file, w.value))
        .collect())
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(file, value)| (file.to_string(), value.to_string()))
        .collect()
}

#[test]
fn conversions() {
    for (value, expected) in [
        (json!({}), vec![]),
        (
            json!({"cpu": {"shares": 1024}}),
            vec![("cpu.weight", "100")],
        ),
        (json!({"cpu": {"shares": 0}}), vec![]),
        (json!({"cpu": {"shares": 2}}), vec![("cpu.weight", "1")]),
        (
            json!({"cpu": {"shares": 262144}}),
            vec![("cpu.weight", "10000")],
        ),
        (
            json!({"cpu": {"quota": 50000, "period": 100000}}),
            vec![("cpu.max", "50000 100000")],
        ),
        (json!({"cpu": {"quota": 50000}}), vec![("cpu.max", "50000")]),
        (
            json!({"cpu": {"quota": -1, "period": 5000}}),
            vec![("cpu.max", "max 5000")],
        ),
        (json!({"cpu": {"quota": 0, "period": 100000}}), vec![]),
        (
            json!({"cpu": {"cpus": "0-1", "mems": "0"}}),
            vec![("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
        ),
        (
            json!({"memory": {"limit": 1000}}),
            vec![("memory.max", "1000")],
        ),
        (
            json!({"memory": {"limit": -1}}),
            vec![("memory.max", "max")],
        ),
        (
            json!({"memory": {"limit": 1000, "swap": 1000}}),
            vec![("memory.max", "1000"), ("memory.swap.max", "0")],
        ),
        (
            json!({"memory": {"limit": 1000, "swap": 1500, "reservation": 10}}),
            vec![
                ("memory.max", "1000"),
                ("memory.swap.max", "500"),
                ("memory.low", "10"),
            ],
        ),
        (
            json!({"memory": {"limit": 1000, "swap": -1}}),
            vec![("memory.max", "1000"), ("memory.swap.max", "max")],
        ),
        (json!({"pids": {"limit": 10}}), vec![("pids.max", "10")]),
        (json!({"pids": {"limit": -1}}), vec![("pids.max", "max")]),
        (json!({"pids": {"limit": 0}}), vec![("pids.max", "1")]),
        (
            json!({"blockIO": {"weight": 1000}}),
            vec![("io.weight", "10000")],
        ),
        (json!({"blockIO": {"weight": 10}}), vec![("io.weight", "1")]),
        (
            json!({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 1, "rate": 0}]}}),
            vec![("io.max", "8:0 rbps=5"), ("io.max", "8:1 wiops=max")],
        ),
        (
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]}),
            vec![
                ("hugetlb.2MB.max", "4096"),
                ("hugetlb.2MB.rsvd.max", "4096"),
            ],
        ),
        (
            json!({"rdma": {"mlx": {"hcaHandles": 2}}}),
            vec![("rdma.max", "mlx hca_handle=2")],
        ),
    ] {
        assert_eq!(of(value.clone()).unwrap(), pairs(&expected), "{value}");
    }
}

#[test]
fn unified_wins_and_comes_sorted_and_line_by_line() {
    let got = of(json!({
        "memory": {"limit": 1000},
        "pids": {"limit": 7},
        "unified": {"memory.max": "2000", "io.max": "8:0 rbps=1\n8:1 rbps=2"},
    }));
    let expected = [
        ("pids.max", "7"),
        ("io.max", "8:0 rbps=1"),
        ("io.max", "8:1 rbps=2"),
        ("memory.max", "2000"),
    ];
    assert_eq!(got.unwrap(), pairs(&expected));
}

#[test]
fn what_cgroup_v2_cannot_do_is_refused_by_name() {
    for (value, name) in [
        (json!({"cpu": {"realtimeRuntime": 5}}), "realtime"),
        (json!({"memory": {"swappiness": 5}}), "swappiness"),
        (json!({"memory": {"disableOOMKiller": true}}), "OOM"),
        (json!({"memory": {"limit": -2}}), "memory.limit"),
        (
            json!({"memory": {"limit": 1000, "swap": 500}}),
            "memory.swap",
        ),
        (json!({"memory": {"swap": 500}}), "memory.swap"),
        (json!({"blockIO": {"leafWeight": 5}}), "leafWeight"),
        (json!({"network": {"classID": 5}}), "network"),
        (json!({"unified": {"../cgroup.procs": "1"}}), "unified"),
        (json!({"unified": {"": "1"}}), "unified"),
        (json!({"unified": {"cgroup.procs": "1"}}), "cgroup.procs"),
        (json!({"unified": {"cgroup.freeze": "1"}}), "cgroup.freeze"),
        (
            json!({"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}),
            "hugepage",
        ),
    ] {
        let error = of(value.clone()).unwrap_err().to_string();
        assert!(error.contains(name), "{value}: {error}");
    }
}

#[test]
fn absent_swap_control_forgives_only_what_it_does_anyway() {
    let write = |value: &str| Write::new("memory.swap.max", value);
    assert!(write("0").forgives(Errno::NOENT).is_ok());
    assert!(write("max").forgives(Errno::NOENT).is_ok());
    assert!(write("5").forgives(Errno::NOENT).is_err());
    assert!(write("0").forgives(Errno::INVAL).is_err());
    assert!(
        Write::new("memory.max", "max")
            .forgives(Errno::NOENT)
            .is_err()
    );
}

#[test]
fn an_idle_cgroup_gets_no_weight() {
    let got = of(json!({"cpu": {"idle": 1, "shares": 512}}));
    assert_eq!(got.unwrap(), pairs(&[("cpu.idle", "1")]));
    let got = of(json!({"cpu": {"idle": 0, "shares": 512}}));
    assert_eq!(
        got.unwrap(),
        pairs(&[("cpu.idle", "0"), ("cpu.weight", "59")])
    );
}

#[test]
fn an_empty_value_is_written_as_an_empty_line() {
    let got = of(json!({"unified": {"cpuset.cpus": ""}}));
    assert_eq!(got.unwrap(), pairs(&[("cpuset.cpus", "\n")]));
}
