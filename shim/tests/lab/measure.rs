//! Time and memory, printed and not judged: run with `--ignored --nocapture` in a node lab, with a
//! static release build.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use skiff_shim_proto::message::{Adopt, Call};

use crate::daemon::Shim;
use crate::needs_a_lab;
use crate::scene::Scene;

/// Pods on a node come seconds apart: a tight loop would hide what an idle kernel costs.
const GAP: Duration = Duration::from_millis(200);
const ROUNDS: usize = 30;

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    eprintln!(
        "{what:<24} min {:7.3}  p50 {:7.3}  p90 {:7.3}  max {:7.3} ms",
        at(0),
        at(50),
        at(90),
        at(100)
    );
}

/// Lines of /proc/pid/smaps_rollup about memory that is the shim's alone.
fn print_memory(when: &str, pid: i32) {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let of = |name: &str| -> u64 {
        let line = rollup
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default();
        line.split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    };
    let private = of("Private_Dirty") + of("Private_Clean");
    eprintln!(
        "{when:<16} private {private} kB (dirty {} kB), rss {} kB",
        of("Private_Dirty"),
        of("Rss")
    );
}

#[test]
#[ignore = "measures"]
fn measure() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::spare());
    // On a node there are others, with which it shares its text.
    let spare = Shim::spare();
    print_memory("spare", shim.pid);
    shim.daemon
        .ask(Call::Adopt(crate::daemon::host_network()))
        .unwrap();
    print_memory("adopted", shim.pid);
    shim.daemon
        .run(scene.container(shim.pid, "first", &["sleep", "600"]));
    print_memory("one container", shim.pid);
    let [mut create, mut start, mut exec, mut kill, mut delete] = [(); 5].map(|()| Vec::new());
    for round in 0..ROUNDS {
        std::thread::sleep(GAP);
        let id = format!("c{round}");
        let request = scene.container(shim.pid, &id, &["sleep", "600"]);
        let mut time = |times: &mut Vec<Duration>, call: Call| {
            let begun = Instant::now();
            shim.daemon.ask(call).unwrap();
            times.push(begun.elapsed());
        };
        time(&mut create, Call::Create(Box::new(request)));
        time(&mut start, Call::Start { id: id.clone() });
        std::thread::sleep(GAP);
        let begun = Instant::now();
        shim.daemon
            .exec(scene.exec(round as u64, &id, &["true"]), None)
            .answer
            .unwrap();
        exec.push(begun.elapsed());
        std::thread::sleep(GAP);
        let begun = Instant::now();
        shim.daemon
            .ask(Call::Kill {
                id: id.clone(),
                signal: 9,
                all: true,
            })
            .unwrap();
        shim.daemon.exit(&id);
        kill.push(begun.elapsed());
        let begun = Instant::now();
        shim.daemon.ask(Call::Delete { id }).unwrap();
        delete.push(begun.elapsed());
    }
    let both = create
        .iter()
        .zip(&start)
        .map(|(create, start)| *create + *start)
        .collect();
    print("create", create);
    print("start", start);
    print("create + start", both);
    print("exec true", exec);
    print("kill to exit", kill);
    print("delete", delete);
    print_memory("after all", shim.pid);
    shim.shutdown();
    spare.shutdown();
}

/// What a user namespace costs: pods with one and without take turns.
#[test]
#[ignore = "measures"]
fn measure_user_namespaces() {
    needs_a_lab!();
    let mut times: [[Vec<Duration>; 4]; 2] = Default::default();
    for round in 0..2 * ROUNDS {
        let with = round % 2;
        std::thread::sleep(GAP);
        let scene = Scene::new();
        let mut shim = match with {
            0 => Shim::spare(),
            _ => Shim::spare_with_user_namespace(),
        };
        let adopt = Adopt {
            sysctls: BTreeMap::new(),
            ..crate::user_namespaces::pod(&shim, with == 1)
        };
        let create = crate::user_namespaces::on_overlay(&scene, &shim, with == 1);
        let mut time = |at: usize, call: Call| {
            let begun = Instant::now();
            shim.daemon.ask(call).unwrap();
            times[with][at].push(begun.elapsed());
        };
        time(0, Call::Adopt(adopt));
        time(1, Call::Create(Box::new(create)));
        time(2, Call::Start { id: "c".into() });
        let begun = Instant::now();
        let exec = shim.daemon.exec(scene.exec(1, "c", &["true"]), None);
        exec.answer.unwrap();
        times[with][3].push(begun.elapsed());
        shim.shutdown();
    }
    let whose = ["without", "with"];
    for (times, whose) in times.into_iter().zip(whose) {
        for (times, what) in times
            .into_iter()
            .zip(["adopt", "create", "start", "exec true"])
        {
            print(&format!("{what}, {whose}"), times);
        }
    }
}
