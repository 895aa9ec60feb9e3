use proptest::prelude::*;

use super::*;
use crate::cri::Int64Value;

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
    # comment\n\
    broken:x:notanumber:0::/:\n\
    web:x:33:33:www:/var/www:/usr/sbin/nologin\n\
    db:x:70:71::relative:\r\n\
    web:x:99:99:second:/:\n\
    \xff\xfe:x:1:1::/:\n\
    short:x:5:6";
const GROUP: &[u8] =
    b"root:x:0:\nweb:x:33:\nadm:x:4:syslog,web\nvideo:x:44:web,\nstaff:x:50:db\nnomembers:x:60";

fn files() -> UserFiles {
    UserFiles::parse(PASSWD, GROUP)
}

fn user(uid: u32, gid: u32, groups: &[u32], home: Option<&str>) -> User {
    User {
        uid,
        gid,
        groups: groups.to_vec(),
        home: home.map(str::to_owned),
    }
}

fn id(value: i64) -> Option<Int64Value> {
    Some(Int64Value { value })
}

fn of_image(text: &str) -> Result<User, String> {
    resolve_user(None, text, &files()).map_err(|e| e.to_string())
}

#[test]
fn image_users_come_in_four_forms() {
    assert_eq!(of_image(""), Ok(user(0, 0, &[0], Some("/root"))));
    assert_eq!(
        of_image("web"),
        Ok(user(33, 33, &[4, 33, 44], Some("/var/www")))
    );
    assert_eq!(
        of_image("33"),
        Ok(user(33, 33, &[4, 33, 44], Some("/var/www")))
    );
    assert_eq!(of_image("1234"), Ok(user(1234, 0, &[0], None)));
    assert_eq!(
        of_image("web:staff"),
        Ok(user(33, 50, &[4, 44, 50], Some("/var/www")))
    );
    assert_eq!(of_image("1234:5678"), Ok(user(1234, 5678, &[5678], None)));
    assert_eq!(of_image("1234:staff"), Ok(user(1234, 50, &[50], None)));
    assert_eq!(
        of_image("web:7"),
        Ok(user(33, 7, &[4, 7, 44], Some("/var/www")))
    );
    assert_eq!(of_image("web:"), of_image("web"));
    assert_eq!(of_image("short"), Ok(user(5, 6, &[6], None)));
    assert_eq!(
        of_image("db"),
        Ok(user(70, 71, &[50, 71], None)),
        "a relative home is none"
    );
}

#[test]
fn unknown_names_and_impossible_numbers_are_refused() {
    for (text, reason) in [
        (
            "nobody",
            "image user: no user \"nobody\" in the image's /etc/passwd",
        ),
        (
            "broken",
            "image user: no user \"broken\" in the image's /etc/passwd",
        ),
        (
            "web:nogroup",
            "image user: no group \"nogroup\" in the image's /etc/group",
        ),
        (
            "4294967295",
            "image user: 4294967295 is not an id from 0 to 4294967294",
        ),
        (
            "0:4294967296",
            "image user: 4294967296 is not an id from 0 to 4294967294",
        ),
        (
            "+5",
            "image user: no user \"+5\" in the image's /etc/passwd",
        ),
        (
            "-1",
            "image user: no user \"-1\" in the image's /etc/passwd",
        ),
    ] {
        assert_eq!(of_image(text).unwrap_err(), reason);
    }
}

fn of_request(context: LinuxContainerSecurityContext) -> Result<User, String> {
    resolve_user(Some(&context), "web:staff", &files()).map_err(|e| e.field().to_owned())
}

#[test]
fn request_goes_before_image() {
    let none = LinuxContainerSecurityContext::default;
    let uid = LinuxContainerSecurityContext {
        run_as_user: id(70),
        ..none()
    };
    assert_eq!(of_request(uid.clone()), Ok(user(70, 71, &[50, 71], None)));
    let name = LinuxContainerSecurityContext {
        run_as_username: "root".into(),
        ..uid.clone()
    };
    assert_eq!(of_request(name), Ok(user(0, 0, &[0], Some("/root"))));
    let group = LinuxContainerSecurityContext {
        run_as_group: id(9),
        ..uid
    };
    assert_eq!(of_request(group), Ok(user(70, 9, &[9, 50], None)));
    assert_eq!(
        of_request(none()),
        of_image("web:staff").map_err(|_| String::new())
    );
}

#[test]
fn bad_requests_are_refused_by_field() {
    let none = LinuxContainerSecurityContext::default;
    for (field, context) in [
        (
            "run_as_group",
            LinuxContainerSecurityContext {
                run_as_group: id(9),
                ..none()
            },
        ),
        (
            "run_as_user",
            LinuxContainerSecurityContext {
                run_as_user: id(-1),
                ..none()
            },
        ),
        (
            "run_as_user",
            LinuxContainerSecurityContext {
                run_as_user: id(1 << 32),
                ..none()
            },
        ),
        (
            "run_as_username",
            LinuxContainerSecurityContext {
                run_as_username: "x".into(),
                ..none()
            },
        ),
        (
            "supplemental_groups[1]",
            LinuxContainerSecurityContext {
                supplemental_groups: vec![1, -1],
                ..none()
            },
        ),
        (
            "supplemental_groups_policy",
            LinuxContainerSecurityContext {
                supplemental_groups_policy: 2,
                ..none()
            },
        ),
    ] {
        let refused = of_request(context).unwrap_err();
        assert_eq!(refused, format!("linux.security_context.{field}"));
    }
}

#[test]
fn merge_adds_the_images_groups_and_strict_does_not() {
    let context = |policy: SupplementalGroupsPolicy| LinuxContainerSecurityContext {
        run_as_user: id(33),
        supplemental_groups: vec![1234, 33, 1234],
        supplemental_groups_policy: policy as i32,
        ..Default::default()
    };
    let merged = of_request(context(SupplementalGroupsPolicy::Merge)).unwrap();
    assert_eq!(merged.groups, [4, 33, 44, 1234]);
    let strict = of_request(context(SupplementalGroupsPolicy::Strict)).unwrap();
    assert_eq!(strict.groups, [33, 1234]);
}

proptest! {
    #[test]
    fn any_bytes_are_read(passwd: Vec<u8>, group: Vec<u8>, name in "[a-z0-9:]{0,6}") {
        let files = UserFiles::parse(&passwd, &group);
        let _ = resolve_user(None, &name, &files);
    }

    #[test]
    fn a_line_among_garbage_is_found(
        before in "([a-z:0-9]{0,12}\n){0,8}",
        after in "(\n[a-z:0-9]{0,12}){0,8}",
        uid in 0..=MAX_ID,
        gid in 0..=MAX_ID,
    ) {
        let passwd = format!("{before}Zoe:x:{uid}:{gid}::/home/zoe:/bin/sh{after}");
        let files = UserFiles::parse(passwd.as_bytes(), b"");
        let found = resolve_user(None, "Zoe", &files).unwrap();
        prop_assert_eq!(found, user(uid, gid, &[gid], Some("/home/zoe")));
    }

    #[test]
    fn groups_are_sorted_and_hold_the_primary_one(
        group in "([a-z]{1,3}:x:[0-9]{1,3}:(web)?(,db)?\n){0,9}",
        extra in prop::collection::vec(0i64..300, 0..9),
    ) {
        let files = UserFiles::parse(PASSWD, group.as_bytes());
        let context =
            LinuxContainerSecurityContext { supplemental_groups: extra, ..Default::default() };
        let user = resolve_user(Some(&context), "web", &files).unwrap();
        prop_assert!(user.groups.contains(&user.gid));
        prop_assert!(user.groups.is_sorted_by(|a, b| a < b));
    }
}
