//! What other runtimes say.

use serde_json::Value;
use skiff_cri_server::handler::external::Answer;
use skiff_shim::external::words;

/// What `features` prints, a log and a pid file, as sections. An answer that does not name user
/// namespaces says nothing of them; what is told of a log is the message of one of its lines; a pid
/// is above zero.
pub fn runtime_words(data: &[u8]) {
    let [features, log, pid] = crate::sections(data);
    // A value that nobody asked for may be no text.
    if let Ok(answer) = Answer::read(features)
        && let Ok(whole) = serde_json::from_slice::<Value>(features)
    {
        let named = whole["linux"]["namespaces"].as_array();
        let named = named.is_some_and(|kinds| kinds.iter().any(|kind| kind == "user"));
        assert_eq!(answer.joins_user_namespaces(), named);
    }
    if let Some(told) = words::last_error(log) {
        assert!(told.chars().count() <= words::LONGEST);
        let lines = log.split(|byte| *byte == b'\n');
        let mut entries = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        assert!(entries.any(|entry| {
            let message = entry["msg"].as_str();
            message.is_some_and(|message| message.starts_with(&told))
        }));
    }
    if let Some(pid) = std::str::from_utf8(pid).ok().and_then(words::pid) {
        assert!(pid.as_raw_nonzero().get() > 0);
    }
}
