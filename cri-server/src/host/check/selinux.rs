//! SELinux, judged.

use skiff_config::Config;
use skiff_spec::SeLinux;

use super::Finding;

/// Whether pods are labelled.
pub fn selinux(selinux: &SeLinux, config: &Config) -> Finding {
    let name = "SELinux";
    match selinux {
        SeLinux::Disabled => Finding::fine(name, "not enabled"),
        _ if !config.runtime.selinux => {
            let advice = "without runtime.selinux = false pods are labelled";
            Finding::warning(name, "enabled, and pods are not labelled", advice)
        }
        SeLinux::Unusable(reason) => Finding::warning(
            name,
            format!("enabled, and pods are not labelled: {reason}"),
            "install the policy's part for containers (container-selinux)",
        ),
        SeLinux::Ready(contexts) if contexts.unconfined.is_none() => Finding::warning(
            name,
            "the policy has no label for what is not confined: privileged containers, and those with \
             the host's processes or IPC, run in skiffd's own domain",
            "install the policy's part for containers (container-selinux)",
        ),
        SeLinux::Ready(contexts) => {
            let process = &contexts.process;
            Finding::fine(name, format!("pods are labelled {process}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use skiff_spec::selinux::Contexts;

    use super::super::Severity;
    use super::*;

    #[test]
    fn pods_without_labels_are_worth_a_word_where_they_could_have_some() {
        let mut config = Config::default();
        let text = "process = \"u:r:t:s0\"\nfile = \"u:r:f:s0\"\n";
        let ready = SeLinux::Ready(Box::new(Contexts::parse(text).unwrap()));
        let severity = |of: &SeLinux, config: &Config| selinux(of, config).severity;
        assert_eq!(severity(&SeLinux::Disabled, &config), Severity::Fine);
        assert_eq!(severity(&ready, &config), Severity::Fine);
        let unusable = SeLinux::Unusable("no file".into());
        assert_eq!(severity(&unusable, &config), Severity::Warning);
        config.runtime.selinux = false;
        assert_eq!(severity(&ready, &config), Severity::Warning);
        assert_eq!(severity(&SeLinux::Disabled, &config), Severity::Fine);
    }
}
