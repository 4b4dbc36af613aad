//! The table of APIs: number, name, versions, and which header goes before which version.

use std::fmt;

include!(concat!(env!("OUT_DIR"), "/api_key.rs"));

struct Row {
    api: ApiKey,
    name: &'static str,
    lo: i16,
    hi: i16,
    flexible: Option<i16>,
}

impl ApiKey {
    /// Every API, by number.
    pub fn all() -> impl Iterator<Item = ApiKey> {
        ROWS.iter().map(|row| row.api)
    }

    /// The API of this number.
    pub fn from_code(code: i16) -> Option<ApiKey> {
        let index = ROWS.binary_search_by_key(&code, |row| row.api.code()).ok()?;
        Some(ROWS[index].api)
    }

    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The API's name in the protocol guide.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The first and the last version of the schema; a last version that is not yet released is left out.
    pub fn versions(self) -> (i16, i16) {
        (self.row().lo, self.row().hi)
    }

    /// Whether this version of the request and the response is in compact form, with tagged fields (KIP-482).
    pub fn is_flexible(self, version: i16) -> bool {
        self.row().flexible.is_some_and(|first| version >= first)
    }

    /// The version of the header before a request of this version.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the header before a response of this version. ApiVersions is always answered with header v0, so that a
    /// client that does not know the broker's versions yet can read it (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        if self != ApiKey::ApiVersions && self.is_flexible(version) { 1 } else { 0 }
    }

    fn row(self) -> &'static Row {
        match ROWS.binary_search_by_key(&self.code(), |row| row.api.code()) {
            Ok(index) => &ROWS[index],
            Err(_) => unreachable!("every variant has a row"),
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_leads_back_to_its_api() {
        for api in ApiKey::all() {
            assert_eq!(ApiKey::from_code(api.code()), Some(api));
        }
        assert_eq!(ApiKey::from_code(4), None);
        assert_eq!(ApiKey::from_code(-1), None);
    }

    #[test]
    fn headers_follow_the_first_flexible_version() {
        assert_eq!(ApiKey::Produce.request_header_version(8), 1);
        assert_eq!(ApiKey::Produce.request_header_version(9), 2);
        assert_eq!(ApiKey::Produce.response_header_version(9), 1);
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.response_header_version(3), 0);
        assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
    }

    #[test]
    fn an_unreleased_version_is_not_among_the_versions() {
        assert_eq!(ApiKey::InitProducerId.versions(), (0, 5));
    }
}
