//! What a host's policy and a request say of SELinux.

use skiff_spec::selinux::{Contexts, Label, Level, policy_name};

/// Sections: lxc_contexts, /etc/selinux/config, labels and levels, one a line. What is accepted reads
/// the same once written, and has nothing in it that would end an option of a mount.
pub fn selinux_labels(data: &[u8]) {
    let [contexts, config, lines] = crate::sections(data).map(String::from_utf8_lossy);
    if let Ok(contexts) = Contexts::parse(&contexts) {
        let unconfined = contexts.unconfined.iter();
        unconfined
            .chain([&contexts.process, &contexts.file])
            .for_each(label);
    }
    if let Some(name) = policy_name(&config) {
        assert!(!name.contains('/') && !name.starts_with('.'), "{name:?}");
    }
    for line in lines.lines() {
        if let Ok(parsed) = line.parse::<Label>() {
            assert_eq!(parsed.to_string(), line);
            label(&parsed);
        }
        if let Ok(parsed) = line.parse::<Level>() {
            assert_eq!(parsed.to_string(), line);
            level(&parsed);
        }
    }
}

fn label(label: &Label) {
    let text = label.to_string();
    assert_eq!(text.parse::<Label>().as_ref(), Ok(label));
    assert!(!text.contains(['"', '\0', '\n', '\\', ' ']), "{text:?}");
    label.level.iter().for_each(level);
}

fn level(of: &Level) {
    let Some(pair) = of.pair() else { return };
    let own = Level::of_pair(of.sensitivity(), pair);
    assert_eq!(own.to_string().parse::<Level>().as_ref(), Ok(&own));
    assert_eq!(own.pair(), Some(pair), "{of}");
}
