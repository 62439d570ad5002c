//! Signals by name and number, as `docker kill -s` and `StopSignal` take them.

use crate::{Error, Result};

pub const SIGKILL: u32 = 9;
pub const SIGTERM: u32 = 15;

const RTMIN: u32 = 34;
const RTMAX: u32 = 64;

/// Linux's numbers on all architectures but MIPS, SPARC, Alpha and PA-RISC, which this engine does not run on.
const NAMES: &[(&str, u32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("UNUSED", 31),
];

/// `KILL`, `SIGKILL`, `9`, `RTMIN+3`; `InvalidParameter` `invalid signal: x`.
pub fn parse(text: &str) -> Result<u32> {
    let number = match text.parse::<u32>() {
        Ok(number) => Some(number),
        Err(_) => by_name(text),
    };
    number
        .filter(|number| (1..=RTMAX).contains(number))
        .ok_or_else(|| Error::invalid(format!("invalid signal: {text}")))
}

fn by_name(text: &str) -> Option<u32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return offset(rest, '+', 15).map(|by| RTMIN + by);
    }
    if let Some(rest) = name.strip_prefix("RTMAX") {
        return offset(rest, '-', 14).map(|by| RTMAX - by);
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// `""` is 0, `+3` is 3; at most `most`, as dockerd's table ends there.
fn offset(rest: &str, sign: char, most: u32) -> Option<u32> {
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix(sign)?;
    digits.parse().ok().filter(|by| digits.bytes().all(|b| b.is_ascii_digit()) && (1..=most).contains(by))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("sigkill", 9),
            ("SigTerm", 15),
            ("RTMIN", 34),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("64", 64),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn anything_else_is_named_in_the_error() {
        for bad in ["0", "-1", "65", "", "SIG", "RTMIN+16", "RTMIN++1", "RTMAX+1", "SIGSIGKILL", "KILL "] {
            assert_eq!(parse(bad).unwrap_err().message(), format!("invalid signal: {bad}"));
        }
    }
}
