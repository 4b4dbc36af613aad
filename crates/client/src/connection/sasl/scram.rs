//! SCRAM: we prove that we know the password without saying it, and the broker proves that it knows what belongs to it.
//!
//! As Kafka has it: no channel binding, no SASLprep (user and password are UTF-8 as they are).
//!
//! **Architecture invariant:** an authentication is complete only after the broker's signature was verified.

use std::{fmt, num::NonZeroU32};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac, pbkdf2, rand::SecureRandom};

use super::refused;
use crate::{Error, ErrorKind};

/// Fewer are a sign of an attack: they would make the password easy to guess from the proof. Kafka's minimum.
const MIN_ITERATIONS: u32 = 4096;
/// More would only cost us time. Kafka's brokers keep at most 16,384.
const MAX_ITERATIONS: u32 = 1_000_000;

/// One exchange.
pub(in crate::connection) struct Scram {
    algorithm: &'static digest::Algorithm,
    password: String,
    client_nonce: String,
    /// client-first without its header: a part of what is signed.
    first_bare: String,
    state: State,
}

enum State {
    WaitsForServerFirst,
    WaitsForServerFinal { server_key: hmac::Key, message: String },
    Complete,
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scram").finish_non_exhaustive()
    }
}

/// A nonce that nobody has used before: printable, without commas.
pub(super) fn nonce() -> Result<String, Error> {
    let mut bytes = [0; 24];
    random(&mut bytes)?;
    Ok(STANDARD.encode(bytes))
}

/// Fills in random bytes.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), Error> {
    let random = ring::rand::SystemRandom::new();
    random
        .fill(bytes)
        .map_err(|_| Error::new(ErrorKind::Config, "this system gives no random numbers"))
}

/// `Hi` of RFC 5802: the password, salted, as many times as said.
pub(crate) fn salted_password(
    algorithm: &'static digest::Algorithm,
    password: &[u8],
    salt: &[u8],
    iterations: NonZeroU32,
) -> Vec<u8> {
    let kdf = if algorithm == &digest::SHA512 {
        pbkdf2::PBKDF2_HMAC_SHA512
    } else {
        pbkdf2::PBKDF2_HMAC_SHA256
    };
    let mut salted = vec![0; algorithm.output_len()];
    pbkdf2::derive(kdf, iterations, salt, password, &mut salted);
    salted
}

impl Scram {
    /// An exchange, and client-first.
    pub(super) fn new(
        algorithm: &'static digest::Algorithm,
        username: &str,
        password: &str,
        is_delegation_token: bool,
        nonce: &str,
    ) -> (Self, Vec<u8>) {
        let username = username.replace('=', "=3D").replace(',', "=2C");
        let extension = if is_delegation_token { ",tokenauth=true" } else { "" };
        let first_bare = format!("n={username},r={nonce}{extension}");
        let first = format!("{HEADER}{first_bare}").into_bytes();
        let scram = Self {
            algorithm,
            password: password.to_owned(),
            client_nonce: nonce.to_owned(),
            first_bare,
            state: State::WaitsForServerFirst,
        };
        (scram, first)
    }

    /// See [`super::Exchange::answer`].
    pub(super) fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let text = std::str::from_utf8(challenge)
            .map_err(|_| refused("the broker's SCRAM message is not text"))?;
        match std::mem::replace(&mut self.state, State::Complete) {
            State::WaitsForServerFirst => {
                let (last, expected) = self.prove(text)?;
                self.state = expected;
                Ok(Some(last))
            }
            State::WaitsForServerFinal { server_key, message } => {
                verify(text, &server_key, &message)?;
                Ok(None)
            }
            State::Complete => Err(refused("the broker goes on after SCRAM was complete")),
        }
    }

    /// client-final, and what has to be signed with the key that only somebody has who knows what belongs to the password.
    fn prove(&self, server_first: &str) -> Result<(Vec<u8>, State), Error> {
        let (nonce, salt, iterations) = self.read_first(server_first)?;
        let without_proof = format!("c={CHANNEL_BINDING},r={nonce}");
        let message = format!("{},{server_first},{without_proof}", self.first_bare);
        let salted = salted_password(self.algorithm, self.password.as_bytes(), &salt, iterations);
        let hash =
            if self.algorithm == &digest::SHA512 { hmac::HMAC_SHA512 } else { hmac::HMAC_SHA256 };
        let salted = hmac::Key::new(hash, &salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.algorithm, client_key.as_ref());
        let client_signature =
            hmac::sign(&hmac::Key::new(hash, stored_key.as_ref()), message.as_bytes());
        let pairs = client_key.as_ref().iter().zip(client_signature.as_ref());
        let proof: Vec<u8> = pairs.map(|(one, other)| one ^ other).collect();
        let server_key = hmac::sign(&salted, b"Server Key");
        let last = format!("{without_proof},p={}", STANDARD.encode(proof));
        let server_key = hmac::Key::new(hash, server_key.as_ref());
        Ok((last.into_bytes(), State::WaitsForServerFinal { server_key, message }))
    }

    /// Nonce, salt and iterations of server-first.
    fn read_first<'a>(&self, text: &'a str) -> Result<(&'a str, Vec<u8>, NonZeroU32), Error> {
        let mut parts = text.split(',');
        let mut part = |name: &str| {
            let found = parts.next().and_then(|part| part.strip_prefix(name));
            found.ok_or_else(|| refused("the broker's first SCRAM message is not in its form"))
        };
        let nonce = part("r=")?;
        let is_new = nonce.len() > self.client_nonce.len() && nonce.starts_with(&self.client_nonce);
        if !is_new {
            return Err(refused("the broker's SCRAM nonce does not go on from ours"));
        }
        let salt = STANDARD.decode(part("s=")?).ok().filter(|salt| !salt.is_empty());
        let salt = salt.ok_or_else(|| refused("the broker's SCRAM salt cannot be read"))?;
        let iterations: u32 = part("i=")?
            .parse()
            .map_err(|_| refused("the broker's SCRAM iterations cannot be read"))?;
        let is_sound = (MIN_ITERATIONS..=MAX_ITERATIONS).contains(&iterations);
        NonZeroU32::new(iterations).filter(|_| is_sound).map(|iterations| (nonce, salt, iterations)).ok_or_else(|| {
            refused(format!(
                "the broker wants {iterations} SCRAM iterations: sound are {MIN_ITERATIONS} to {MAX_ITERATIONS}"
            ))
        })
    }
}

/// Neither channel binding nor an authorization id; and the same in base64.
const HEADER: &str = "n,,";
const CHANNEL_BINDING: &str = "biws";

/// Looks at server-final.
fn verify(text: &str, server_key: &hmac::Key, message: &str) -> Result<(), Error> {
    let first = text.split(',').next().unwrap_or_default();
    if let Some(why) = first.strip_prefix("e=") {
        return Err(refused(format!("the broker refuses the SCRAM proof: {why}")));
    }
    let signature = first.strip_prefix("v=").and_then(|signature| STANDARD.decode(signature).ok());
    let signature =
        signature.ok_or_else(|| refused("the broker's last SCRAM message is not in its form"))?;
    hmac::verify(server_key, message.as_bytes(), &signature)
        .map_err(|_| refused("the broker does not know the password: its SCRAM signature is wrong"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Exchanges of Kafka's own classes.
    fn vectors() -> Vec<serde_json::Value> {
        let text = include_str!("../../../tests/fixtures/scram.jsonl");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn begin(vector: &serde_json::Value) -> (Scram, Vec<u8>) {
        let text = |name: &str| vector[name].as_str().unwrap();
        let algorithm = match text("mechanism") {
            "SCRAM-SHA-256" => &digest::SHA256,
            _ => &digest::SHA512,
        };
        let has_tokenauth = text("client_first").contains(",tokenauth=true");
        Scram::new(algorithm, text("user"), text("password"), has_tokenauth, text("client_nonce"))
    }

    #[test]
    fn every_message_is_kafkas() {
        let vectors = vectors();
        assert_eq!(vectors.len(), 20);
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let (mut scram, first) = begin(&vector);
            assert_eq!(String::from_utf8(first).unwrap(), text("client_first"));
            let last = scram.answer(text("server_first").as_bytes()).unwrap().unwrap();
            assert_eq!(String::from_utf8(last).unwrap(), text("client_final"));
            assert_eq!(scram.answer(text("server_final").as_bytes()).unwrap(), None);
            assert!(scram.answer(b"more").is_err());
            let salt = STANDARD.decode(text("salt_b64")).unwrap();
            let iterations = u32::try_from(vector["iterations"].as_u64().unwrap()).unwrap();
            let salted = salted_password(
                scram.algorithm,
                text("password").as_bytes(),
                &salt,
                NonZeroU32::new(iterations).unwrap(),
            );
            assert_eq!(STANDARD.encode(salted), text("salted_password_b64"));
        }
    }

    #[test]
    fn a_broker_that_does_not_know_the_password_is_refused() {
        let vector = &vectors()[0];
        let server_first = vector["server_first"].as_str().unwrap().as_bytes();
        let right = vector["server_final"].as_str().unwrap();
        let mut wrong = STANDARD.decode(&right[2..]).unwrap();
        wrong[0] ^= 1;
        for last in [
            format!("v={}", STANDARD.encode(&wrong)),
            format!("v={}", STANDARD.encode(&wrong[1..])),
            "v=".to_owned(),
            "e=other-error".to_owned(),
            right[2..].to_owned(),
            String::new(),
        ] {
            let mut scram = begin(vector).0;
            scram.answer(server_first).unwrap();
            let error = scram.answer(last.as_bytes()).expect_err(&last);
            assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        }
    }

    #[test]
    fn a_first_message_that_is_not_sound_is_refused() {
        let vector = &vectors()[0];
        let nonce = vector["client_nonce"].as_str().unwrap();
        for (first, expected) in [
            (format!("r={nonce}x,s=c2FsdA==,i=4095"), "wants 4095"),
            (format!("r={nonce}x,s=c2FsdA==,i=1000001"), "wants 1000001"),
            (format!("r={nonce}x,s=c2FsdA==,i=-1"), "cannot be read"),
            (format!("r={nonce}x,s=c2FsdA==,i=99999999999"), "cannot be read"),
            (format!("r={nonce},s=c2FsdA==,i=4096"), "nonce"),
            ("r=other,s=c2FsdA==,i=4096".to_owned(), "nonce"),
            (format!("r={nonce}x,s=,i=4096"), "salt"),
            (format!("r={nonce}x,s=%,i=4096"), "salt"),
            (format!("m=ext,r={nonce}x,s=c2FsdA==,i=4096"), "form"),
            ("v=c2FsdA==".to_owned(), "form"),
            (String::new(), "form"),
        ] {
            let error = begin(vector).0.answer(first.as_bytes()).expect_err(&first);
            assert_eq!(error.kind(), ErrorKind::Authentication);
            assert!(error.to_string().contains(expected), "{first}: {error}");
        }
        assert!(begin(vector).0.answer(&[0xff]).is_err());
    }

    #[test]
    fn nonces_differ_and_carry_no_comma() {
        let (one, other) = (nonce().unwrap(), nonce().unwrap());
        assert_ne!(one, other);
        assert!(!one.contains(','));
    }
}
