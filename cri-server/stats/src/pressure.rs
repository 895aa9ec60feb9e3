//! Pressure stall information: `cpu.pressure`, `memory.pressure` and `io.pressure` (psi.rst).

use skiff_cri::v1 as cri;

/// How much of a cgroup's time was lost to waiting for one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// While some of its tasks waited.
    pub some: Option<Stall>,
    /// While all of them did.
    pub full: Option<Stall>,
}

/// One line of such a file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Per cent of the last 10 seconds.
    pub avg10: f64,
    /// Per cent of the last minute.
    pub avg60: f64,
    /// Per cent of the last 5 minutes.
    pub avg300: f64,
    /// In all, in microseconds.
    pub total: u64,
}

impl Pressure {
    /// Reads the file's text; `None` when it has no line that can be understood.
    pub fn parse(text: &str) -> Option<Self> {
        let mut pressure = Self::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("some", rest)) => pressure.some = Stall::parse(rest),
                Some(("full", rest)) => pressure.full = Stall::parse(rest),
                _ => {}
            }
        }
        (pressure != Self::default()).then_some(pressure)
    }

    /// Nothing has waited for some minutes: its averages no longer change by themselves.
    pub fn is_calm(self) -> bool {
        let stalls = [self.some, self.full];
        let mut stalls = stalls.into_iter().flatten();
        stalls.all(|stall| (stall.avg10, stall.avg60, stall.avg300) == (0.0, 0.0, 0.0))
    }

    /// In the words of the CRI, whose totals are nanoseconds.
    pub fn to_cri(self) -> cri::PsiStats {
        let data = |stall: Stall| cri::PsiData {
            total: stall.total.saturating_mul(1000),
            avg10: stall.avg10,
            avg60: stall.avg60,
            avg300: stall.avg300,
        };
        cri::PsiStats {
            full: self.full.map(data),
            some: self.some.map(data),
        }
    }
}

impl Stall {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut value = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=');
        let share = |text: &str| {
            let share: f64 = text.parse().ok()?;
            (share.is_finite() && share >= 0.0).then_some(share)
        };
        Some(Self {
            avg10: share(value("avg10")?)?,
            avg60: share(value("avg60")?)?,
            avg300: share(value("avg300")?)?,
            total: value("total")?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lines() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=1234\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let pressure = Pressure::parse(text).unwrap();
        let some = pressure.some.unwrap();
        assert!((some.avg10 - 1.5).abs() < f64::EPSILON && some.total == 1234);
        let told = pressure.to_cri();
        assert_eq!(told.some.unwrap().total, 1_234_000);
        assert_eq!(told.full.unwrap().total, 7000);
    }

    #[test]
    fn older_kernels_have_one_line_for_the_processor() {
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        let pressure = Pressure::parse(text).unwrap();
        assert!(pressure.some.is_some() && pressure.full.is_none());
    }

    #[test]
    fn nonsense_is_nothing() {
        for text in [
            "",
            "some",
            "some avg10=nan avg60=0.00 avg300=0.00 total=0",
            "some avg10=-1 avg60=0.00 avg300=0.00 total=0",
            "some avg60=0.00 avg10=0.00 avg300=0.00 total=0",
            "half avg10=0.00 avg60=0.00 avg300=0.00 total=0",
        ] {
            assert_eq!(Pressure::parse(text), None, "{text}");
        }
    }
}
