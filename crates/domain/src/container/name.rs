//! Names of containers: which are allowed, and new ones made up.

use rand::RngExt as _;

use crate::{Error, Result};

/// Strips one leading slash and checks `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
/// `InvalidParameter` `Invalid container name (x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`.
pub fn check(name: &str) -> Result<String> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let bytes = bare.as_bytes();
    let allowed = bytes.len() >= 2
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b));
    if allowed {
        Ok(bare.to_owned())
    } else {
        Err(Error::invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
    }
}

/// `adjective_surname`, with a digit behind it on later tries.
pub fn generate(attempt: u32) -> String {
    let mut rng = rand::rng();
    let adjective = ADJECTIVES[rng.random_range(0..ADJECTIVES.len())];
    let surname = SURNAMES[rng.random_range(0..SURNAMES.len())];
    if attempt == 0 {
        format!("{adjective}_{surname}")
    } else {
        format!("{adjective}_{surname}{}", rng.random_range(0..10))
    }
}

const ADJECTIVES: &[&str] = &[
    "agile",
    "amber",
    "ample",
    "ardent",
    "balmy",
    "bold",
    "brave",
    "breezy",
    "bright",
    "brisk",
    "calm",
    "candid",
    "careful",
    "cheery",
    "civil",
    "clear",
    "clever",
    "cosy",
    "crisp",
    "curious",
    "daring",
    "deft",
    "diligent",
    "dreamy",
    "durable",
    "eager",
    "earnest",
    "early",
    "fair",
    "famous",
    "fearless",
    "fluent",
    "fond",
    "frank",
    "fresh",
    "gallant",
    "gentle",
    "glad",
    "golden",
    "graceful",
    "hardy",
    "hasty",
    "honest",
    "humble",
    "ideal",
    "jolly",
    "jovial",
    "joyful",
    "keen",
    "kind",
    "lively",
    "loyal",
    "lucid",
    "lucky",
    "mellow",
    "merry",
    "mighty",
    "modest",
    "neat",
    "nimble",
    "noble",
    "patient",
    "placid",
    "plucky",
    "polite",
    "prompt",
    "proud",
    "quick",
    "quiet",
    "rapid",
    "ready",
    "robust",
    "rustic",
    "serene",
    "sharp",
    "silent",
    "sincere",
    "smart",
    "snug",
    "solid",
    "sparkling",
    "spry",
    "steady",
    "sturdy",
    "sunny",
    "swift",
    "tidy",
    "tranquil",
    "trusty",
    "upbeat",
    "valiant",
    "vivid",
    "warm",
    "watchful",
    "wise",
    "witty",
    "worthy",
    "zealous",
];

/// Scientists and engineers.
const SURNAMES: &[&str] = &[
    "abel",
    "ampere",
    "archimedes",
    "armstrong",
    "avogadro",
    "babbage",
    "banach",
    "bardeen",
    "bernoulli",
    "bessemer",
    "bohr",
    "boltzmann",
    "boole",
    "bose",
    "brunel",
    "cantor",
    "carnot",
    "carver",
    "cauchy",
    "cavendish",
    "chandra",
    "church",
    "copernicus",
    "coulomb",
    "curie",
    "dalton",
    "darwin",
    "davy",
    "descartes",
    "diesel",
    "dijkstra",
    "dirac",
    "edison",
    "eiffel",
    "einstein",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fourier",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "godel",
    "hamilton",
    "hamming",
    "hawking",
    "heisenberg",
    "hertz",
    "hilbert",
    "hodgkin",
    "hooke",
    "hopper",
    "hubble",
    "huygens",
    "joule",
    "kelvin",
    "kepler",
    "knuth",
    "kovalevskaya",
    "lagrange",
    "lamarr",
    "laplace",
    "leibniz",
    "linnaeus",
    "lovelace",
    "marconi",
    "maxwell",
    "mccarthy",
    "meitner",
    "mendel",
    "mendeleev",
    "mirzakhani",
    "napier",
    "newton",
    "nobel",
    "noether",
    "ohm",
    "pascal",
    "pasteur",
    "pauli",
    "payne",
    "planck",
    "poincare",
    "pythagoras",
    "ramanujan",
    "ramsay",
    "riemann",
    "rontgen",
    "rutherford",
    "schrodinger",
    "shannon",
    "siemens",
    "somerville",
    "stephenson",
    "telford",
    "tesla",
    "turing",
    "volta",
    "watt",
    "wright",
    "wu",
    "yukawa",
    "zuse",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_slash_is_stripped_and_two_characters_are_needed() {
        assert_eq!(check("/web").unwrap(), "web");
        for bad in ["", "a", "/a", "//web", "-x", "a b", "wéb", "a/b", "web\n", &"\u{202e}x".repeat(2)] {
            let error = check(bad).unwrap_err();
            assert_eq!(
                error.message(),
                format!("Invalid container name ({bad}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
            );
        }
    }

    #[test]
    fn made_up_names_are_allowed_ones() {
        for attempt in 0..200 {
            let name = generate(attempt % 3);
            assert_eq!(check(&name).unwrap(), name);
            assert!(name.contains('_'));
        }
        assert!(generate(1).ends_with(|c: char| c.is_ascii_digit()));
    }
}
