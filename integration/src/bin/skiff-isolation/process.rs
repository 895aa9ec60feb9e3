//! Users, groups, capabilities, the root file system and the paths of /proc that a container may see.

use anyhow::{Context, ensure};
use skiff_cri::v1::{Capability, Int64Value, NamespaceMode, SupplementalGroupsPolicy};
use skiff_probe::report::Report;

use crate::lab::{Inside, Lab, PROBE, Shape, same};

/// What containers have unless they ask for something else: CHOWN DAC_OVERRIDE FOWNER FSETID KILL
/// SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP.
const DEFAULT: u64 = 0xa804_25fb;
const CHOWN: u64 = 1;
const NET_BIND_SERVICE: u64 = 1 << 10;
const SYS_ADMIN: u64 = 1 << 21;

const STAGING: &str = "gcr.io/k8s-staging-cri-tools/";
/// User 1000, whom /etc/group of the image has in group 50000.
const GROUPS: &str = "gcr.io/k8s-staging-cri-tools/test-image-predefined-group:latest";
/// Has a set-user-id program, /nnp, that says its effective user.
const SETUID: &str = "registry.k8s.io/e2e-test-images/nonewprivs:1.3";

fn capabilities(report: &Report) -> [Option<u64>; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| report.capabilities(set))
}

fn sets(
    inheritable: u64,
    permitted: u64,
    effective: u64,
    bounding: u64,
    ambient: u64,
) -> [Option<u64>; 5] {
    [inheritable, permitted, effective, bounding, ambient].map(Some)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn number(value: i64) -> Option<Int64Value> {
    Some(Int64Value { value })
}

fn with_capabilities(name: &str, add: &[&str], drop: &[&str], ambient: &[&str]) -> Shape {
    let mut shape = Shape::new(name);
    shape.security().capabilities = Some(Capability {
        add_capabilities: names(add),
        drop_capabilities: names(drop),
        add_ambient_capabilities: names(ambient),
    });
    shape
}

/// Nothing asked for: the default capabilities, namespaces of its own, three open files.
pub(crate) async fn defaults(lab: &mut Lab) -> anyhow::Result<()> {
    lab.look(Shape::new("defaults"), async |inside| {
        let report = inside.report.clone();
        same("user", report.field("Uid"), "0 0 0 0")?;
        same("group", report.field("Gid"), "0 0 0 0")?;
        same(
            "capabilities",
            capabilities(&report),
            sets(0, DEFAULT, DEFAULT, DEFAULT, 0),
        )?;
        same("NoNewPrivs", report.field("NoNewPrivs"), "0")?;
        same("Umask", report.field("Umask"), "0022")?;
        same("working directory", report.cwd.as_str(), "/")?;
        let files: Vec<u32> = report.files.keys().copied().collect();
        same("open files", files, vec![0, 1, 2])?;
        same(
            "cgroup as the container sees it",
            report.cgroup.as_str(),
            "/",
        )?;
        let host = Report::read()?;
        for name in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
            ensure!(
                report.namespaces.get(name).map(|ns| ns.id)
                    != host.namespaces.get(name).map(|ns| ns.id),
                "the {name} namespace is the host's"
            );
        }
        inside
            .outcomes(&[
                ("tmpfs=/tmp", "EPERM|EACCES"),
                ("hostname=other", "EPERM"),
                ("unshare=mount", "EPERM"),
                ("write=/proc/sys/kernel/panic:0", "EROFS|EACCES|EPERM"),
                ("write=/proc/sysrq-trigger:h", "EROFS|EACCES"),
                ("read=/proc/kcore", "ok|ENOENT"),
                (
                    "write=/sys/kernel/mm/ksm/run:0",
                    "EROFS|EACCES|EPERM|ENOENT",
                ),
                ("mkdir=/sys/fs/cgroup/mine", "EROFS"),
                ("call=syslog", "EPERM|EINVAL"),
                ("call=swapon", "EPERM"),
                ("call=init_module", "EPERM"),
                ("call=kexec_load", "EPERM|ENOSYS"),
                ("device=/mem:c:1:1", "ok: made, not opened, EPERM"),
            ])
            .await
    })
    .await
}

/// Containers of a pod share its network, IPC and host name, and nothing else.
pub(crate) async fn what_a_pod_shares(lab: &mut Lab) -> anyhow::Result<()> {
    lab.look(Shape::new("shares"), async |inside| {
        inside.beside("other", |_| {}).await?;
        let other: Report = serde_json::from_str(&inside.said("other").await?)?;
        let one = &inside.report;
        for (name, shared) in [
            ("net", true),
            ("ipc", true),
            ("uts", true),
            ("user", true),
            ("pid", false),
            ("mnt", false),
            ("cgroup", false),
        ] {
            let equal = one.namespaces.get(name).map(|ns| ns.id)
                == other.namespaces.get(name).map(|ns| ns.id);
            same(&format!("the {name} namespace is shared"), equal, shared)?;
        }
        same("host name", one.hostname.as_str(), "shares")
    })
    .await
}

/// A pod with one PID namespace for all its containers.
pub(crate) async fn one_pid_namespace(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("one-pid");
    let pod = shape.pod_linux().security_context.get_or_insert_default();
    pod.namespace_options.get_or_insert_default().pid = NamespaceMode::Pod.into();
    let container = shape.security().namespace_options.get_or_insert_default();
    container.pid = NamespaceMode::Pod.into();
    lab.look(shape, async |inside| {
        inside.beside("other", |_| {}).await?;
        let other: Report = serde_json::from_str(&inside.said("other").await?)?;
        let pid = |report: &Report| report.namespaces.get("pid").map(|ns| ns.id);
        same("PID namespace", pid(&inside.report), pid(&other))?;
        ensure!(
            inside.report.field("Pid") != other.field("Pid"),
            "both have one id"
        );
        Ok(())
    })
    .await
}

/// The pod on the host's network, IPC and PID namespaces.
pub(crate) async fn the_hosts_namespaces(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("host-namespaces");
    shape.pod.hostname.clear();
    let pod = shape.pod_linux().security_context.get_or_insert_default();
    let options = pod.namespace_options.get_or_insert_default();
    let node = i32::from(NamespaceMode::Node);
    (options.network, options.ipc, options.pid) = (node, node, node);
    let options = options.clone();
    shape.security().namespace_options = Some(options);
    lab.look(shape, async |inside| {
        let host = Report::read()?;
        for name in ["net", "ipc", "pid", "uts"] {
            same(
                &format!("{name} namespace"),
                inside.report.namespaces.get(name).map(|ns| ns.id),
                host.namespaces.get(name).map(|ns| ns.id),
            )?;
        }
        Ok(())
    })
    .await
}

pub(crate) async fn drop_all_then_add(lab: &mut Lab) -> anyhow::Result<()> {
    let shape = with_capabilities("drop-add", &["NET_BIND_SERVICE", "CHOWN"], &["ALL"], &[]);
    lab.look(shape, async |inside| {
        let expected = NET_BIND_SERVICE | CHOWN;
        same(
            "capabilities",
            capabilities(&inside.report),
            sets(0, expected, expected, expected, 0),
        )?;
        inside
            .outcomes(&[("device=/null:c:1:3", "ok: not made, EPERM")])
            .await
    })
    .await
}

pub(crate) async fn add_all_but_one(lab: &mut Lab) -> anyhow::Result<()> {
    let shape = with_capabilities("add-all", &["ALL"], &["SYS_ADMIN"], &[]);
    lab.look(shape, async |inside| {
        let last: u32 = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")?
            .trim()
            .parse()?;
        let expected = ((1_u64 << (last + 1)) - 1) & !SYS_ADMIN;
        same(
            "capabilities",
            capabilities(&inside.report),
            sets(0, expected, expected, expected, 0),
        )
    })
    .await
}

/// A user that is not root keeps an ambient capability, and no other.
pub(crate) async fn ambient_capabilities(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = with_capabilities(
        "ambient",
        &["NET_BIND_SERVICE"],
        &["ALL"],
        &["NET_BIND_SERVICE"],
    );
    shape.security().run_as_user = number(1000);
    lab.look(shape, async |inside| {
        let one = NET_BIND_SERVICE;
        same(
            "capabilities",
            capabilities(&inside.report),
            sets(one, one, one, one, one),
        )?;
        let exec = inside.exec_report().await?;
        same(
            "capabilities of an exec",
            capabilities(&exec),
            sets(one, one, one, one, one),
        )
    })
    .await
}

/// A user that is not root has no capabilities beyond the bounding set.
pub(crate) async fn user_and_group_by_number(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("by-number");
    shape.security().run_as_user = number(4711);
    shape.security().run_as_group = number(4712);
    shape.security().supplemental_groups = vec![1234, 5678];
    lab.look(shape, async |inside| {
        let report = &inside.report;
        same("user", report.field("Uid"), "4711 4711 4711 4711")?;
        same("group", report.field("Gid"), "4712 4712 4712 4712")?;
        let mut groups: Vec<&str> = report.field("Groups").split(' ').collect();
        groups.retain(|group| *group != "4712");
        same("groups", groups, vec!["1234", "5678"])?;
        same(
            "capabilities",
            capabilities(report),
            sets(0, 0, 0, DEFAULT, 0),
        )
    })
    .await
}

pub(crate) async fn user_by_name(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("by-name");
    shape.security().run_as_username = "www-data".to_owned();
    lab.look(shape, async |inside| {
        same("user", inside.report.field("Uid"), "33 33 33 33")?;
        same("group", inside.report.field("Gid"), "33 33 33 33")
    })
    .await?;
    let mut shape = Shape::new("no-such-name");
    shape.security().run_as_username = "nobody-knows".to_owned();
    lab.refuses(shape, &["nobody-knows"]).await
}

/// The user of the image, by name and with a group.
pub(crate) async fn user_of_the_image(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("of-image");
    shape.container.image = Some(skiff_integration::client::image_spec(&format!(
        "{STAGING}test-image-user-username-group:latest"
    )));
    lab.look(shape, async |inside| {
        same("user", inside.report.field("Uid"), "33 33 33 33")?;
        same("group", inside.report.field("Gid"), "1004 1004 1004 1004")
    })
    .await
}

async fn groups(
    lab: &mut Lab,
    policy: SupplementalGroupsPolicy,
    expected: &[&str],
) -> anyhow::Result<()> {
    let mut shape = Shape::new("groups");
    shape.container.image = Some(skiff_integration::client::image_spec(GROUPS));
    shape.security().run_as_user = number(1000);
    shape.security().supplemental_groups = vec![60000];
    shape.security().supplemental_groups_policy = policy.into();
    lab.look(shape, async |inside| {
        let exec = inside.exec_report().await?;
        for report in [&inside.report, &exec] {
            let mut groups: Vec<&str> = report.field("Groups").split(' ').collect();
            // the primary group may be listed, too
            groups.retain(|group| *group != "1000");
            same("groups", groups, expected.to_vec())?;
        }
        let status = inside
            .lab
            .cri
            .status(&inside.id)
            .await
            .context("ContainerStatus")?;
        let user = status
            .user
            .and_then(|user| user.linux)
            .context("no user in ContainerStatus")?;
        same("uid in ContainerStatus", user.uid, 1000)?;
        let mut told: Vec<String> = user
            .supplemental_groups
            .iter()
            .map(ToString::to_string)
            .collect();
        told.retain(|group| group != "1000");
        told.sort();
        same("groups in ContainerStatus", told, names(expected))
    })
    .await
}

pub(crate) async fn groups_merged(lab: &mut Lab) -> anyhow::Result<()> {
    groups(lab, SupplementalGroupsPolicy::Merge, &["50000", "60000"]).await
}

pub(crate) async fn groups_strict(lab: &mut Lab) -> anyhow::Result<()> {
    groups(lab, SupplementalGroupsPolicy::Strict, &["60000"]).await
}

/// A set-user-id program gains nothing with no_new_privs, and root without.
pub(crate) async fn no_new_privileges(lab: &mut Lab) -> anyhow::Result<()> {
    for (no_new_privs, user) in [(true, "1000"), (false, "0")] {
        let mut shape = Shape::new("no-new-privs");
        shape.container.image = Some(skiff_integration::client::image_spec(SETUID));
        shape.security().run_as_user = number(1000);
        shape.security().no_new_privs = no_new_privs;
        lab.look(shape, async |inside| {
            let exec = inside.exec_report().await?;
            let flag = if no_new_privs { "1" } else { "0" };
            same("NoNewPrivs", inside.report.field("NoNewPrivs"), flag)?;
            same("NoNewPrivs of an exec", exec.field("NoNewPrivs"), flag)?;
            let said = inside.run(&["/nnp"]).await?;
            ensure!(
                said.contains(&format!("Effective uid: {user}")),
                "/nnp says {said}"
            );
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Privileged: every capability, no filter, every device, /proc and /sys to write to.
pub(crate) async fn privileged(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("privileged");
    shape
        .pod_linux()
        .security_context
        .get_or_insert_default()
        .privileged = true;
    shape.security().privileged = true;
    shape.security().masked_paths = names(&["/proc/kcore"]);
    shape.security().readonly_paths = names(&["/proc/sys"]);
    shape.security().seccomp = crate::lab::profile(
        skiff_cri::v1::security_profile::ProfileType::RuntimeDefault,
        "",
    );
    lab.look(shape, async |inside| {
        let report = inside.report.clone();
        let host = Report::read()?;
        let all = host.capabilities("CapBnd");
        same("effective capabilities", report.capabilities("CapEff"), all)?;
        same("bounding capabilities", report.capabilities("CapBnd"), all)?;
        same("Seccomp", report.field("Seccomp"), "0")?;
        for point in ["/sys", "/sys/fs/cgroup"] {
            let mount = report
                .mount(point)
                .with_context(|| format!("nothing on {point}"))?;
            ensure!(mount.has("rw"), "{point} is {:?}", mount.options);
        }
        ensure!(
            report.mount("/proc/kcore").is_none(),
            "/proc/kcore is masked"
        );
        ensure!(
            report.mount("/proc/sys").is_none(),
            "/proc/sys is read-only"
        );
        inside
            .outcomes(&[
                ("open=/dev/kmsg", "ok"),
                ("device=/mem:c:1:1", "ok: opened"),
                ("tmpfs=/tmp", "ok"),
                ("hostname=other", "ok"),
            ])
            .await
    })
    .await
}

pub(crate) async fn read_only_root(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("read-only");
    shape.security().readonly_rootfs = true;
    lab.look(shape, async |inside| {
        inside
            .outcomes(&[
                ("create=/file", "EROFS"),
                ("create=/tmp/file", "EROFS"),
                ("create=/dev/shm/file", "ok"),
                ("writable=/", "EPERM|EACCES"),
            ])
            .await
    })
    .await
}

/// What is masked looks empty, what is read-only cannot be written, and neither can be undone.
pub(crate) async fn masked_and_read_only_paths(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("masked");
    shape.security().masked_paths = names(&[
        "/proc/timer_list",
        "/proc/bus",
        "/etc/passwd",
        "/no/such/path",
    ]);
    shape.security().readonly_paths = names(&["/proc/irq", "/var", "/no/such/path"]);
    lab.look(shape, async |inside| {
        inside
            .outcomes(&[
                ("read=/proc/timer_list", "ok|ENOENT"),
                ("read=/etc/passwd", "ok"),
                ("list=/proc/bus", "ok"),
                ("create=/proc/bus/file", "EROFS|EACCES|EPERM"),
                ("create=/var/file", "EROFS"),
                ("unmount=/etc/passwd", "EPERM|EACCES"),
                ("create=/root/file", "ok"),
            ])
            .await?;
        let outcomes = inside
            .attempt(&["read=/etc/passwd", "list=/proc/bus"])
            .await?;
        for (attempt, outcome) in outcomes {
            same(&attempt, outcome.as_str(), "ok")?;
        }
        Ok(())
    })
    .await
}

pub(crate) async fn oom_score(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("oom-score");
    shape.resources().oom_score_adj = 937;
    lab.look(shape, async |inside| {
        same("oom_score_adj", inside.report.oom_score_adj, 937)?;
        let exec = inside.exec_report().await?;
        same("oom_score_adj of an exec", exec.oom_score_adj, 937)
    })
    .await
}

pub(crate) async fn sysctls_of_the_pod(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = Shape::new("sysctls");
    let sysctls = &mut shape.pod_linux().sysctls;
    sysctls.insert(
        "net.ipv4.ip_unprivileged_port_start".to_owned(),
        "81".to_owned(),
    );
    sysctls.insert("kernel.shm_rmid_forced".to_owned(), "1".to_owned());
    lab.look(shape, async |inside| {
        inside
            .outcomes(&[
                (
                    "read=/proc/sys/net/ipv4/ip_unprivileged_port_start",
                    "ok: 81",
                ),
                ("read=/proc/sys/kernel/shm_rmid_forced", "ok: 1"),
            ])
            .await
    })
    .await
}

/// An exec has what the container has.
pub(crate) async fn exec_inherits_all_of_it(lab: &mut Lab) -> anyhow::Result<()> {
    let mut shape = with_capabilities("exec", &["NET_ADMIN"], &["MKNOD"], &[]);
    shape.container.working_dir = "/var".to_owned();
    shape.container.envs.push(skiff_cri::v1::KeyValue {
        key: "COLOUR".to_owned(),
        value: b"green".to_vec(),
    });
    let security = shape.security();
    security.run_as_user = number(1000);
    security.run_as_group = number(1001);
    security.supplemental_groups = vec![2000];
    security.no_new_privs = true;
    lab.look(shape, async |inside: &mut Inside<'_>| {
        let exec = inside.exec_report().await?;
        let init = &inside.report;
        for field in [
            "Uid",
            "Gid",
            "Groups",
            "CapInh",
            "CapPrm",
            "CapEff",
            "CapBnd",
            "CapAmb",
            "NoNewPrivs",
            "Seccomp",
            "Umask",
            "Cpus_allowed_list",
        ] {
            same(field, exec.field(field), init.field(field))?;
        }
        same("working directory", &exec.cwd, &init.cwd)?;
        same("working directory", exec.cwd.as_str(), "/var")?;
        same("namespaces", &exec.namespaces, &init.namespaces)?;
        same("limits", &exec.limits, &init.limits)?;
        same("cgroup", &exec.cgroup, &init.cgroup)?;
        same("label", &exec.label, &init.label)?;
        same("mounts", exec.mounts.len(), init.mounts.len())?;
        same(
            "COLOUR",
            exec.environment.get("COLOUR").map(String::as_str),
            Some("green"),
        )?;
        let files: Vec<u32> = exec.files.keys().copied().collect();
        same("open files of an exec", files, vec![0, 1, 2])?;
        let missing = inside
            .lab
            .cri
            .exec(&inside.id, &["/no/such/program"], 10)
            .await;
        if let Ok(answer) = missing {
            ensure!(
                answer.exit_code == 127,
                "exit code {} of a missing program",
                answer.exit_code
            );
        }
        inside.run(&[PROBE, "report"]).await.map(drop)
    })
    .await
}
