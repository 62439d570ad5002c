//! The host's `ps`, filtered to a container's processes, as dockerd's top does it.

use std::{
    io,
    process::{Output, Stdio},
    time::Duration,
};

use gantry_domain::{Error, Result};
use tokio::process::Command;

/// A `ps` that takes longer is ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Titles and rows. The arguments go to `ps` as words; those that would hide the PID column are refused.
pub(super) async fn run(pids: &[u32], args: &str) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    refuse_titles(args)?;
    let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    // `-q` shows only what is asked, and may not be joined with a selection such as `-e`: then the whole is filtered.
    let words: Vec<&str> = args.split_whitespace().collect();
    let quick = output(Command::new("ps").args(&words).arg("-q").arg(&list)).await;
    let output = match quick {
        Ok(output) if output.status.success() => output,
        _ => output(Command::new("ps").args(&words))
            .await
            .map_err(|error| Error::system(format!("error running ps: {error}")))?,
    };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::system(format!("ps: {}", text.lines().next().unwrap_or("failed"))));
    }
    parse(&String::from_utf8_lossy(&output.stdout), pids)
}

/// What a command prints; one that waits (for a name service that does not answer, say) is ended.
async fn output(command: &mut Command) -> io::Result<Output> {
    let ended = tokio::time::timeout(PATIENCE, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
    ended.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {PATIENCE:?}"))))
}

/// A header such as `o pid=PROCESS` would rename the PID column.
fn refuse_titles(args: &str) -> Result<()> {
    for word in args.split_whitespace() {
        if let Some((name, title)) = word.split_once('=')
            && title != "PID"
            && name.trim_start_matches("-o").rsplit(',').next() == Some("pid")
        {
            return Err(Error::invalid(format!("specifying \"{word}\" is not allowed")));
        }
    }
    Ok(())
}

fn parse(text: &str, pids: &[u32]) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let column = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| Error::system("Couldn't find PID field in ps output"))?;
    let mut rows = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let row = fields(line, titles.len());
        let pid = row.get(column).and_then(|text| text.parse::<u32>().ok());
        let Some(pid) = pid else {
            return Err(Error::system(format!("Unexpected pid '{}'", row.get(column).map_or("", String::as_str))));
        };
        if pids.contains(&pid) {
            rows.push(row);
        }
    }
    Ok((titles, rows))
}

/// Words of a line; the last column takes what is left.
fn fields(line: &str, columns: usize) -> Vec<String> {
    let mut rest = line.trim_start();
    let mut row = Vec::with_capacity(columns);
    while row.len() + 1 < columns && !rest.is_empty() {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        row.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    row.push(rest.trim_end().to_owned());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_takes_the_rest_of_the_line() {
        let (titles, rows) = parse("UID   PID CMD\nroot   12 sh -c  x\nroot 13 other\n", &[12]).expect("well formed");
        assert_eq!(titles, ["UID", "PID", "CMD"]);
        assert_eq!(rows, [["root", "12", "sh -c  x"]]);
    }

    #[test]
    fn a_ps_without_a_pid_column_is_an_error() {
        let error = parse("UID CMD\n", &[]).expect_err("no column");
        assert_eq!(error.message(), "Couldn't find PID field in ps output");
    }

    #[test]
    fn the_pid_column_keeps_its_title() {
        assert!(refuse_titles("-o pid=X").is_err());
        assert!(refuse_titles("-o pid,comm").is_ok());
    }
}
