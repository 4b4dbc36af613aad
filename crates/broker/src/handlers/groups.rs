//! What the handlers of the group APIs have in common.

use bytes::Bytes;
use bytestring::ByteString;

/// A copy that does not keep the whole request in memory: for what the coordinator remembers.
pub(super) fn own(text: &ByteString) -> ByteString {
    ByteString::from(&**text)
}

/// As [`own`], where there may be none.
pub(super) fn own_option(text: &Option<ByteString>) -> Option<ByteString> {
    text.as_ref().map(own)
}

/// As [`own`], for bytes.
pub(super) fn own_bytes(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Takes the reply that the request asked for out of the coordinator's replies.
macro_rules! expect_reply {
    ($reply:expr, $variant:ident) => {
        match $reply {
            kavka_coordinator::group::Reply::$variant(reply) => reply,
            other => unreachable!("a request is answered in kind, not by {other:?}"),
        }
    };
}
pub(super) use expect_reply;
