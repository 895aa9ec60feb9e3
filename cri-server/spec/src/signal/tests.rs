use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Option<i32> {
    Signal::parse(text).map(Signal::number)
}

#[test]
fn names_and_numbers_are_those_of_linux() {
    for (text, number) in [
        ("SIGHUP", 1),
        ("SIGABRT", 6),
        ("SIGIOT", 6),
        ("SIGKILL", 9),
        ("SIGUSR1", 10),
        ("SIGTERM", 15),
        ("term", 15),
        ("SigTerm", 15),
        ("15", 15),
        ("SIGCHLD", 17),
        ("SIGCLD", 17),
        ("SIGURG", 23),
        ("SIGWINCH", 28),
        ("SIGIO", 29),
        ("SIGPOLL", 29),
        ("SIGSYS", 31),
        ("SIGRTMIN", 34),
        ("RTMIN+3", 37),
        ("SIGRTMIN+15", 49),
        ("SIGRTMAX-14", 50),
        ("RTMAX", 64),
        ("64", 64),
    ] {
        assert_eq!(parsed(text), Some(number), "{text}");
    }
}

#[test]
fn other_text_is_no_signal() {
    for text in [
        "",
        "SIG",
        "0",
        "65",
        "-1",
        "+9",
        " 9",
        "SIGFOO",
        "SIGSIGTERM",
        "RTMIN+",
        "RTMIN-1",
        "RTMIN+31",
        "RTMIN++1",
        "RTMAX+1",
        "RTMAX-31",
        "99999999999",
    ] {
        assert_eq!(parsed(text), None, "{text:?}");
    }
}

#[test]
fn every_cri_signal_but_the_default_is_one() {
    assert_eq!(Signal::from_cri(0), None);
    for value in 1..=65 {
        let signal = Signal::from_cri(value).unwrap();
        let back = Signal::from_cri(signal.to_cri()).unwrap();
        assert_eq!(signal, back, "{value}");
    }
    assert_eq!(Signal::from_cri(66), None);
    assert_eq!(Signal::from_cri(23), Some(Signal::TERM));
    assert_eq!(Signal::TERM.to_cri(), 23);
    assert_eq!(Signal::from_cri(35).map(Signal::number), Some(34));
    assert_eq!(Signal::from_cri(51).map(Signal::number), Some(50));
}

#[test]
fn stop_signal_is_the_requests_or_the_images_or_sigterm() {
    let image = |text: &str| ImageConfig {
        stop_signal: text.into(),
        ..Default::default()
    };
    let request = |value: i32| ContainerConfig {
        stop_signal: value,
        ..Default::default()
    };
    let number = |value: i32, text: &str| {
        stop_signal(&request(value), &image(text))
            .map(Signal::number)
            .map_err(|e| e.field().to_owned())
    };
    assert_eq!(number(0, ""), Ok(15));
    assert_eq!(number(0, "SIGQUIT"), Ok(3));
    assert_eq!(number(13, "SIGQUIT"), Ok(9));
    assert_eq!(number(13, "nonsense"), Ok(9));
    assert_eq!(number(0, "nonsense"), Err("image stop signal".into()));
    assert_eq!(number(66, ""), Err("stop_signal".into()));
}

proptest! {
    #[test]
    fn what_is_printed_reads_the_same(number in 1..=RTMAX) {
        let signal = Signal::new(number).unwrap();
        prop_assert_eq!(Signal::parse(&signal.to_string()), Some(signal));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(SIG|sig)?(RTM(IN|AX))?\\PC{0,6}") {
        if let Some(signal) = Signal::parse(&text) {
            prop_assert!((1..=RTMAX).contains(&signal.number()));
        }
    }
}
