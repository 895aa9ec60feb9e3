//! Any archive, any bytes.

use super::*;

#[derive(Debug, Clone)]
struct Foreign {
    kind: Kind,
    name: String,
    link: String,
}

fn foreign() -> impl Strategy<Value = Foreign> {
    let kind = prop_oneof![
        Just(Kind::File),
        Just(Kind::Directory),
        Just(Kind::Symlink),
        Just(Kind::HardLink),
    ];
    let name = "(/?(\\.\\.|a|b|O)(/(\\.\\.|a|b|secret|\\.wh\\.a)){0,3})";
    (kind, name, name).prop_map(|(kind, name, link)| Foreign { kind, name, link })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_archive_writes_outside(entries in proptest::collection::vec(foreign(), 1..14)) {
        let place = Place::new();
        let outside = place.dir.path().join("outside");
        let mut archive = Archive::new().symlink("O", outside.to_str().unwrap());
        for Foreign { kind, name, link } in &entries {
            let link = link.replace('O', outside.to_str().unwrap());
            let link = if link.len() < 100 { link } else { "/".into() };
            archive = match kind {
                Kind::Directory => archive.dir(name, 0o755),
                Kind::Symlink => archive.symlink(name, &link),
                Kind::HardLink => archive.link(name, &link),
                _ => archive.file(name, "overwritten"),
            };
        }
        let below = Place::new();
        symlink(&outside, below.path("b")).unwrap();
        if let Ok(mut done) = place.extract(archive) {
            let _ = graft(&place.fs(), &mut done, &[below.fs()], LIMITS);
        }
        place.assert_outside_untouched();
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 512..2048)) {
        // A right checksum, or nothing would get past the first check.
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes[..512].iter().map(|b| u32::from(*b)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut reader = Reader::new(bytes.as_slice());
        while let Ok(Some(_)) = reader.next() {}
    }

    #[test]
    fn names_and_data_come_back(
        files in proptest::collection::vec(("[a-z]{1,150}", proptest::collection::vec(any::<u8>(), 0..1500)), 0..6)
    ) {
        let mut builder = Builder::new(Vec::new());
        for (name, data) in &files {
            let mut header = Header::new_gnu();
            header.set_size(data.len() as u64);
            builder.append_data(&mut header, name, data.as_slice()).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let mut reader = Reader::new(bytes.as_slice());
        for (name, data) in &files {
            let entry = reader.next().unwrap().unwrap();
            prop_assert_eq!(&entry.path, name.as_bytes());
            let mut read = Vec::new();
            loop {
                let part = reader.data().unwrap().to_vec();
                if part.is_empty() {
                    break;
                }
                reader.consume(part.len());
                read.extend(part);
            }
            prop_assert_eq!(&read, data);
        }
        prop_assert!(reader.next().unwrap().is_none());
    }
}
