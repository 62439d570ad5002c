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
    let mut content = append(DEFAULT, extra);
    // The domain may be a field of its own or the rest of the host's name; both names are wanted.
    let full = if domainname.is_empty() { hostname.to_owned() } else { format!("{hostname}.{domainname}") };
    let names = match full.split_once('.') {
        Some((bare, _)) => format!("{full} {bare}"),
        None => full,
    };
    for address in addresses {
        // Writing to a `String` cannot fail.
        let _ = writeln!(content, "{address}\t{names}");
    }
    content
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_finds_itself_and_its_extra_hosts() {
        let extra = [("db".to_owned(), "10.0.0.5".to_owned())];
        let content = render("web", "example.org", &["172.17.0.2".parse().expect("an address")], &extra);
        assert!(content.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(content.ends_with("10.0.0.5\tdb\n172.17.0.2\tweb.example.org web\n"));
        assert_eq!(content, render("web.example.org", "", &["172.17.0.2".parse().expect("an address")], &extra));
        assert_eq!(content, render("web.example.org", "", &["172.17.0.2".parse().expect("an address")], &extra));
    }
}
