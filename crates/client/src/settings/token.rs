//! Tokens for OAUTHBEARER, and who provides them.

use std::{collections::BTreeMap, fmt, pin::Pin, time::SystemTime};

use super::Secret;
use crate::Error;

/// Provides tokens for OAUTHBEARER (KIP-255). Asked once for each connection that is made; a provider that has to fetch a token keeps
/// it until it is due.
///
/// An error of kind [`ErrorKind::Authentication`](crate::ErrorKind) is final; others are tried again as connections are.
pub trait TokenProvider: fmt::Debug + Send + Sync {
    /// A token that is valid now.
    fn token(&self) -> TokenFuture<'_>;
}

/// What [`TokenProvider::token`] returns: `Box::pin(async move { … })`.
pub type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<Token, Error>> + Send + 'a>>;

/// A token that says who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Token {
    pub(crate) value: Secret,
    pub(crate) expires: Option<SystemTime>,
    pub(crate) extensions: BTreeMap<String, String>,
}

/// Always the same token.
#[derive(Clone, Debug)]
pub struct StaticToken(Token);

impl Token {
    /// A token, in the compact form of a JWT.
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: Secret::new(value), expires: None, extensions: BTreeMap::new() }
    }

    /// When it ends. A connection is not used beyond that, whatever the broker says.
    pub fn expires(mut self, time: SystemTime) -> Self {
        self.expires = Some(time);
        self
    }

    /// A SASL extension that goes with it (KIP-342): the name of letters only.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.insert(name.into(), value.into());
        self
    }
}

impl StaticToken {
    /// A provider of one token.
    pub fn new(token: Token) -> Self {
        Self(token)
    }
}

impl TokenProvider for StaticToken {
    fn token(&self) -> TokenFuture<'_> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}
