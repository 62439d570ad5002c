//! RFC 3339 with nanoseconds, trailing zeros trimmed, as Go prints it; the second is formatted or parsed only once.

const DAY: i64 = 86_400;
const SECOND: i64 = 1_000_000_000;

/// Nanoseconds since the epoch by the host's clock.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Writes times; remembers the text of the last second.
#[derive(Debug)]
pub struct TimeText {
    second: i64,
    text: [u8; 19],
}

impl Default for TimeText {
    fn default() -> Self {
        Self { second: i64::MIN, text: *b"0000-00-00T00:00:00" }
    }
}

impl TimeText {
    /// Appends `nanos` as `2006-01-02T15:04:05.999999999Z`.
    pub fn put(&mut self, nanos: i64, out: &mut Vec<u8>) {
        let second = nanos.div_euclid(SECOND);
        if second != self.second {
            self.text = format_second(second);
            self.second = second;
        }
        out.extend_from_slice(&self.text);
        let mut fraction = nanos.rem_euclid(SECOND);
        if fraction > 0 {
            let mut digits = *b".000000000";
            for digit in digits[1..].iter_mut().rev() {
                *digit = b'0' + (fraction % 10) as u8;
                fraction /= 10;
            }
            let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
            out.extend_from_slice(&digits[..digits.len() - zeros]);
        }
        out.push(b'Z');
    }
}

/// `2006-01-02T15:04:05` of seconds since the epoch. Years beyond 9999 do not occur: 64 bits of nanoseconds end in 2262.
fn format_second(second: i64) -> [u8; 19] {
    let (year, month, day) = civil(second.div_euclid(DAY));
    let of_day = second.rem_euclid(DAY);
    let mut text = *b"0000-00-00T00:00:00";
    let mut put = |at: usize, len: usize, mut value: i64| {
        for digit in text[at..at + len].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(0, 4, year);
    put(5, 2, month);
    put(8, 2, day);
    put(11, 2, of_day / 3600);
    put(14, 2, of_day / 60 % 60);
    put(17, 2, of_day % 60);
    text
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar; years counted from March make leap days last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of `civil`.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Reads times; remembers the last second.
#[derive(Debug, Default)]
pub struct TimeParser {
    text: [u8; 19],
    second: i64,
}

impl TimeParser {
    /// Nanoseconds since the epoch of RFC 3339 text; what 64 bits cannot hold is cut to their ends.
    pub fn parse(&mut self, text: &[u8]) -> Option<i64> {
        let (head, rest) = text.split_first_chunk::<19>()?;
        if *head != self.text {
            self.second = parse_second(head)?;
            self.text = *head;
        }
        let (fraction, zone) = parse_fraction(rest)?;
        let offset = parse_zone(zone)?;
        Some((self.second - offset).saturating_mul(SECOND).saturating_add(fraction))
    }
}

fn parse_second(text: &[u8; 19]) -> Option<i64> {
    let shape = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if shape.iter().any(|(at, byte)| text[*at] != *byte) {
        return None;
    }
    let day = days(number(&text[..4])?, number(&text[5..7])?, number(&text[8..10])?);
    Some(day * DAY + number(&text[11..13])? * 3600 + number(&text[14..16])? * 60 + number(&text[17..19])?)
}

fn parse_fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', digits)) = text.split_first() else { return Some((0, text)) };
    let mut value = 0;
    let mut count = 0;
    while let Some(digit) = digits.get(count).filter(|byte| byte.is_ascii_digit()) {
        if count < 9 {
            value = value * 10 + i64::from(digit - b'0');
        }
        count += 1;
    }
    for _ in count..9 {
        value *= 10;
    }
    (count > 0).then(|| (value, &digits[count..]))
}

/// Seconds east of Greenwich.
fn parse_zone(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let seconds = number(&[*h1, *h2])? * 3600 + number(&[*m1, *m2])? * 60;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn text(nanos: i64) -> String {
        let mut out = Vec::new();
        TimeText::default().put(nanos, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn zeros_are_trimmed_as_go_does() {
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(1_700_000_000_120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(text(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
    }

    #[test]
    fn zones_and_refusals() {
        let parse = |text: &str| TimeParser::default().parse(text.as_bytes());
        assert_eq!(parse("1970-01-01T02:00:00.5+02:00"), Some(500_000_000));
        for bad in ["", "1970-01-01", "1970-01-01T00:00:00", "1970-01-01T00:00:00.Z", "1970x01-01T00:00:00Z"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_jiff_agrees(nanos in 0..i64::MAX) {
            let written = text(nanos);
            prop_assert_eq!(TimeParser::default().parse(written.as_bytes()), Some(nanos));
            let theirs: jiff::Timestamp = written.parse().unwrap();
            prop_assert_eq!(theirs.as_nanosecond(), i128::from(nanos));
        }
    }
}
