//! What ACLs are about, and what brokers tell a client it may do (KIP-430).

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::{Error, ErrorKind};

/// Something that a principal may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// In filters only: whatever it is.
    Any,
    /// All of them.
    All,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Creating.
    Create,
    /// Deleting.
    Delete,
    /// Changing.
    Alter,
    /// Describing.
    Describe,
    /// What brokers do among each other.
    ClusterAction,
    /// Reading configs.
    DescribeConfigs,
    /// Changing configs.
    AlterConfigs,
    /// Writing with a producer id.
    IdempotentWrite,
    /// Making delegation tokens.
    CreateTokens,
    /// Describing delegation tokens.
    DescribeTokens,
    /// Taking part in two-phase commits (KIP-939).
    TwoPhaseCommit,
}

const TABLE: &[(i8, &str, Operation)] = &[
    (1, "Any", Operation::Any),
    (2, "All", Operation::All),
    (3, "Read", Operation::Read),
    (4, "Write", Operation::Write),
    (5, "Create", Operation::Create),
    (6, "Delete", Operation::Delete),
    (7, "Alter", Operation::Alter),
    (8, "Describe", Operation::Describe),
    (9, "ClusterAction", Operation::ClusterAction),
    (10, "DescribeConfigs", Operation::DescribeConfigs),
    (11, "AlterConfigs", Operation::AlterConfigs),
    (12, "IdempotentWrite", Operation::IdempotentWrite),
    (13, "CreateTokens", Operation::CreateTokens),
    (14, "DescribeTokens", Operation::DescribeTokens),
    (15, "TwoPhaseCommit", Operation::TwoPhaseCommit),
];

/// What a broker sends where operations were not asked for.
const NOT_ASKED: i32 = i32::MIN;

impl Operation {
    /// Its number in the protocol.
    pub(super) fn code(self) -> i8 {
        TABLE.iter().find(|row| row.2 == self).map_or(0, |row| row.0)
    }

    /// The operation with a number; `None` for one that is not known here.
    pub(super) fn from_code(code: i8) -> Option<Self> {
        TABLE.iter().find(|row| row.0 == code).map(|row| row.2)
    }

    /// The operations of a bit set: bit n stands for number n.
    pub(super) fn set(bits: i32) -> Option<BTreeSet<Self>> {
        let is_in = |row: &&(i8, &str, Operation)| bits & (1 << row.0) != 0;
        (bits != NOT_ASKED).then(|| TABLE.iter().filter(is_in).map(|row| row.2).collect())
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = TABLE.iter().find(|row| row.2 == *self).map_or("", |row| row.1);
        f.write_str(name)
    }
}

impl FromStr for Operation {
    type Err = Error;

    /// By its name, as Kafka's tools take it, in any case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let found = TABLE.iter().find(|row| row.1.eq_ignore_ascii_case(text.trim()));
        found.map(|row| row.2).ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("there is no operation \"{text}\""))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_numbers_of_operations() {
        let topic = Operation::set(3576).expect("asked for");
        let names: Vec<String> = topic.iter().map(Operation::to_string).collect();
        assert_eq!(
            names,
            [
                "Read",
                "Write",
                "Create",
                "Delete",
                "Alter",
                "Describe",
                "DescribeConfigs",
                "AlterConfigs"
            ]
        );
        assert_eq!(Operation::set(0), Some(BTreeSet::new()));
        assert_eq!(Operation::set(i32::MIN), None);
    }

    #[test]
    fn names_and_numbers_lead_back() {
        for (code, name, operation) in TABLE {
            assert_eq!(Operation::from_code(*code), Some(*operation));
            assert_eq!(operation.code(), *code);
            assert_eq!(name.to_uppercase().parse::<Operation>().ok(), Some(*operation));
        }
        assert!("fly".parse::<Operation>().is_err());
    }
}
