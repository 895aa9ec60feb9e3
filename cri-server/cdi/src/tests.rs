use std::fs;

use super::*;

fn document(env: &str) -> String {
    format!(
        "cdiVersion: 0.6.0\nkind: vendor.com/device\ncontainerEdits:\n  env: [COMMON={env}]\n\
         devices:\n- name: a\n  containerEdits:\n    env: [A={env}]\n\
         - name: b\n  containerEdits:\n    env: [B={env}]\n"
    )
}

fn env(cdi: &Cdi, names: &[&str]) -> Result<Vec<String>, CdiError> {
    let names = requested(names.iter().copied(), [])?;
    let edits = cdi.edits(&names)?;
    Ok(edits.iter().flat_map(|edits| edits.env.clone()).collect())
}

fn two() -> (tempfile::TempDir, Cdi) {
    let dir = tempfile::tempdir().unwrap();
    let dirs = ["low", "high"].map(|name| dir.path().join(name));
    for dir in &dirs {
        fs::create_dir(dir).unwrap();
    }
    let cdi = Cdi::new(dirs.into());
    (dir, cdi)
}

const A: &str = "vendor.com/device=a";
const B: &str = "vendor.com/device=b";

#[test]
fn common_changes_come_once_and_first() {
    let (dir, cdi) = two();
    fs::write(dir.path().join("low/v.yaml"), document("1")).unwrap();
    assert_eq!(env(&cdi, &[A]).unwrap(), ["COMMON=1", "A=1"]);
    assert_eq!(env(&cdi, &[B, A, B]).unwrap(), ["COMMON=1", "B=1", "A=1"]);
    assert!(env(&cdi, &[]).unwrap().is_empty());
}

#[test]
fn the_later_directory_goes_before() {
    let (dir, cdi) = two();
    fs::write(dir.path().join("high/z.yml"), document("high")).unwrap();
    fs::write(dir.path().join("low/a.yaml"), document("low")).unwrap();
    assert_eq!(env(&cdi, &[A]).unwrap(), ["COMMON=high", "A=high"]);
    fs::remove_file(dir.path().join("high/z.yml")).unwrap();
    assert_eq!(env(&cdi, &[A]).unwrap(), ["COMMON=low", "A=low"]);
}

#[test]
fn a_contradiction_within_a_directory_leaves_none() {
    let (dir, cdi) = two();
    fs::write(dir.path().join("low/1.yaml"), document("1")).unwrap();
    fs::write(dir.path().join("low/2.yaml"), document("2")).unwrap();
    let error = env(&cdi, &[A]).unwrap_err().to_string();
    assert!(error.contains(A) && error.contains("1.yaml"), "{error}");
    fs::write(dir.path().join("high/3.yaml"), document("3")).unwrap();
    assert_eq!(env(&cdi, &[A]).unwrap(), ["COMMON=3", "A=3"]);
}

#[test]
fn a_bad_file_takes_nothing_from_the_others_and_is_named() {
    let (dir, cdi) = two();
    fs::write(dir.path().join("low/bad.json"), "{\n  oops").unwrap();
    fs::write(dir.path().join("low/good.yaml"), document("1")).unwrap();
    fs::write(dir.path().join("low/notes.txt"), "not looked at").unwrap();
    fs::create_dir(dir.path().join("low/dir.json")).unwrap();
    assert_eq!(env(&cdi, &[A]).unwrap(), ["COMMON=1", "A=1"]);
    let error = env(&cdi, &["vendor.com/device=c"]).unwrap_err().to_string();
    assert!(error.contains("vendor.com/device=c"), "{error}");
    assert!(
        error.contains("bad.json") && error.contains("line 2"),
        "{error}"
    );
    let overview = cdi.overview();
    assert_eq!(overview.problems.len(), 1);
    assert_eq!(overview.devices.len(), 2);
    assert!(overview.devices[0].1.ends_with("good.yaml"));
}

#[test]
fn changes_are_seen_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let specs = dir.path().join("not/yet");
    let cdi = Cdi::new(vec![specs.clone()]);
    assert!(env(&cdi, &[A]).is_err());
    fs::create_dir_all(&specs).unwrap();
    assert!(env(&cdi, &[A]).is_err());
    let put = |text: &str| {
        let scratch = dir.path().join("scratch");
        fs::write(&scratch, text).unwrap();
        fs::rename(&scratch, specs.join("v.yaml")).unwrap();
    };
    for text in ["1", "2", "3"] {
        put(&document(text));
        assert_eq!(env(&cdi, &[A]).unwrap()[1], format!("A={text}"));
    }
    fs::write(specs.join("v.yaml"), document("4")).unwrap();
    assert_eq!(env(&cdi, &[A]).unwrap()[1], "A=4");
    fs::remove_dir_all(dir.path().join("not")).unwrap();
    assert!(env(&cdi, &[A]).is_err());
}

#[test]
fn without_a_change_nothing_is_read() {
    let (dir, cdi) = two();
    fs::write(dir.path().join("low/v.yaml"), document("1")).unwrap();
    let first = cdi.index();
    assert!(Arc::ptr_eq(&first, &cdi.index()));
    fs::write(dir.path().join("low/w.json"), "{}").unwrap();
    assert!(!Arc::ptr_eq(&first, &cdi.index()));
}

#[test]
fn annotations_and_list_are_united() {
    let annotations = [
        ("cdi.k8s.io/one", "vendor.com/device=b,vendor.com/device=c"),
        ("cdi.k8s.io/two", A),
        ("other.io/x", "not a device"),
    ];
    let names = requested([A], annotations).unwrap();
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    assert_eq!(names, [A, B, "vendor.com/device=c"]);
    let error = requested([], [("cdi.k8s.io/x", "gpu0")]).unwrap_err();
    assert!(error.to_string().contains("\"gpu0\""), "{error}");
}
