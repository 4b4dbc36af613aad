//! A seed, less what a failure does not need: written as one word, so that a failure is replayed with one argument. Both simulations
//! have such cases; they differ in what can be left out.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// A seed, and what is left out of its world.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case<P> {
    /// The seed.
    pub seed: u64,
    /// What is left out.
    pub without: BTreeSet<P>,
    /// Faults stop after so many milliseconds of the world's time; `None`: as the seed says.
    pub faults_end_at: Option<u64>,
}

/// What can be left out of a world.
pub trait Part: Clone + Ord + fmt::Display {
    /// What is in the world of this case and can be left out of it; what makes most of a difference first.
    fn all_in(case: &Case<Self>) -> Vec<Self>;

    /// When faults stop in it, in milliseconds of its time.
    fn faults_end_at(case: &Case<Self>) -> u64;
}

impl<P> Case<P> {
    /// The whole world of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, without: BTreeSet::new(), faults_end_at: None }
    }
}

/// `7`, or `7~slow~hang@60000`: without these, and with no faults after a minute.
impl<P: fmt::Display> fmt::Display for Case<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seed)?;
        for part in &self.without {
            write!(f, "~{part}")?;
        }
        self.faults_end_at.map_or(Ok(()), |at| write!(f, "@{at}"))
    }
}

impl<P: FromStr<Err = anyhow::Error> + Ord> FromStr for Case<P> {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (head, faults_end_at) = match text.split_once('@') {
            Some((head, at)) => (head, Some(at.parse()?)),
            None => (text, None),
        };
        let mut parts = head.split('~');
        let seed = parts.next().unwrap_or_default().parse()?;
        Ok(Self { seed, without: parts.map(str::parse).collect::<Result<_, _>>()?, faults_end_at })
    }
}

/// An enum whose variants have names on the command line and in reports: `ALL`, `name`, and to and from text.
#[macro_export]
macro_rules! named {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// Every one.
            $visibility const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// What it is called.
            $visibility fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = ::anyhow::Error;

            fn from_str(text: &str) -> ::std::result::Result<Self, Self::Err> {
                let found = Self::ALL.iter().find(|one| one.name() == text);
                found.copied().ok_or_else(|| {
                    let names: Vec<&str> = Self::ALL.iter().map(|one| one.name()).collect();
                    ::anyhow::anyhow!("{text:?} is none of {}", names.join(", "))
                })
            }
        }
    };
}
