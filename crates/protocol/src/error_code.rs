//! The table of error codes: number, name, whether a retry may help, one phrase for people.

use std::fmt;

include!(concat!(env!("OUT_DIR"), "/error_code.rs"));

struct Row {
    code: ErrorCode,
    name: &'static str,
    retriable: bool,
    refresh: bool,
    text: &'static str,
}

impl ErrorCode {
    /// Every known code, by number.
    pub fn all() -> impl Iterator<Item = ErrorCode> {
        ROWS.iter().map(|row| row.code)
    }

    /// The name in the protocol guide; `UNKNOWN` for a code newer than the table.
    pub fn name(self) -> &'static str {
        self.row().map_or("UNKNOWN", |row| row.name)
    }

    /// One phrase for people.
    pub fn message(self) -> &'static str {
        self.row().map_or("an error code newer than this version knows", |row| row.text)
    }

    /// Whether the same request may succeed later. Group errors that a client recovers from by rejoining, such as
    /// `REBALANCE_IN_PROGRESS`, are not retriable in this sense.
    pub fn is_retriable(self) -> bool {
        self.row().is_some_and(|row| row.retriable)
    }

    /// Whether metadata, or the coordinator, has to be looked up again before the retry.
    pub fn needs_metadata_refresh(self) -> bool {
        self.row().is_some_and(|row| row.refresh)
    }

    fn row(self) -> Option<&'static Row> {
        let index = usize::try_from(i32::from(self.code()) + 1).ok()?;
        ROWS.get(index)
    }
}

impl From<i16> for ErrorCode {
    fn from(code: i16) -> Self {
        ErrorCode::from_code(code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.code(), self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_leads_back_to_its_row() {
        for code in ErrorCode::all() {
            assert_eq!(ErrorCode::from_code(code.code()), code);
            assert_eq!(code.row().map(|row| row.code), Some(code));
        }
    }

    #[test]
    fn codes_newer_than_the_table_are_kept() {
        let code = ErrorCode::from_code(9_999);
        assert_eq!(code, ErrorCode::Unknown(9_999));
        assert_eq!(code.code(), 9_999);
        assert!(!code.is_retriable());
    }

    #[test]
    fn rebalance_in_progress_is_not_retriable() {
        assert!(!ErrorCode::RebalanceInProgress.is_retriable());
        assert!(ErrorCode::NotCoordinator.needs_metadata_refresh());
    }
}
