//! What a container's first process and an exec have: namespaces, files, paths of /proc, root.

use anyhow::{Context, ensure};
use skiff_cri::v1::NamespaceMode;
use skiff_probe::report::Report;

use crate::credentials::{DEFAULT, capabilities, names, number, sets, with_capabilities};
use crate::inside::Inside;
use crate::lab::{Lab, PROBE, Shape, same};

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
                ("read=/proc/kcore", "ok|ENOENT|EACCES"),
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

/// What node agents do: privileged, in the host's network and PID namespace, a container finds
/// another pod's processes and reads their files.
pub(crate) async fn a_node_agent(lab: &mut Lab) -> anyhow::Result<()> {
    lab.look(Shape::new("looked-at"), async |inside| {
        inside.outcomes(&[("create=/only-here", "ok")]).await?;
        let status = inside.info(&inside.id.clone()).await?;
        let pid = status["pid"].as_u64().context("no pid in the status")?;
        let mut agent = Shape::new("agent");
        agent.pod.hostname.clear();
        let pod = agent.pod_linux().security_context.get_or_insert_default();
        pod.privileged = true;
        let options = pod.namespace_options.get_or_insert_default();
        let node = i32::from(NamespaceMode::Node);
        (options.network, options.pid) = (node, node);
        let options = options.clone();
        agent.security().privileged = true;
        agent.security().namespace_options = Some(options);
        let file = format!("stat=/proc/{pid}/root/only-here");
        let namespace = format!("list=/proc/{pid}/ns");
        let check = async |inside: &mut Inside<'_>| {
            inside.outcomes(&[(&file, "ok"), (&namespace, "ok")]).await
        };
        inside.lab.look(agent, check).await
    })
    .await
}
