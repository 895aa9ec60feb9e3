//! CDI: descriptions of devices.

use skiff_cdi::{Cdi, DeviceName, Document, requested};

const COUNTER: &str = r#"{"cdiVersion":"0.6.0","kind":"fuzz.test/other","devices":[{"name":"x"}]}"#;

/// A document as JSON and as YAML: refused with a reason, or its devices can be had by name. The
/// file beside it is read all the same. The bytes as names are those of devices or are not.
pub fn cdi_document(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let json = Document::from_json(text);
    let yaml = Document::from_yaml(text);
    for error in [json.as_ref().err(), yaml.as_ref().err()]
        .into_iter()
        .flatten()
    {
        assert!(!error.to_string().is_empty());
    }
    let dir = crate::scratch();
    std::fs::write(dir.path().join("a.yaml"), text).expect("write a document");
    std::fs::write(dir.path().join("b.json"), COUNTER).expect("write a document");
    let cdi = Cdi::new(vec![dir.path().to_owned()]);
    if let Ok((kind, document)) = &yaml {
        for device in &document.devices {
            let name: DeviceName = format!("{kind}={}", device.name)
                .parse()
                .expect("what is described has a name");
            let edits = cdi.edits(std::slice::from_ref(&name));
            // Unless the other document has the same.
            if name.to_string() != "fuzz.test/other=x" {
                let edits = edits.expect("what is described can be had");
                assert_eq!(
                    **edits.last().expect("its own changes"),
                    device.container_edits
                );
            }
        }
    } else {
        let other = requested(["fuzz.test/other=x"], []).expect("a name");
        assert_eq!(cdi.edits(&other).expect("the other document").len(), 1);
    }
    if let Ok(names) = requested([], [("cdi.k8s.io/x", text)]) {
        let text: Vec<String> = names.iter().map(ToString::to_string).collect();
        let again = requested(text.iter().map(String::as_str), []).expect("names are names");
        assert_eq!(again, names);
    }
}
