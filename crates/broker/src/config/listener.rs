//! Listeners: `NAME://host:port`, their protocols, and what clients are told to connect to.

/// Where the broker listens, and under which address clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The name, in upper case.
    pub name: String,
    /// The host name or address to listen on; empty is all interfaces. IPv6 without brackets.
    pub host: String,
    /// The port; 0 is any free one.
    pub port: u16,
    /// The host clients are told. `None`: the address the client has connected to.
    pub advertised_host: Option<String>,
    /// The port clients are told. `None`: the port that is listened on, which for port 0 is known only then.
    pub advertised_port: Option<u16>,
}

impl Listener {
    /// Whether only this machine can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// A parsed `NAME://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) name: String,
    pub(super) host: String,
    pub(super) port: u16,
}

impl Endpoint {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let shape = || format!("'{text}' is not NAME://host:port");
        let (name, address) = text.split_once("://").ok_or_else(shape)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(shape)?;
        if name.is_empty()
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        {
            return Err(shape());
        }
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(shape)?,
            None if host.contains(':') => {
                return Err(format!("'{text}': an IPv6 address is written in brackets"));
            }
            None => host,
        };
        let port =
            port.parse().map_err(|_| format!("'{text}': the port is a number from 0 to 65535"))?;
        Ok(Self { name: name.to_ascii_uppercase(), host: host.to_owned(), port })
    }

    /// Whether the host stands for all interfaces, so that nobody can connect to it by this name.
    pub(super) fn is_everywhere(&self) -> bool {
        matches!(self.host.as_str(), "" | "0.0.0.0" | "::")
    }
}

/// Whether two endpoints cannot both be listened on.
pub(super) fn clash(a: &Endpoint, b: &Endpoint) -> bool {
    a.port != 0 && a.port == b.port && (a.host == b.host || a.is_everywhere() || b.is_everywhere())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn endpoints() {
        let parse = |text| Endpoint::parse(text).map(|e| (e.name, e.host, e.port));
        let ok = |name: &str, host: &str, port| Ok((name.to_owned(), host.to_owned(), port));
        assert_eq!(parse("plaintext://:9092"), ok("PLAINTEXT", "", 9092));
        assert_eq!(parse("A_b-1://host.example:0"), ok("A_B-1", "host.example", 0));
        assert_eq!(parse("X://[::1]:1"), ok("X", "::1", 1));
        for bad in [
            "",
            "X",
            "X://",
            "X://h",
            "X://h:",
            "X://h:70000",
            "X://h:-1",
            "://h:1",
            "X Y://h:1",
            "X://::1:5",
            "X://[::1:5",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn clashes() {
        let clash = |a, b| clash(&Endpoint::parse(a).unwrap(), &Endpoint::parse(b).unwrap());
        assert!(clash("A://h:1", "B://h:1"));
        assert!(clash("A://:1", "B://h:1"));
        assert!(!clash("A://g:1", "B://h:1"));
        assert!(!clash("A://:0", "B://:0"));
        assert!(!clash("A://:1", "B://:2"));
    }
}
