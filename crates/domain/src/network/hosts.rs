//! The content of a container's `/etc/hosts`, as dockerd makes it.

use std::{fmt::Write as _, net::IpAddr};

/// The lines that every container has.
const DEFAULT: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// The default lines, the extra hosts (name, address), then the container itself at each of its addresses.
pub fn render(hostname: &str, domainname: &str, addresses: &[IpAddr], extra: &[(String, String)]) -> String {
    change(&append(DEFAULT, extra), hostname, domainname, addresses, &[])
}

/// A hosts file with lines for the container's new addresses and without those of its old ones.
pub fn change(content: &str, hostname: &str, domainname: &str, new: &[IpAddr], old: &[IpAddr]) -> String {
    // The domain may be a field of its own or the rest of the host's name; both names are wanted.
    let full = if domainname.is_empty() { hostname.to_owned() } else { format!("{hostname}.{domainname}") };
    let names = match full.split_once('.') {
        Some((bare, _)) => format!("{full} {bare}"),
        None => full,
    };
    let line = |address: &IpAddr| format!("{address}\t{names}");
    let gone: Vec<String> = old.iter().map(line).collect();
    let kept = content.lines().filter(|line| !gone.iter().any(|gone| gone == line)).map(str::to_owned);
    kept.chain(new.iter().map(line)).flat_map(|line| [line, "\n".to_owned()]).collect()
}

/// A file of the host with the extra hosts behind it, for containers in the host's network.
pub fn append(base: &str, extra: &[(String, String)]) -> String {
    let mut content = base.to_owned();
    if !content.is_empty() && !content.ends_with('\n') {
        content.push('\n');
    }
    for (name, address) in extra {
        let _ = writeln!(content, "{address}\t{name}");
    }
    content
}

/// The same content with another address for those lines whose first name is `alias`: its container started anew.
pub fn readdress(content: &str, alias: &str, addresses: &[IpAddr]) -> String {
    let mut changed = String::with_capacity(content.len());
    for line in content.split_inclusive('\n') {
        let (address, names) = line.split_once('\t').unwrap_or((line, ""));
        let is_alias = names.split_whitespace().next() == Some(alias);
        let v6 = address.contains(':');
        match addresses.iter().find(|address| is_alias && address.is_ipv6() == v6) {
            Some(address) => {
                let _ = write!(changed, "{address}\t{names}");
            }
            None => changed.push_str(line),
        }
    }
    changed
}

/// The same content without the lines whose first name is `alias`.
pub fn without(content: &str, alias: &str) -> String {
    let names = |line: &str| line.split_once('\t').map_or("", |(_, names)| names).to_owned();
    let kept = content.split_inclusive('\n').filter(|line| names(line).split_whitespace().next() != Some(alias));
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_others_stay_when_an_address_goes() {
        let v4 = |last| IpAddr::from([172, 18, 0, last]);
        let before = render("web", "", &[v4(2)], &[]) + "10.0.0.1\tby-hand\n";
        let after = change(&before, "web", "", &[v4(9)], &[v4(2)]);
        assert!(after.ends_with("10.0.0.1\tby-hand\n172.18.0.9\tweb\n") && !after.contains("172.18.0.2"));
    }

    #[test]
    fn the_container_finds_itself_and_its_extra_hosts() {
        let extra = [("db".to_owned(), "10.0.0.5".to_owned())];
        let content = render("web", "example.org", &["172.17.0.2".parse().expect("an address")], &extra);
        assert!(content.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(content.ends_with("10.0.0.5\tdb\n172.17.0.2\tweb.example.org web\n"));
        assert_eq!(content, render("web.example.org", "", &["172.17.0.2".parse().expect("an address")], &extra));
        assert_eq!(content, render("web.example.org", "", &["172.17.0.2".parse().expect("an address")], &extra));
    }
    #[test]
    fn only_the_lines_of_the_alias_get_the_new_address() {
        let before = "127.0.0.1\tlocalhost\n172.17.0.2\tdb box name\nfd00::2\tdb box\n172.17.0.2\tdbx db\n# mine";
        let after = readdress(before, "db", &["172.17.0.9".parse().expect("an address")]);
        assert_eq!(after, before.replacen("172.17.0.2\tdb ", "172.17.0.9\tdb ", 1));
    }
}
