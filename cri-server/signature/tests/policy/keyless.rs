//! Signatures by certificates.

use serde_json::{Value, json};
use skiff_signature::Policy;
use skiff_signer::{Authority, Key, Log, Signed, Subject, base64};

use crate::case::{IMAGE, check, manifest, policy, refused};

const EMAIL: &str = "ada@example.com";
const ISSUER: &str = "https://accounts.example.com";
/// 2024-06-15.
const IN_TIME: i64 = 1_718_409_600;

struct Keyless {
    authority: Authority,
    log: Log,
}

impl Keyless {
    fn new() -> Self {
        Self {
            authority: Authority::new(),
            log: Log::default(),
        }
    }

    fn requirement(&self) -> Value {
        json!({
            "type": "sigstoreSigned",
            "fulcio": {"caData": base64(self.authority.root()), "oidcIssuer": ISSUER, "subjectEmail": EMAIL},
            "rekorPublicKeyData": base64(self.log.0.pem()),
        })
    }

    fn policy(&self) -> Policy {
        policy(&self.requirement())
    }

    fn sign(&self, subject: &Subject, time: i64) -> Signed {
        let digest = manifest().to_string();
        self.authority
            .sign_image(&self.log, subject, time, IMAGE, &digest)
    }
}

#[test]
fn a_certificate_counts_for_whom_it_names() {
    let keyless = Keyless::new();
    let (policy, good) = (keyless.policy(), Subject::new(EMAIL, ISSUER));
    check(&policy, &[keyless.sign(&good, IN_TIME)]).unwrap();
    let other = Subject::new("eve@example.com", ISSUER);
    let why = "Required email ada@example.com not found (got [\"eve@example.com\"])";
    refused(&policy, &[keyless.sign(&other, IN_TIME)], why);
    let other = Subject::new(EMAIL, "https://login.example.org");
    refused(
        &policy,
        &[keyless.sign(&other, IN_TIME)],
        "login.example.org",
    );
    let nameless = Subject {
        issuer: None,
        ..good.clone()
    };
    refused(&policy, &[keyless.sign(&nameless, IN_TIME)], "no issuer");
}

#[test]
fn a_certificate_counts_at_its_time_alone() {
    let keyless = Keyless::new();
    let (policy, good) = (keyless.policy(), Subject::new(EMAIL, ISSUER));
    const YEAR: i64 = 31_536_000;
    for time in [IN_TIME - YEAR, IN_TIME + YEAR, 0] {
        refused(&policy, &[keyless.sign(&good, time)], "at ");
    }
    let old = Keyless {
        authority: Authority::lasting(2020, 2023),
        log: Log::default(),
    };
    refused(
        &old.policy(),
        &[old.sign(&good, IN_TIME)],
        "does not lead to a root",
    );
}

#[test]
fn a_certificate_is_for_signing_code() {
    let keyless = Keyless::new();
    for usage in [vec![], vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]] {
        let subject = Subject {
            usage,
            ..Subject::new(EMAIL, ISSUER)
        };
        assert!(check(&keyless.policy(), &[keyless.sign(&subject, IN_TIME)]).is_err());
    }
}

#[test]
fn everything_must_belong_together() {
    let keyless = Keyless::new();
    let policy = keyless.policy();
    let good = keyless.sign(&Subject::new(EMAIL, ISSUER), IN_TIME);
    let with = |change: &dyn Fn(&mut Signed)| {
        let mut signed = good.clone();
        change(&mut signed);
        [signed]
    };
    refused(
        &policy,
        &with(&|signed| signed.chain = None),
        "does not lead to a root",
    );
    refused(
        &policy,
        &with(&|signed| signed.certificate = None),
        "no certificate",
    );
    refused(&policy, &with(&|signed| signed.bundle = None), "no promise");
    refused(
        &policy,
        &with(&|signed| signed.payload = signed.payload.replace("null", "{}")),
        "another payload",
    );
    refused(
        &policy,
        &with(&|signed| signed.signature = Key::new().sign(signed.payload.as_bytes())),
        "another signature",
    );
    let foreign = Keyless {
        authority: Authority::new(),
        log: Log(Key::new()),
    };
    let subject = Subject::new(EMAIL, ISSUER);
    // Another authority's certificate, in the right log.
    let digest = manifest().to_string();
    let forged = foreign
        .authority
        .sign_image(&keyless.log, &subject, IN_TIME, IMAGE, &digest);
    refused(&policy, &[forged], "does not lead to a root");
    // The right authority's, in another log.
    let forged = keyless
        .authority
        .sign_image(&foreign.log, &subject, IN_TIME, IMAGE, &digest);
    refused(&policy, &[forged], "none of the keys of the log");
    // A certificate that was not the signer's, logged with a key's signature.
    let thief = Key::new();
    let mut stolen = thief.sign_image(IMAGE, &digest);
    let certificate = good.certificate.clone().unwrap();
    keyless.log.enter(&mut stolen, &certificate, IN_TIME);
    stolen.certificate = Some(certificate);
    stolen.chain.clone_from(&good.chain);
    refused(&policy, &[stolen], "not made with its certificate's key");
}

#[test]
fn a_promise_with_more_in_it_is_none() {
    let keyless = Keyless::new();
    let mut signed = keyless.sign(&Subject::new(EMAIL, ISSUER), IN_TIME);
    let bundle = signed.bundle.clone().unwrap();
    for (from, to) in [
        (r#""logIndex":7"#, r#""logIndex":8"#),
        (r#""logIndex":7"#, r#""logIndex":7,"x":1"#),
        (r#""logIndex":7"#, r#""logIndex":9007199254740993"#),
        (r#""integratedTime":1718409600"#, r#""integratedTime":-1"#),
    ] {
        assert!(bundle.contains(from), "{bundle}");
        signed.bundle = Some(bundle.replace(from, to));
        refused(
            &keyless.policy(),
            &[signed.clone()],
            "transparency log entry",
        );
    }
}
