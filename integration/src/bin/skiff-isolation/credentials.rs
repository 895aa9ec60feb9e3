//! Users, groups and capabilities.

use anyhow::{Context, ensure};
use skiff_cri::v1::{Capability, Int64Value, SupplementalGroupsPolicy};
use skiff_integration::client::image_spec;
use skiff_probe::report::Report;

use crate::lab::{Lab, Shape, same};

/// What containers have unless they ask for something else: CHOWN DAC_OVERRIDE FOWNER FSETID KILL
/// SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP.
pub(crate) const DEFAULT: u64 = 0xa804_25fb;
const CHOWN: u64 = 1;
const NET_BIND_SERVICE: u64 = 1 << 10;
const SYS_ADMIN: u64 = 1 << 21;

const STAGING: &str = "gcr.io/k8s-staging-cri-tools/";
/// User 1000, whom /etc/group of the image has in group 50000.
const GROUPS: &str = "gcr.io/k8s-staging-cri-tools/test-image-predefined-group:latest";
/// Has a set-user-id program, /nnp, that says its effective user.
const SETUID: &str = "registry.k8s.io/e2e-test-images/nonewprivs:1.3";

pub(crate) fn capabilities(report: &Report) -> [Option<u64>; 5] {
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| report.capabilities(set))
}

pub(crate) fn sets(
    inheritable: u64,
    permitted: u64,
    effective: u64,
    bounding: u64,
    ambient: u64,
) -> [Option<u64>; 5] {
    [inheritable, permitted, effective, bounding, ambient].map(Some)
}

pub(crate) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

pub(crate) fn number(value: i64) -> Option<Int64Value> {
    Some(Int64Value { value })
}

pub(crate) fn with_capabilities(
    name: &str,
    add: &[&str],
    drop: &[&str],
    ambient: &[&str],
) -> Shape {
    let mut shape = Shape::new(name);
    shape.security().capabilities = Some(Capability {
        add_capabilities: names(add),
        drop_capabilities: names(drop),
        add_ambient_capabilities: names(ambient),
    });
    shape
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
    shape.container.image = Some(image_spec(&format!(
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
    shape.container.image = Some(image_spec(GROUPS));
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
        shape.container.image = Some(image_spec(SETUID));
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

/// `struct vfs_cap_data` of linux/capability.h, revision 2: what `setcap cap_sys_chroot=ep` writes.
fn with_chroot() -> Vec<u8> {
    const REVISION_2_EFFECTIVE: u32 = 0x0200_0001;
    const SYS_CHROOT: u32 = 1 << 18;
    let words = [REVISION_2_EFFECTIVE, SYS_CHROOT, 0, 0, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A user that is not root gets what a file's capabilities give and the bounding set has, as
/// ingress-nginx does with everything dropped but two. With no_new_privs a process without them gets
/// none; what is started by the runtime was given them, and keeps them.
pub(crate) async fn file_capabilities(lab: &mut Lab) -> anyhow::Result<()> {
    let volume = "/var/isolation-capable";
    std::fs::create_dir_all(volume)?;
    let program = format!("{volume}/program");
    std::fs::copy("/usr/local/bin/skiff-probe", &program)?;
    let attributes = rustix::fs::XattrFlags::empty();
    let capable = with_chroot();
    rustix::fs::setxattr(&program, "security.capability", &capable, attributes)
        .with_context(|| format!("give {program} a capability"))?;
    for (no_new_privs, by_a_shell) in [(false, "ok"), (true, "EPERM")] {
        let add = ["NET_BIND_SERVICE", "SYS_CHROOT"];
        let mut shape = with_capabilities("file-capabilities", &add, &["ALL"], &[]);
        shape.security().run_as_user = number(101);
        shape.security().no_new_privs = no_new_privs;
        shape.mount(volume, "/volume");
        lab.look(shape, async |inside| {
            same("without", inside.report.capabilities("CapEff"), Some(0))?;
            let shell = ["sh", "-c", "/volume/program try chroot=/tmp; true"];
            let direct = ["/volume/program", "try", "chroot=/tmp"];
            for (command, expected) in [(&shell[..], by_a_shell), (&direct, "ok")] {
                let outcome = inside.run(command).await?;
                let name = format!("{command:?}, no_new_privs {no_new_privs}");
                same(&name, outcome.trim(), expected)?;
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}
