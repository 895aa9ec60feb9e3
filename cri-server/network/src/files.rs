//! Contents of a pod's resolv.conf, hosts and hostname.
//!
//! Pure functions: the caller knows where the files go. Nothing is invented: servers, domains
//! and options are those of the request, and a request without any means the host's file.

use std::fmt::Write;
use std::net::IpAddr;

use crate::pod::Dns;

/// A value that would break out of its line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value:?} is empty or has blanks or control characters in it")]
pub struct BadValue {
    field: &'static str,
    value: String,
}

/// resolv.conf for a DNS configuration; `None` when it is empty and the host's file is to be used.
pub fn resolv_conf(dns: &Dns) -> Result<Option<String>, BadValue> {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        let searches = words("dns search domain", &dns.searches)?;
        text.push_str(&format!("search {searches}\n"));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {}\n", word("dns server", server)?));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", words("dns option", &dns.options)?));
    }
    Ok((!text.is_empty()).then_some(text))
}

/// hosts for a pod that has a network of its own.
pub fn hosts(hostname: &str, ips: &[IpAddr]) -> Result<String, BadValue> {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    if hostname.is_empty() {
        return Ok(text);
    }
    let hostname = word("hostname", hostname)?;
    for ip in ips {
        let _ = writeln!(text, "{ip}\t{hostname}");
    }
    Ok(text)
}

/// hostname: the name and a newline.
pub fn hostname(hostname: &str) -> Result<String, BadValue> {
    Ok(format!("{}\n", word("hostname", hostname)?))
}

fn words(field: &'static str, values: &[String]) -> Result<String, BadValue> {
    let checked: Result<Vec<&str>, BadValue> = values.iter().map(|v| word(field, v)).collect();
    Ok(checked?.join(" "))
}

fn word<'a>(field: &'static str, value: &'a str) -> Result<&'a str, BadValue> {
    let breaks = |c: char| c.is_whitespace() || c.is_control();
    if value.is_empty() || value.contains(breaks) {
        return Err(BadValue {
            field,
            value: value.to_owned(),
        });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(|v| v.to_string()).collect()
    }

    #[test]
    fn resolv_conf_has_searches_servers_and_options() {
        let dns = Dns {
            servers: strings(&["10.96.0.10", "fd00::a"]),
            searches: strings(&["default.svc.cluster.local", "svc.cluster.local"]),
            options: strings(&["ndots:5", "edns0"]),
        };
        assert_eq!(
            resolv_conf(&dns).unwrap().unwrap(),
            "search default.svc.cluster.local svc.cluster.local\n\
             nameserver 10.96.0.10\nnameserver fd00::a\noptions ndots:5 edns0\n"
        );
    }

    #[test]
    fn empty_dns_means_the_hosts_file() {
        assert_eq!(resolv_conf(&Dns::default()), Ok(None));
    }

    #[test]
    fn a_value_cannot_add_a_line() {
        for bad in ["", "1.1.1.1\nnameserver 6.6.6.6", "a b", "a\0"] {
            let dns = Dns {
                servers: strings(&[bad]),
                ..Dns::default()
            };
            assert!(resolv_conf(&dns).is_err(), "{bad:?}");
            let dns = Dns {
                searches: strings(&["ok", bad]),
                ..Dns::default()
            };
            assert!(resolv_conf(&dns).is_err(), "{bad:?}");
        }
        assert!(hosts("a\nb", &["10.0.0.1".parse().unwrap()]).is_err());
        assert!(hostname("a b").is_err());
    }

    #[test]
    fn hosts_names_every_address() {
        let ips = ["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        let text = hosts("web-0", &ips).unwrap();
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost"));
        assert!(text.ends_with("10.0.0.7\tweb-0\nfd00::7\tweb-0\n"));
        assert_eq!(hostname("web-0").unwrap(), "web-0\n");
    }

    #[test]
    fn hosts_without_a_hostname_is_only_local() {
        assert!(
            !hosts("", &["10.0.0.7".parse().unwrap()])
                .unwrap()
                .contains("10.0.0.7")
        );
    }
}
