//! Saying who we are: the mechanisms of SASL, as machines of challenge and response.
//!
//! Owns what is said and how answers are judged. Does not know frames, sockets or Kafka's requests around it.
//!
//! # References
//! RFC 4616 (PLAIN), RFC 5802 and RFC 7677 (SCRAM), RFC 7628 (OAUTHBEARER), KIP-43, KIP-84, KIP-255.

mod oauthbearer;
mod plain;
pub(crate) mod scram;

use std::time::SystemTime;

use ring::digest;

use self::{oauthbearer::Bearer, scram::Scram};
use crate::{
    Error, ErrorKind,
    settings::{SaslMechanism, SaslSettings},
};

/// One authentication under way.
#[derive(Debug)]
pub(super) enum Exchange {
    Plain,
    Scram(Box<Scram>),
    Bearer(Bearer),
}

/// How one begins.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) exchange: Exchange,
    /// What is said first.
    pub(super) first: Vec<u8>,
    /// When what we show ends.
    pub(super) expires: Option<SystemTime>,
}

impl Exchange {
    /// Begins an authentication by the mechanism of the settings.
    pub(super) async fn begin(settings: &SaslSettings) -> Result<Begun, Error> {
        let username = settings.username.as_deref().unwrap_or_default();
        let password = settings.password.as_ref().map_or("", |secret| secret.reveal());
        let scram = |algorithm| {
            let nonce = scram::nonce()?;
            let (scram, first) =
                Scram::new(algorithm, username, password, settings.is_delegation_token, &nonce);
            Ok(Begun { exchange: Exchange::Scram(Box::new(scram)), first, expires: None })
        };
        match settings.mechanism {
            None => Err(Error::new(ErrorKind::Config, "sasl.mechanism is missing")),
            Some(SaslMechanism::Plain) => {
                let first = plain::message(username, password)?;
                Ok(Begun { exchange: Exchange::Plain, first, expires: None })
            }
            Some(SaslMechanism::ScramSha256) => scram(&digest::SHA256),
            Some(SaslMechanism::ScramSha512) => scram(&digest::SHA512),
            Some(SaslMechanism::OauthBearer) => {
                let token = oauthbearer::token(&settings.tokens).await?;
                let first = oauthbearer::message(&token)?;
                let expires = token.expires;
                Ok(Begun { exchange: Exchange::Bearer(Bearer::default()), first, expires })
            }
        }
    }

    /// Judges what the broker said, and says what is said next; `None` if all is said. May take some milliseconds of work.
    pub(super) fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self {
            // Whatever is said to a password that was accepted.
            Exchange::Plain => Ok(None),
            Exchange::Scram(scram) => scram.answer(challenge),
            Exchange::Bearer(bearer) => bearer.answer(challenge),
        }
    }
}

/// The broker did not keep to the mechanism, or is not who it should be.
fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Authentication, why)
}
