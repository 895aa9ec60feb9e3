//! The profile behind `RuntimeDefault`.
//!
//! It is data, `profiles/runtime-default.json`, in the format that users' profiles have too. What
//! it decides about calls that are a matter of choice is said in docs/security.md.

use std::sync::LazyLock;

use crate::profile::Profile;

/// Version of the profile, raised whenever what it allows changes.
pub const VERSION: &str = "1";

static PROFILE: LazyLock<Profile> = LazyLock::new(|| {
    let json = include_bytes!("../profiles/runtime-default.json");
    Profile::parse(json).expect("the profile is part of the program, and a test reads it")
});

/// Our own profile: all that programs commonly need, but what a kernel is commonly attacked by.
pub fn runtime_default() -> &'static Profile {
    &PROFILE
}
