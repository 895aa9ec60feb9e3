//! What others have installed: devices that vendors describe, runtimes of handlers.

use skiff_cdi::Overview;
use skiff_config::Config;

use super::Finding;
use crate::handler::external;

/// What the CDI directories hold.
pub fn cdi(overview: &Overview) -> Vec<Finding> {
    let mut findings = vec![match overview.devices.len() {
        0 => Finding::fine("CDI devices", "none"),
        1 => Finding::fine("CDI devices", "1"),
        number => Finding::fine("CDI devices", number.to_string()),
    }];
    findings.extend(overview.problems.iter().map(|problem| {
        let found = format!("{}: {}", problem.path.display(), problem.reason);
        let advice = "mend or remove the file: its devices cannot be had";
        Finding::warning("CDI file", found, advice)
    }));
    findings
}

/// The runtimes of handlers, and whether they answer.
pub fn handlers(config: &Config) -> Vec<Finding> {
    let of_another = |(name, handler): (&_, &skiff_config::Handler)| {
        let path = handler.path.as_ref()?.as_path();
        Some(match external::ask(path, &handler.arguments) {
            Ok(answer) => {
                let user = if answer.joins_user_namespaces() {
                    "joins user namespaces"
                } else {
                    "no user namespaces"
                };
                Finding::fine("handler", format!("{name}: {}, {user}", path.display()))
            }
            Err(reason) => {
                let advice = "install the program, or mend runtime.handlers";
                Finding::warning("handler", format!("{name}: {reason}"), advice)
            }
        })
    };
    config
        .runtime
        .handlers
        .iter()
        .filter_map(of_another)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;
    use skiff_config::Overrides;

    #[test]
    fn a_cdi_file_that_does_not_count_is_told_with_its_path() {
        let problem = skiff_cdi::Problem {
            path: "/etc/cdi/x.yaml".into(),
            reason: "no kind".into(),
        };
        let overview = Overview {
            devices: Vec::new(),
            problems: vec![problem],
        };
        let findings = cdi(&overview);
        assert_eq!(findings[0].severity, Severity::Fine);
        assert_eq!(findings[1].severity, Severity::Warning);
        assert_eq!(findings[1].found, "/etc/cdi/x.yaml: no kind");
    }

    #[test]
    fn a_handler_whose_program_does_not_answer_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("skiff.toml");
        let text = "[runtime.handlers.a]\npath = '/no/runc'\n[runtime.handlers.b]\n";
        std::fs::write(&file, text).unwrap();
        let config = Config::load(Some(&file), &Overrides::default()).unwrap();
        let findings = handlers(&config.config);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].severity, Severity::Warning);
        assert!(
            findings[0].found.starts_with("a: run /no/runc"),
            "{findings:?}"
        );
    }
}
