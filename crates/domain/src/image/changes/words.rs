//! Words of an instruction: quotes, backslashes and variables taken as the Dockerfile takes them.

use std::{iter::Peekable, str::Chars};

use crate::{Error, Result};

/// The words of a text; the environment is `KEY=value`, and a variable that is not in it is empty.
pub fn words(text: &str, env: &[String]) -> Result<Vec<String>> {
    split(text, env, true)
}

/// The text as one word.
pub fn expand(text: &str, env: &[String]) -> Result<String> {
    Ok(split(text, env, false)?.pop().unwrap_or_default())
}

fn split(text: &str, env: &[String], at_blanks: bool) -> Result<Vec<String>> {
    let (mut words, mut word, mut quote, mut started) = (Vec::new(), String::new(), None, false);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                word.extend(characters.next());
                started = true;
            }
            ('$', None | Some('"')) => {
                word.push_str(&variable(&mut characters, env)?);
                started = true;
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => (quote, started) = (Some(c), true),
            (c, None) if c.is_whitespace() && at_blanks => {
                if started {
                    words.push(std::mem::take(&mut word));
                    started = false;
                }
            }
            (c, _) => {
                word.push(c);
                started = true;
            }
        }
    }
    if quote.is_some() {
        return Err(Error::invalid("unexpected end of statement while looking for matching quote"));
    }
    if started {
        words.push(word);
    }
    Ok(words)
}

/// What follows a dollar sign: `NAME`, `{NAME}`, `{NAME:-else}`, `{NAME:+then}`, or nothing that names a variable.
fn variable(characters: &mut Peekable<Chars<'_>>, env: &[String]) -> Result<String> {
    let braced = characters.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(c) = characters.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(c);
    }
    let value = value_of(&name, env);
    if !braced {
        return Ok(if name.is_empty() { "$".to_owned() } else { value.to_owned() });
    }
    let (mut rest, mut depth) = (String::new(), 1);
    for c in characters.by_ref() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return modified(value, &rest, env);
        }
        rest.push(c);
    }
    Err(Error::invalid("syntax error: missing '}'"))
}

fn modified(value: &str, modifier: &str, env: &[String]) -> Result<String> {
    match (modifier.strip_prefix(":-"), modifier.strip_prefix(":+")) {
        _ if modifier.is_empty() => Ok(value.to_owned()),
        (Some(other), _) if value.is_empty() => expand(other, env),
        (Some(_), _) => Ok(value.to_owned()),
        (_, Some(other)) if !value.is_empty() => expand(other, env),
        (_, Some(_)) => Ok(String::new()),
        _ => Err(Error::invalid(format!("unsupported modifier ({modifier}) in substitution"))),
    }
}

fn value_of<'a>(name: &str, env: &'a [String]) -> &'a str {
    let named = |variable: &&String| variable.split_once('=').is_some_and(|(key, _)| key == name);
    env.iter().rfind(named).and_then(|variable| variable.split_once('=')).map_or("", |(_, value)| value)
}
