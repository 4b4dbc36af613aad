//! PLAIN: user and password as they are.

use crate::{Error, ErrorKind};

/// No authorization id, the user, the password, with NUL between (RFC 4616).
pub(super) fn message(username: &str, password: &str) -> Result<Vec<u8>, Error> {
    if username.contains('\0') || password.contains('\0') {
        let what = "PLAIN cannot carry a user or a password with a NUL in it";
        return Err(Error::new(ErrorKind::Config, what));
    }
    Ok([&b""[..], username.as_bytes(), password.as_bytes()].join(&0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts_with_nul_between() {
        assert_eq!(message("alice", "s3cr3t").expect("a message"), b"\0alice\0s3cr3t");
        assert!(message("a\0b", "c").is_err());
    }
}
