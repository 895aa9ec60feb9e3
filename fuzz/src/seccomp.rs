//! Seccomp profiles.

use skiff_seccomp::{Profile, Subject, compile};

/// A profile: what is read compiles the same twice or not at all, to whole instructions that the
/// kernel would take.
pub fn seccomp_profile(data: &[u8]) {
    let Ok(profile) = Profile::parse(data) else {
        return;
    };
    let capabilities = profile.capabilities();
    assert!(capabilities.is_sorted());
    let subject = Subject {
        capabilities,
        kernel: (6, 1),
    };
    let Ok(filter) = compile(&profile, &subject) else {
        return;
    };
    let (size, rest) = (filter.program.len() / 8, filter.program.len() % 8);
    assert!(
        rest == 0 && (1..=4096).contains(&size),
        "{size} instructions"
    );
    assert_eq!(filter.flags & !0b10_0110, 0, "{:#x}", filter.flags);
    assert_eq!(filter.listener, profile.listener());
    let again = compile(&profile, &subject).expect("compiled before");
    assert!(again == filter, "compiled twice, to different programs");
}
