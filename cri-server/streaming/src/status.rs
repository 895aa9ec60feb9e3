//! How a command ended, in the words of the error stream: a `Status` of the Kubernetes API from
//! the fourth version of the protocol on, plain text before.

use serde_json::{Value, json};

use crate::command::Exit;

/// As JSON.
pub(crate) fn json(exit: &Exit) -> String {
    let status: Value = match exit {
        Exit::Code(0) | Exit::Ended => json!({"metadata": {}, "status": "Success"}),
        Exit::Code(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": said(*code),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Exit::Failed(message) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: {message}"),
            "reason": "InternalError",
            "details": {"causes": [{"message": message}]},
            "code": 500,
        }),
    };
    status.to_string()
}

/// As text; empty after a success.
pub(crate) fn text(exit: &Exit) -> String {
    match exit {
        Exit::Code(0) | Exit::Ended => String::new(),
        Exit::Code(code) => said(*code),
        Exit::Failed(message) => message.clone(),
    }
}

fn said(code: i32) -> String {
    format!("command terminated with non-zero exit code: exit status {code}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_finds_the_exit_code() {
        let status: Value = serde_json::from_str(&json(&Exit::Code(3))).unwrap();
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0]["reason"], "ExitCode");
        assert_eq!(status["details"]["causes"][0]["message"], "3");
        for exit in [Exit::Code(0), Exit::Ended] {
            let status: Value = serde_json::from_str(&json(&exit)).unwrap();
            assert_eq!(status["status"], "Success");
            assert_eq!(text(&exit), "");
        }
        assert!(text(&Exit::Code(3)).ends_with(" 3"));
        assert!(json(&Exit::Failed("no \"such\"".into())).contains(r#"no \"such\""#));
    }
}
