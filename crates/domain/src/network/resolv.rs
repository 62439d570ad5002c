//! The content of a container's `/etc/resolv.conf` on a network without a resolver of ours.

use std::net::IpAddr;

/// Where the host names no resolver that a container could reach, as in dockerd.
const FALLBACK: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// The host's file with its comments, search and options kept, name servers on loopback left out, and what `--dns`,
/// `--dns-search` and `--dns-option` say in place of the host's. A search of `.` empties the list.
pub fn render(host: &str, dns: &[IpAddr], search: &[String], options: &[String]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut reachable = false;
    for line in host.lines() {
        let keyword = line.split_whitespace().next().unwrap_or_default();
        match keyword {
            "nameserver" if dns.is_empty() => {
                let address = line.split_whitespace().nth(1).unwrap_or_default();
                if is_reachable(address) {
                    reachable = true;
                    lines.push(line.to_owned());
                }
            }
            "nameserver" => {}
            "search" | "domain" if !search.is_empty() => {}
            "options" if !options.is_empty() => {}
            _ => lines.push(line.to_owned()),
        }
    }
    lines.extend(dns.iter().map(|address| format!("nameserver {address}")));
    if dns.is_empty() && !reachable {
        lines.extend(FALLBACK.iter().map(|address| format!("nameserver {address}")));
    }
    if !search.is_empty() && search != ["."] {
        lines.push(format!("search {}", search.join(" ")));
    }
    if !options.is_empty() {
        lines.push(format!("options {}", options.join(" ")));
    }
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// Whether a container with an address of its own can ask this server: loopback is another one there.
pub fn is_reachable(address: &str) -> bool {
    let bare = address.split('%').next().unwrap_or_default();
    bare.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback() && !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_resolvers_never_reach_a_container() {
        let host = "# by hand\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.1.1.1\nsearch a b\noptions edns0\n";
        assert_eq!(render(host, &[], &[], &[]), "# by hand\nnameserver 10.1.1.1\nsearch a b\noptions edns0\n");
        assert_eq!(render("nameserver 127.0.0.1\n", &[], &[], &[]), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }

    #[test]
    fn what_is_typed_takes_the_place_of_the_hosts() {
        let dns = ["1.2.3.4".parse().expect("an address")];
        let rendered = render("nameserver 10.1.1.1\nsearch a\noptions x\n", &dns, &["c".into()], &["ndots:2".into()]);
        assert_eq!(rendered, "nameserver 1.2.3.4\nsearch c\noptions ndots:2\n");
        assert_eq!(render("search a\nnameserver 10.1.1.1\n", &[], &[".".into()], &[]), "nameserver 10.1.1.1\n");
    }
}
