//! How connections are protected and authenticated: the properties `ssl.*` and `sasl.*` by Kafka's names, and librdkafka's where they
//! differ.
//!
//! What a property says is kept as it is; files are read, and certificates parsed, when a client is built.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use super::{Outcome, TokenProvider, integer, jaas::Login, one_of, parse::bad_value};
use crate::{Error, ErrorKind};

/// Certificates, keys, users and passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecuritySettings {
    /// For `SSL` and `SASL_SSL`.
    pub tls: TlsSettings,
    /// For `SASL_PLAINTEXT` and `SASL_SSL`.
    pub sasl: SaslSettings,
}

/// Whom to trust, and who we are, by certificates. All of them are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// `ssl.truststore.location` or `ssl.ca.location`: a file of certificates to trust; else those of the system.
    pub truststore_location: Option<PathBuf>,
    /// `ssl.truststore.certificates` or `ssl.ca.pem`: the certificates themselves.
    pub truststore_certificates: Option<String>,
    /// `ssl.keystore.location`: a file of our key and the certificates that belong to it.
    pub keystore_location: Option<PathBuf>,
    /// `ssl.certificate.location`: a file of our certificate and those up to the one that is trusted.
    pub certificate_location: Option<PathBuf>,
    /// `ssl.keystore.certificate.chain` or `ssl.certificate.pem`: the certificates themselves.
    pub certificate_chain: Option<String>,
    /// `ssl.key.location`: a file of our key.
    pub key_location: Option<PathBuf>,
    /// `ssl.keystore.key` or `ssl.key.pem`: the key itself.
    pub key: Option<Secret>,
    /// `ssl.key.password`: encrypted keys are refused, with the command that decrypts them.
    pub key_password: Option<Secret>,
    /// `ssl.endpoint.identification.algorithm`: whether the broker's certificate has to name the host that we asked for. `https`
    /// (yes) unless it is empty or `none`.
    pub any_host_name: bool,
    /// `ssl.enabled.protocols`; `TLSv1.2` and `TLSv1.3` unless said otherwise.
    pub protocols: TlsProtocols,
    /// `ssl.cipher.suites`: by their IANA names; all that are sound unless said otherwise.
    pub cipher_suites: Option<Vec<String>>,
}

/// The versions of TLS that may be spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsProtocols {
    /// `TLSv1.2`.
    pub tls12: bool,
    /// `TLSv1.3`.
    pub tls13: bool,
}

/// Who we are, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaslSettings {
    /// `sasl.mechanism` or `sasl.mechanisms`. Required; Kafka's default GSSAPI is not supported.
    pub mechanism: Option<SaslMechanism>,
    /// `sasl.username`, or `username` of `sasl.jaas.config`.
    pub username: Option<String>,
    /// `sasl.password`, or `password` of `sasl.jaas.config`.
    pub password: Option<Secret>,
    /// `tokenauth` of `sasl.jaas.config`: user and password are those of a delegation token (KIP-48).
    pub is_delegation_token: bool,
    /// Where tokens come from, for OAUTHBEARER.
    pub tokens: TokenSource,
}

/// How we say who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SaslMechanism {
    /// User and password as they are (RFC 4616); for TLS only, if at all.
    Plain,
    /// Proof of knowing the password, and proof that the broker does too (RFC 5802, RFC 7677).
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
    /// A token from somebody whom the broker trusts (RFC 7628, KIP-255).
    OauthBearer,
}

/// Where tokens for OAUTHBEARER come from.
#[derive(Clone, Debug, Default)]
pub enum TokenSource {
    /// Nobody said.
    #[default]
    None,
    /// `sasl.oauthbearer.token.endpoint.url` with `file:`: a file, read for each connection.
    File(PathBuf),
    /// A token without signature, which only brokers for tests accept: the claims of `unsecuredLoginStringClaim_…` in
    /// `sasl.jaas.config`, or librdkafka's `enable.sasl.oauthbearer.unsecure.jwt`.
    Unsecured(BTreeMap<String, String>),
    /// The application.
    Provider(Arc<dyn TokenProvider>),
}

/// Text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Every name that [`SecuritySettings::set`] knows.
pub(super) const NAMES: &[&str] = &[
    "enable.sasl.oauthbearer.unsecure.jwt",
    "sasl.client.callback.handler.class",
    "sasl.jaas.config",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.service.name",
    "sasl.kerberos.ticket.renew.jitter",
    "sasl.kerberos.ticket.renew.window.factor",
    "sasl.login.callback.handler.class",
    "sasl.login.class",
    "sasl.login.connect.timeout.ms",
    "sasl.login.read.timeout.ms",
    "sasl.login.refresh.buffer.seconds",
    "sasl.login.refresh.min.period.seconds",
    "sasl.login.refresh.window.factor",
    "sasl.login.refresh.window.jitter",
    "sasl.login.retry.backoff.max.ms",
    "sasl.login.retry.backoff.ms",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.allow.unverified.audience",
    "sasl.oauthbearer.allow.unverified.issuer",
    "sasl.oauthbearer.assertion.algorithm",
    "sasl.oauthbearer.assertion.claim.aud",
    "sasl.oauthbearer.assertion.claim.exp.seconds",
    "sasl.oauthbearer.assertion.claim.iss",
    "sasl.oauthbearer.assertion.claim.jti.include",
    "sasl.oauthbearer.assertion.claim.nbf.seconds",
    "sasl.oauthbearer.assertion.claim.sub",
    "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.template.file",
    "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.clock.skew.seconds",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.expected.audience",
    "sasl.oauthbearer.expected.issuer",
    "sasl.oauthbearer.header.urlencode",
    "sasl.oauthbearer.jwks.endpoint.refresh.ms",
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
    "sasl.oauthbearer.jwks.endpoint.url",
    "sasl.oauthbearer.jwt.retriever.class",
    "sasl.oauthbearer.jwt.validator.class",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.scope.claim.name",
    "sasl.oauthbearer.sub.claim.name",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "security.providers",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.enabled.protocols",
    "ssl.endpoint.identification.algorithm",
    "ssl.engine.factory.class",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keymanager.algorithm",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.protocol",
    "ssl.provider",
    "ssl.secure.random.implementation",
    "ssl.trustmanager.algorithm",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];

impl SecuritySettings {
    /// Takes a property, if it is one of these.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<Outcome, Error> {
        if name.starts_with("ssl.") {
            self.tls.set(name, value)
        } else {
            self.sasl.set(name, value)
        }
    }
}

impl TlsSettings {
    fn set(&mut self, name: &str, value: &str) -> Result<Outcome, Error> {
        let path = || Some(PathBuf::from(value)).filter(|_| !value.is_empty());
        let text = || Some(value.to_owned()).filter(|_| !value.is_empty());
        match name {
            "ssl.truststore.location" | "ssl.ca.location" => self.truststore_location = path(),
            "ssl.truststore.certificates" | "ssl.ca.pem" => self.truststore_certificates = text(),
            "ssl.keystore.location" => self.keystore_location = path(),
            "ssl.certificate.location" => self.certificate_location = path(),
            "ssl.keystore.certificate.chain" | "ssl.certificate.pem" => {
                self.certificate_chain = text();
            }
            "ssl.key.location" => self.key_location = path(),
            "ssl.keystore.key" | "ssl.key.pem" => self.key = text().map(Secret),
            "ssl.key.password" => self.key_password = text().map(Secret),
            "ssl.endpoint.identification.algorithm" => {
                let words = [("https", false), ("", true), ("none", true)];
                self.any_host_name = one_of(name, value, &words)?;
            }
            "ssl.enabled.protocols" => self.protocols = TlsProtocols::parse(name, value)?,
            "ssl.cipher.suites" => {
                let suites: Vec<String> = value
                    .split(',')
                    .map(|suite| suite.trim().to_owned())
                    .filter(|suite| !suite.is_empty())
                    .collect();
                self.cipher_suites = Some(suites).filter(|suites| !suites.is_empty());
            }
            "ssl.truststore.type" | "ssl.keystore.type" => return store_type(name, value),
            "ssl.truststore.password" | "ssl.keystore.password" => {
                return Ok(Outcome::NoEffect("PEM files have no password"));
            }
            "ssl.protocol" => {
                one_of(name, value, &[("TLS", ()), ("TLSv1.2", ()), ("TLSv1.3", ())])?;
                return Ok(Outcome::NoEffect("ssl.enabled.protocols says what may be spoken"));
            }
            "ssl.engine.factory.class"
            | "ssl.keymanager.algorithm"
            | "ssl.provider"
            | "ssl.secure.random.implementation"
            | "ssl.trustmanager.algorithm" => {
                return Ok(Outcome::NoEffect("TLS is rustls here, not Java's"));
            }
            _ => return Ok(Outcome::Unknown),
        }
        Ok(Outcome::Taken)
    }
}

/// Only PEM is read. What a file really is shows when it is read; JKS is Java's default and said without thinking.
fn store_type(name: &str, value: &str) -> Result<Outcome, Error> {
    match value.trim() {
        text if text.eq_ignore_ascii_case("PEM") => {
            Ok(Outcome::NoEffect("certificates and keys are PEM, always"))
        }
        text if ["JKS", "PKCS12"].iter().any(|other| other.eq_ignore_ascii_case(text)) => {
            Err(Error::new(ErrorKind::Config, format!("{name} is {text}: only PEM is read"))
                .with_advice(how_to_convert("STORE")))
        }
        _ => Err(bad_value(name, value, "PEM")),
    }
}

/// The commands that make PEM of a Java or PKCS #12 store.
pub(crate) fn how_to_convert(store: &str) -> String {
    format!(
        "Convert it: keytool -importkeystore -srckeystore {store} -destkeystore store.p12 -deststoretype PKCS12 (if it is JKS), then \
         openssl pkcs12 -in store.p12 -nodes -out store.pem, and name store.pem."
    )
}

impl Default for TlsProtocols {
    fn default() -> Self {
        Self { tls12: true, tls13: true }
    }
}

impl TlsProtocols {
    fn parse(name: &str, value: &str) -> Result<Self, Error> {
        let mut protocols = Self { tls12: false, tls13: false };
        for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "TLSv1.2" => protocols.tls12 = true,
                "TLSv1.3" => protocols.tls13 = true,
                _ => return Err(bad_value(name, value, "TLSv1.2, TLSv1.3 or both")),
            }
        }
        if protocols == (Self { tls12: false, tls13: false }) {
            return Err(bad_value(name, value, "TLSv1.2, TLSv1.3 or both"));
        }
        Ok(protocols)
    }
}

impl SaslSettings {
    fn set(&mut self, name: &str, value: &str) -> Result<Outcome, Error> {
        match name {
            "sasl.mechanism" | "sasl.mechanisms" => {
                self.mechanism = Some(SaslMechanism::parse(name, value)?);
            }
            "sasl.username" => self.username = Some(value.to_owned()),
            "sasl.password" => self.password = Some(Secret(value.to_owned())),
            "sasl.jaas.config" => self.take_login(Login::parse(value)?)?,
            "sasl.oauthbearer.token.endpoint.url" => {
                let path = value.strip_prefix("file:").ok_or_else(|| {
                    bad_value(name, value, "file:/path of a token").with_advice(
                        "Tokens are not fetched over HTTP here: write them to a file, or hand a TokenProvider to the client.",
                    )
                })?;
                // Three slashes (no host) or one: both are a path.
                let path = path.strip_prefix("//").unwrap_or(path);
                self.tokens = TokenSource::File(path.into());
            }
            "enable.sasl.oauthbearer.unsecure.jwt" => {
                if super::bool_value(name, value)?
                    && !matches!(self.tokens, TokenSource::Unsecured(_))
                {
                    self.tokens = TokenSource::Unsecured(BTreeMap::new());
                }
            }
            "sasl.oauthbearer.config" => {
                let mut claims = BTreeMap::new();
                for pair in value.split_whitespace() {
                    let (key, text) = pair
                        .split_once('=')
                        .ok_or_else(|| bad_value(name, value, "name=value pairs"))?;
                    let claim = if key == "principal" { "sub" } else { key };
                    claims.insert(claim.to_owned(), text.trim_matches('"').to_owned());
                }
                self.tokens = TokenSource::Unsecured(claims);
            }
            _ => return no_effect(name, value),
        }
        Ok(Outcome::Taken)
    }

    /// What Java's login modules are told.
    fn take_login(&mut self, login: Login) -> Result<(), Error> {
        /// Claims of a token without signature, as Java's login module for tests takes them.
        const CLAIM: &str = "unsecuredLoginStringClaim_";
        let module = login.module.rsplit('.').next().unwrap_or_default();
        match module {
            "PlainLoginModule" | "ScramLoginModule" => {
                let option = |key: &str| login.options.get(key).cloned();
                self.username = option("username");
                self.password = option("password").map(Secret);
                self.is_delegation_token =
                    option("tokenauth").is_some_and(|value| value.eq_ignore_ascii_case("true"));
            }
            "OAuthBearerLoginModule" => {
                let claims: BTreeMap<String, String> = login
                    .options
                    .into_iter()
                    .filter_map(|(key, value)| Some((key.strip_prefix(CLAIM)?.to_owned(), value)))
                    .collect();
                if !claims.is_empty() {
                    self.tokens = TokenSource::Unsecured(claims);
                }
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::Config,
                    format!(
                        "sasl.jaas.config names {}: expected PlainLoginModule, ScramLoginModule or OAuthBearerLoginModule",
                        login.module
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Checks that what the mechanism needs is there.
    pub(super) fn check(&self) -> Result<(), Error> {
        let missing = |what: &str| Err(Error::new(ErrorKind::Config, what.to_owned()));
        match self.mechanism {
            None => missing(
                "sasl.mechanism is missing: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER (Kafka's default GSSAPI is not supported)",
            ),
            Some(SaslMechanism::OauthBearer) => match &self.tokens {
                TokenSource::None => missing(
                    "OAUTHBEARER needs tokens: a TokenProvider, or sasl.oauthbearer.token.endpoint.url with file:/path",
                ),
                TokenSource::Unsecured(claims) if !claims.contains_key("sub") => {
                    missing("a token without signature needs the claim sub (principal)")
                }
                _ => Ok(()),
            },
            Some(_) if self.username.as_deref().unwrap_or_default().is_empty() => {
                missing("sasl.username is missing (or username in sasl.jaas.config)")
            }
            Some(_) if self.password.as_ref().is_none_or(|secret| secret.0.is_empty()) => {
                missing("sasl.password is missing (or password in sasl.jaas.config)")
            }
            Some(_) => Ok(()),
        }
    }
}

fn no_effect(name: &str, value: &str) -> Result<Outcome, Error> {
    Ok(Outcome::NoEffect(match name {
        "sasl.client.callback.handler.class"
        | "sasl.login.callback.handler.class"
        | "sasl.login.class"
        | "security.providers" => "there are no Java classes here",
        "sasl.login.connect.timeout.ms" | "sasl.login.read.timeout.ms" => {
            integer(name, value, 0..=i32::MAX)?;
            "tokens are not fetched over HTTP here"
        }
        _ if name.starts_with("sasl.oauthbearer.") && NAMES.contains(&name) => {
            "tokens are neither fetched over HTTP nor looked into here: they come from a file or a TokenProvider"
        }
        "sasl.login.refresh.buffer.seconds"
        | "sasl.login.refresh.min.period.seconds"
        | "sasl.login.refresh.window.factor"
        | "sasl.login.refresh.window.jitter"
        | "sasl.login.retry.backoff.max.ms"
        | "sasl.login.retry.backoff.ms" => {
            "a token is asked for when a connection is made; the provider decides when to renew it"
        }
        "sasl.kerberos.kinit.cmd"
        | "sasl.kerberos.min.time.before.relogin"
        | "sasl.kerberos.service.name"
        | "sasl.kerberos.ticket.renew.jitter"
        | "sasl.kerberos.ticket.renew.window.factor" => "Kerberos (GSSAPI) is not supported",
        _ => return Ok(Outcome::Unknown),
    }))
}

const MECHANISMS: &[(&str, SaslMechanism)] = &[
    ("PLAIN", SaslMechanism::Plain),
    ("SCRAM-SHA-256", SaslMechanism::ScramSha256),
    ("SCRAM-SHA-512", SaslMechanism::ScramSha512),
    ("OAUTHBEARER", SaslMechanism::OauthBearer),
];

impl SaslMechanism {
    fn parse(name: &str, value: &str) -> Result<Self, Error> {
        let error = match one_of(name, value, MECHANISMS) {
            Ok(mechanism) => return Ok(mechanism),
            Err(error) => error,
        };
        let is_kerberos = value.trim().eq_ignore_ascii_case("GSSAPI");
        Err(if is_kerberos {
            error.with_advice("Kerberos (GSSAPI) is not supported: have another mechanism enabled on the brokers.")
        } else {
            error
        })
    }
}

impl fmt::Display for SaslMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = MECHANISMS.iter().find(|row| row.1 == *self);
        f.write_str(found.map_or("", |row| row.0))
    }
}

impl PartialEq for TokenSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (TokenSource::None, TokenSource::None) => true,
            (TokenSource::File(one), TokenSource::File(other)) => one == other,
            (TokenSource::Unsecured(one), TokenSource::Unsecured(other)) => one == other,
            (TokenSource::Provider(one), TokenSource::Provider(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for TokenSource {}

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sasl(properties: &[(&str, &str)]) -> Result<SaslSettings, Error> {
        let mut settings = SecuritySettings::default();
        for (name, value) in properties {
            settings.set(name, value)?;
        }
        settings.sasl.check()?;
        Ok(settings.sasl)
    }

    #[test]
    fn every_name_in_the_list_is_known() {
        for name in NAMES {
            let outcome = SecuritySettings::default().set(name, "");
            assert!(!matches!(outcome, Ok(Outcome::Unknown)), "{name}");
        }
    }

    #[test]
    fn user_and_password_come_from_either_form() {
        let jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"a\" password=\"b\";";
        let java = sasl(&[("sasl.mechanism", "SCRAM-SHA-512"), ("sasl.jaas.config", jaas)]);
        let c = sasl(&[
            ("sasl.mechanisms", "scram-sha-512"),
            ("sasl.username", "a"),
            ("sasl.password", "b"),
        ]);
        assert_eq!(java.expect("Java's form"), c.expect("librdkafka's form"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (properties, expected) in [
            (&[][..], "sasl.mechanism is missing"),
            (&[("sasl.mechanism", "GSSAPI")][..], "expected one of PLAIN"),
            (&[("sasl.mechanism", "PLAIN")][..], "sasl.username is missing"),
            (
                &[("sasl.mechanism", "PLAIN"), ("sasl.username", "a")][..],
                "sasl.password is missing",
            ),
            (&[("sasl.mechanism", "OAUTHBEARER")][..], "OAUTHBEARER needs tokens"),
            (&[("sasl.jaas.config", "com.example.Other required;")][..], "names com.example.Other"),
            (&[("sasl.oauthbearer.token.endpoint.url", "https://a/b")][..], "expected file:"),
        ] {
            let error = sasl(properties).expect_err(expected);
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn claims_of_tests_and_files_of_tokens() {
        let jaas = "OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"alice\";";
        let java = sasl(&[("sasl.mechanism", "OAUTHBEARER"), ("sasl.jaas.config", jaas)]);
        let c = sasl(&[
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.config", "principal=alice"),
            ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ]);
        assert_eq!(java.expect("Java's form"), c.expect("librdkafka's form"));
        let file = sasl(&[
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.token.endpoint.url", "file:///var/token"),
        ]);
        assert_eq!(file.expect("a file").tokens, TokenSource::File("/var/token".into()));
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut settings = SecuritySettings::default();
        for name in ["sasl.password", "ssl.keystore.key", "ssl.key.password"] {
            settings.set(name, "s3cr3t").expect("a value");
        }
        assert!(!format!("{settings:?}").contains("s3cr3t"), "{settings:?}");
    }

    #[test]
    fn stores_of_java_are_refused_with_the_way_out() {
        let error = SecuritySettings::default()
            .set("ssl.truststore.type", "JKS")
            .expect_err("a Java store");
        assert!(error.advice().contains("openssl pkcs12"), "{}", error.advice());
        assert!(SecuritySettings::default().set("ssl.truststore.type", "PEM").is_ok());
    }

    #[test]
    fn old_versions_of_tls_are_refused() {
        let mut settings = SecuritySettings::default();
        settings.set("ssl.enabled.protocols", "TLSv1.3").expect("a list");
        assert_eq!(settings.tls.protocols, TlsProtocols { tls12: false, tls13: true });
        for bad in ["TLSv1.1", "TLSv1.2,SSLv3", ""] {
            assert!(settings.set("ssl.enabled.protocols", bad).is_err(), "{bad}");
        }
    }
}
