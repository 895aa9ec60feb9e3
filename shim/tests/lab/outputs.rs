//! What containers say, in their logs.

use skiff_shim_proto::message::{Call, Event, FailureKind, Reply};

use crate::daemon::{Shim, wait_for};
use crate::needs_a_lab;
use crate::scene::Scene;

/// What a reader of the log makes of a stream.
fn joined(log: &str, stream: &str) -> String {
    let mut content = String::new();
    for line in log.split_terminator('\n') {
        let (header, text) = line.split_at(40);
        if &header[31..37] == stream {
            content.push_str(text);
            if &header[38..39] == "F" {
                content.push('\n');
            }
        }
    }
    content
}

#[test]
fn nothing_of_a_flood_is_lost() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    shim.daemon
        .run(scene.container(shim.pid, "c", &["seq", "300000"]));
    assert_eq!(shim.daemon.exit("c").code, 0);
    let expected: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert!(joined(&scene.log("c"), "stdout") == expected);
    shim.shutdown();
}

#[test]
fn a_line_without_an_end_is_logged_at_the_end() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let script = "printf begun; printf bad >&2; exec >&- 2>&-; sleep 0.1";
    shim.daemon
        .run(scene.container(shim.pid, "c", &["sh", "-c", script]));
    shim.daemon.exit("c");
    let mut logged = scene.logged("c");
    logged.sort();
    assert_eq!(logged, ["stderr P bad", "stdout P begun"]);
    shim.shutdown();
}

#[test]
fn a_terminal_is_one_stream() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let script = "tty; echo err >&2; exit 6";
    let mut create = scene.container(shim.pid, "c", &["sh", "-c", script]);
    create
        .spec
        .process_mut()
        .as_mut()
        .unwrap()
        .set_terminal(Some(true));
    shim.daemon.run(create);
    assert_eq!(shim.daemon.exit("c").code, 6);
    let logged = scene.logged("c");
    assert_eq!(logged.len(), 2, "{logged:?}");
    assert!(logged[0].starts_with("stdout F /dev/"), "{logged:?}");
    assert_eq!(logged[1], "stdout F err\r");
    shim.shutdown();
}

#[test]
fn a_log_is_rotated_under_a_running_container() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let script = "i=0; while true; do echo $i; i=$((i+1)); sleep 0.01; done";
    shim.daemon
        .run(scene.container(shim.pid, "c", &["sh", "-c", script]));
    let (path, rotated) = (scene.path("c.log"), scene.path("c.log.1"));
    wait_for("a line", || (scene.logged("c").len() > 2).then_some(()));
    std::fs::rename(&path, &rotated).unwrap();
    let reopen = || Call::ReopenLog { id: "c".into() };
    assert!(matches!(shim.daemon.ask(reopen()), Ok(Reply::Done)));
    wait_for("a line", || (scene.logged("c").len() > 2).then_some(()));
    shim.daemon
        .ask(Call::Kill {
            id: "c".into(),
            signal: 9,
            all: true,
        })
        .unwrap();
    shim.daemon.exit("c");
    let all = std::fs::read_to_string(&rotated).unwrap() + &scene.log("c");
    let numbers: Vec<usize> = joined(&all, "stdout")
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
    let ended = shim.daemon.ask(reopen()).unwrap_err();
    assert_eq!(ended.kind, FailureKind::InvalidState);
    shim.shutdown();
}

#[test]
fn a_full_disk_does_not_hold_up_the_container() {
    needs_a_lab!();
    let (scene, mut shim) = (Scene::new(), Shim::pod());
    let disk = scene.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(&disk)
        .status()
        .unwrap();
    assert!(mounted.success());
    let script = "seq 20000; echo flooded >/tmp/flooded; while ! [ -e /tmp/go ]; do sleep 0.05; done; \
                  echo last";
    let mut create = scene.container(shim.pid, "c", &["sh", "-c", script]);
    create.log_path = Some(disk.join("c.log"));
    shim.daemon.run(create);
    let tmp = scene.path("rootfs/tmp");
    wait_for("the end of the flood", || {
        tmp.join("flooded").exists().then_some(())
    });
    let warned = |event: &Event| match event {
        Event::Warning { id, message } => {
            assert_eq!(id.as_deref(), Some("c"));
            message.clone()
        }
        other => panic!("{other:?}"),
    };
    let full = warned(&shim.daemon.event());
    assert!(full.contains("No space left"), "{full}");
    std::fs::rename(disk.join("c.log"), disk.join("old")).unwrap();
    shim.daemon.ask(Call::ReopenLog { id: "c".into() }).unwrap();
    let kept = std::fs::read_to_string(disk.join("old")).unwrap();
    std::fs::remove_file(disk.join("old")).unwrap();
    std::fs::write(tmp.join("go"), "").unwrap();
    let again = warned(&shim.daemon.event());
    assert!(again.contains("entries were dropped"), "{again}");
    assert_eq!(shim.daemon.exit("c").code, 0);
    assert!(kept.ends_with('\n') && kept.lines().all(|line| line[31..].starts_with("stdout F ")));
    let log = std::fs::read_to_string(disk.join("c.log")).unwrap();
    // Before the last word perhaps some of the flood that was still in the pipe.
    let said = joined(&log, "stdout");
    let flood = said.strip_suffix("last\n").unwrap();
    assert!(
        flood
            .split_terminator('\n')
            .all(|number| number.parse::<u32>().is_ok())
    );
    shim.shutdown();
    assert!(
        std::process::Command::new("umount")
            .arg(&disk)
            .status()
            .unwrap()
            .success()
    );
}
