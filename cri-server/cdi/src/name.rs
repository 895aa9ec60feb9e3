//! Names of devices: `vendor.com/class=name`.

use std::fmt;
use std::str::FromStr;

use crate::CdiError;

/// A device's full name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName {
    /// `vendor.com/class`.
    pub kind: Kind,
    /// The name among the devices of that kind.
    pub name: String,
}

/// A kind of devices: `vendor.com/class`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    vendor: String,
    class: String,
}

impl FromStr for Kind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (vendor, class) = text
            .split_once('/')
            .ok_or("a kind is a vendor, a slash and a class")?;
        if !is_word(vendor, "_-.", char_is_letter) {
            return Err("the vendor is not made of letters, digits, _, - and .");
        }
        if !is_word(class, "_-.", char_is_letter) {
            return Err("the class is not made of letters, digits, _, - and .");
        }
        Ok(Self {
            vendor: vendor.to_owned(),
            class: class.to_owned(),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vendor, self.class)
    }
}

impl FromStr for DeviceName {
    type Err = CdiError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let failed = |reason| CdiError::Name {
            text: text.to_owned(),
            reason,
        };
        let (kind, name) = text
            .split_once('=')
            .ok_or_else(|| failed("it has the form vendor.com/class=name"))?;
        check_device(name).map_err(failed)?;
        Ok(Self {
            kind: kind.parse().map_err(failed)?,
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.name)
    }
}

/// Whether a device may have this name among those of its kind.
pub(crate) fn check_device(name: &str) -> Result<(), &'static str> {
    if is_word(name, "_-.:", |c| c.is_ascii_alphanumeric()) {
        Ok(())
    } else {
        Err("the device is not made of letters, digits, _, -, . and :")
    }
}

fn char_is_letter(c: char) -> bool {
    c.is_ascii_alphabetic()
}

/// Letters, digits and `others`, the first as `first` says, the last a letter or digit.
fn is_word(text: &str, others: &str, first: impl Fn(char) -> bool) -> bool {
    text.starts_with(first)
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_have_a_vendor_a_class_and_a_device() {
        for good in [
            "vendor.com/class=name",
            "nvidia.com/gpu=0",
            "nvidia.com/gpu=GPU-4cf8db2d:1",
            "k8s.test-driver.io/claim=a.b_c",
        ] {
            let name: DeviceName = good.parse().unwrap();
            assert_eq!(name.to_string(), good);
        }
        for bad in [
            "",
            "gpu0",
            "vendor.com/class",
            "vendor.com/class=",
            "vendor.com=name",
            "/class=name",
            "vendor.com/=name",
            "1vendor.com/class=name",
            "vendor.com/class=-name",
            "vendor.com/class=name:",
            "vendor.com/class=na me",
            "vendor.com/cl/ass=name",
        ] {
            let error = bad.parse::<DeviceName>().unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_a_name_stays_one(text: String) {
            if let Ok(name) = text.parse::<DeviceName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
