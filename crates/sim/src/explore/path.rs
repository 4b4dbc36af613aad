//! The way to a state: of what could happen, which it was that happened, step by step.

use std::{fmt, str::FromStr};

/// See the module. Written as `0.3.1.2`; the way to the first state is `-`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub(super) Vec<u16>);

impl Path {
    /// How many steps.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it leads nowhere but to the first state.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        let steps: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&steps.join("."))
    }
}

impl FromStr for Path {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "-" {
            return Ok(Self::default());
        }
        text.split('.').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}
