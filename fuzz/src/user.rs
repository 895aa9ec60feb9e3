//! What an image says about users and signals.

use skiff_spec::{Signal, UserFiles, resolve_user};

/// Sections: /etc/passwd, /etc/group, users as an image's configuration names them, one a line.
pub fn user_files(data: &[u8]) {
    let [passwd, group, users] = crate::sections(data);
    let files = UserFiles::parse(passwd, group);
    for wanted in String::from_utf8_lossy(users).lines().take(16) {
        let Ok(user) = resolve_user(None, wanted, &files) else {
            continue;
        };
        assert!(
            user.uid != u32::MAX && user.gid != u32::MAX,
            "{wanted:?} is {user:?}"
        );
        assert!(user.groups.is_sorted_by(|a, b| a < b), "{user:?}");
        assert!(user.groups.contains(&user.gid), "{user:?}");
        assert!(
            user.home.as_ref().is_none_or(|home| home.starts_with('/')),
            "{user:?}"
        );
        let (name, group) = wanted.split_once(':').unwrap_or((wanted, ""));
        if let Some(uid) = number(name) {
            assert_eq!(user.uid, uid, "{wanted:?}");
        } else if !name.is_empty() {
            assert!(
                is_entry(passwd, name),
                "{name:?} is in no line of /etc/passwd"
            );
        }
        if let Some(gid) = number(group) {
            assert_eq!(user.gid, gid, "{wanted:?}");
        }
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

fn is_entry(file: &[u8], name: &str) -> bool {
    let start = [name.as_bytes(), b":"].concat();
    file.split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(&start))
}

/// Names of signals, one a line.
pub fn signal_name(data: &[u8]) {
    for text in String::from_utf8_lossy(data).lines() {
        let Some(signal) = Signal::parse(text) else {
            continue;
        };
        assert!((1..=64).contains(&signal.number()), "{text:?} is {signal}");
        assert_eq!(Signal::parse(&signal.to_string()), Some(signal), "{text:?}");
        assert_eq!(Signal::new(signal.number()), Some(signal));
        match Signal::from_cri(signal.to_cri()) {
            Some(same) => assert_eq!(same, signal, "{text:?}"),
            None => assert!(matches!(signal.number(), 32 | 33), "{text:?} is {signal}"),
        }
    }
}
