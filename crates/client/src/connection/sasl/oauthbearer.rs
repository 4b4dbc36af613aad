//! OAUTHBEARER: a token from somebody whom the broker trusts.

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::refused;
use crate::{
    Error, ErrorKind,
    settings::{Token, TokenSource},
};

/// How long a token without signature is valid.
const UNSECURED_LIFETIME: Duration = Duration::from_secs(3600);
/// No token is larger: more is some other file.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// One exchange.
#[derive(Debug, Default)]
pub(in crate::connection) struct Bearer {
    /// Why the token was refused, in the broker's JSON.
    refusal: Option<String>,
}

impl Bearer {
    /// See [`super::Exchange::answer`]. A broker that refuses a token says why, waits for one more message, and then gives the
    /// error (RFC 7628, section 3.2.3).
    pub(super) fn answer(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if let Some(why) = self.refusal.take() {
            return Err(refused(format!("the broker refuses the token: {why}")));
        }
        if challenge.is_empty() {
            return Ok(None);
        }
        self.refusal = Some(String::from_utf8_lossy(challenge).into_owned());
        Ok(Some(vec![SEPARATOR as u8]))
    }
}

const SEPARATOR: char = '\x01';

/// The token in the form of RFC 7628, section 3.1.
pub(super) fn message(token: &Token) -> Result<Vec<u8>, Error> {
    let bad = |what: &str| Err(Error::new(ErrorKind::Config, what.to_owned()));
    let value = token.value.reveal();
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return bad("the token for OAUTHBEARER is empty, or has other characters than a token has");
    }
    let mut text = format!("n,,{SEPARATOR}auth=Bearer {value}{SEPARATOR}");
    for (name, value) in &token.extensions {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_name || name == "auth" {
            return bad("the name of a SASL extension consists of letters, and is not auth");
        }
        let is_value =
            |byte: u8| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        if value.is_empty() || !value.bytes().all(is_value) {
            return bad("the value of a SASL extension consists of printable characters");
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{name}={value}{SEPARATOR}");
    }
    text.push(SEPARATOR);
    Ok(text.into_bytes())
}

/// A token from where the settings say.
pub(super) async fn token(source: &TokenSource) -> Result<Token, Error> {
    match source {
        TokenSource::None => Err(Error::new(ErrorKind::Config, "OAUTHBEARER needs tokens")),
        TokenSource::Unsecured(claims) => Ok(unsecured(claims, SystemTime::now())),
        TokenSource::Provider(provider) => provider.token().await,
        TokenSource::File(path) => {
            let path = path.clone();
            let read = move || {
                let size = std::fs::metadata(&path).map(|metadata| metadata.len());
                let text = size.and_then(|size| match size {
                    0..=MAX_TOKEN_BYTES => std::fs::read_to_string(&path),
                    _ => Err(std::io::Error::other("too large for a token")),
                });
                text.map_err(|error| {
                    let message =
                        format!("the token in {} cannot be read: {error}", path.display());
                    Error::new(ErrorKind::Config, message)
                })
            };
            let text = tokio::task::spawn_blocking(read).await.map_err(|_| {
                Error::new(ErrorKind::Closed, "the runtime ended while a token was read")
            })??;
            Ok(Token::new(text.trim()))
        }
    }
}

/// A JWT without signature (RFC 7519, section 6), which only brokers for tests accept.
fn unsecured(claims: &BTreeMap<String, String>, now: SystemTime) -> Token {
    let expires = now + UNSECURED_LIFETIME;
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    };
    let mut payload = format!("{{\"iat\":{},\"exp\":{}", seconds(now), seconds(expires));
    for (name, value) in claims.iter().filter(|(name, _)| !["iat", "exp"].contains(&name.as_str()))
    {
        // Writing to a String cannot fail.
        let _ = write!(payload, ",{}:{}", json(name), json(value));
    }
    payload.push('}');
    let header = URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}");
    Token::new(format!("{header}.{}.", URL_SAFE_NO_PAD.encode(payload))).expires(expires)
}

/// A string of JSON.
fn json(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            // Writing to a String cannot fail.
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_that_of_the_rfc() {
        let token = Token::new("abc.def.").extension("logicalCluster", "lkc-1");
        assert_eq!(
            String::from_utf8(message(&token).unwrap()).unwrap(),
            "n,,\x01auth=Bearer abc.def.\x01logicalCluster=lkc-1\x01\x01"
        );
        for bad in [
            Token::new(""),
            Token::new("a\x01b"),
            Token::new("a").extension("auth", "b"),
            Token::new("a").extension("b1", "b"),
            Token::new("a").extension("b", ""),
        ] {
            assert!(message(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_without_signature_holds_its_claims() {
        let claims = BTreeMap::from([("sub".to_owned(), "al\"ice\n".to_owned())]);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let token = unsecured(&claims, now);
        let parts: Vec<&str> = token.value.reveal().split('.').collect();
        assert_eq!((parts.len(), parts[2]), (3, ""));
        let payload: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        let expected = serde_json::json!({ "sub": "al\"ice\n", "iat": 1000, "exp": 4600 });
        assert_eq!(payload, expected);
    }

    #[test]
    fn a_refused_token_is_answered_once_and_then_an_error() {
        let mut bearer = Bearer::default();
        let said = bearer.answer(b"{\"status\":\"invalid_token\"}").unwrap();
        assert_eq!(said, Some(vec![1]));
        let error = bearer.answer(b"").unwrap_err();
        assert!(error.to_string().contains("invalid_token"), "{error}");
        assert_eq!(Bearer::default().answer(b"").unwrap(), None);
    }

    #[tokio::test]
    async fn a_token_file_is_read_anew() {
        let dir = std::env::temp_dir().join(format!("kavka-token-{}", std::process::id()));
        let source = TokenSource::File(dir.clone());
        std::fs::write(&dir, "one\n").unwrap();
        assert_eq!(token(&source).await.unwrap().value.reveal(), "one");
        std::fs::write(&dir, "two\n").unwrap();
        assert_eq!(token(&source).await.unwrap().value.reveal(), "two");
        std::fs::remove_file(&dir).unwrap();
        assert_eq!(token(&source).await.unwrap_err().kind(), ErrorKind::Config);
    }
}
