//! TLS for connections: whom to trust, who we are, and what went wrong in words that help.
//!
//! rustls with ring. Files are read once, when a client is built.

use std::{fs, io, path::Path, sync::Arc};

use kavka_environment::Socket;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, InconsistentKeys,
    RootCertStore, SignatureScheme, SupportedProtocolVersion,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring::sign::any_supported_type},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    Error, ErrorKind,
    settings::{Address, TlsSettings, how_to_convert},
};

/// Makes connections private.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads certificates and keys.
    ///
    /// # Errors
    /// A file cannot be read, or holds something else; the error names it.
    pub(super) fn new(settings: &TlsSettings) -> Result<Self, Error> {
        let provider = Arc::new(provider(settings)?);
        let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
        versions.extend(settings.protocols.tls13.then_some(&TLS13));
        versions.extend(settings.protocols.tls12.then_some(&TLS12));
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| {
                config(format_args!(
                    "ssl.cipher.suites and ssl.enabled.protocols do not fit each other: {error}"
                ))
            })?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots(settings)?), provider)
                .build()
                .map_err(|error| {
                    config(format_args!("the certificates to trust cannot be used: {error}"))
                })?;
        let builder = if settings.any_host_name {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyHostName(verifier)))
        } else {
            builder.with_webpki_verifier(verifier)
        };
        let client = match identity(settings)? {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_cert_resolver(resolver(chain, key)?),
        };
        Ok(Self(TlsConnector::from(Arc::new(client))))
    }

    /// Sets up TLS on a connection.
    pub(super) async fn connect(
        &self,
        stream: Socket,
        address: &Address,
    ) -> Result<TlsStream<Socket>, Error> {
        let host: &str = &address.host;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            config(format_args!("{host} is no host name that a certificate can be for"))
        })?;
        self.0.connect(name, stream).await.map_err(|error| refused(address, &error))
    }
}

/// What went wrong while TLS was set up, or when the first answer was read: with TLS 1.3 a broker looks at our certificate only
/// after we think that all is set up.
pub(super) fn refused(address: &Address, error: &io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(why)) => {
            let advice = match why {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "Name the certificate of its issuer with ssl.truststore.location (PEM)."
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    "Use a host name that the certificate has; ssl.endpoint.identification.algorithm= (empty) accepts any."
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "Renew the broker's certificate, or set this machine's clock."
                }
                _ => "Look at the broker's certificate.",
            };
            Error::new(
                ErrorKind::Authentication,
                format!("the certificate of {address} is not accepted: {error}"),
            )
            .with_advice(advice)
        }
        Some(rustls::Error::AlertReceived(alert)) if is_about_certificates(*alert) => Error::new(
            ErrorKind::Authentication,
            format!("{address} wants a certificate of ours, and one that it trusts: {error}"),
        )
        .with_advice("Name our certificate and key with ssl.keystore.location (PEM)."),
        _ => Error::new(ErrorKind::Connect, format!("no TLS with {address}: {error}")).with_advice(
            "Check that this is a listener for SSL or SASL_SSL, and that it speaks TLS 1.2 or 1.3.",
        ),
    }
}

/// Whether a broken connection is the broker's answer to our certificate.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::AlertReceived(alert)) if is_about_certificates(*alert))
}

fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::NoCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate
    )
}

/// ring, with the cipher suites that may be used.
fn provider(settings: &TlsSettings) -> Result<CryptoProvider, Error> {
    let mut provider = rustls::crypto::ring::default_provider();
    let Some(wanted) = &settings.cipher_suites else { return Ok(provider) };
    let known: Vec<String> =
        provider.cipher_suites.iter().map(|suite| iana(suite.suite())).collect();
    if let Some(unknown) = wanted.iter().find(|suite| !known.contains(suite)) {
        return Err(config(format_args!(
            "ssl.cipher.suites names {unknown}: expected some of {}",
            known.join(", ")
        )));
    }
    provider.cipher_suites.retain(|suite| wanted.contains(&iana(suite.suite())));
    Ok(provider)
}

/// A suite by its registered name; rustls calls those of TLS 1.3 otherwise.
fn iana(suite: rustls::CipherSuite) -> String {
    suite.as_str().unwrap_or_default().replace("TLS13_", "TLS_")
}

/// The certificates to trust.
fn roots(settings: &TlsSettings) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let (certificates, origin) =
        match (&settings.truststore_certificates, &settings.truststore_location) {
            (Some(text), _) => {
                (certificates(text.as_bytes(), "ssl.truststore.certificates")?, None)
            }
            (None, Some(path)) => (certificates(&read(path)?, path.display())?, Some(path)),
            (None, None) => {
                let found = rustls_native_certs::load_native_certs();
                // Some of a system's certificates are often old or odd; what is usable is used.
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    let why =
                        found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
                    return Err(config(format_args!(
                        "this system has no certificates to trust{why}"
                    ))
                    .with_advice(
                        "Name those of your brokers with ssl.truststore.location (PEM).",
                    ));
                }
                return Ok(roots);
            }
        };
    for certificate in certificates {
        roots.add(certificate).map_err(|error| {
            let origin = origin
                .map_or("ssl.truststore.certificates".into(), |path| path.display().to_string());
            config(format_args!("a certificate of {origin} cannot be trusted: {error}"))
        })?;
    }
    Ok(roots)
}

/// Shows our certificate to whoever asks.
fn resolver(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<SingleCertAndKey>, Error> {
    let key = any_supported_type(&key)
        .map_err(|error| config(format_args!("our key cannot be used: {error}")))?;
    let identity = CertifiedKey::new(chain, key);
    // Other errors mean that the certificate is older than what rustls reads (X.509 version 1, which openssl makes unless told
    // otherwise). That is for the broker to judge.
    if let Err(error @ rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) =
        identity.keys_match()
    {
        return Err(config(format_args!("our certificate and key do not fit each other: {error}")));
    }
    Ok(Arc::new(SingleCertAndKey::from(identity)))
}

/// Our certificates and key, if there are any.
fn identity(
    settings: &TlsSettings,
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, Error> {
    let store = settings.keystore_location.as_ref().map(|path| read(path)).transpose()?;
    let chain = match (&settings.certificate_chain, &settings.certificate_location) {
        (Some(text), _) => Some(certificates(text.as_bytes(), "ssl.keystore.certificate.chain")?),
        (None, Some(path)) => Some(certificates(&read(path)?, path.display())?),
        (None, None) => match (&store, &settings.keystore_location) {
            (Some(bytes), Some(path)) => Some(certificates(bytes, path.display())?),
            _ => None,
        },
    };
    let key = match (&settings.key, &settings.key_location) {
        (Some(text), _) => Some(private_key(text.reveal().as_bytes(), "ssl.keystore.key")?),
        (None, Some(path)) => Some(private_key(&read(path)?, path.display())?),
        (None, None) => match (&store, &settings.keystore_location) {
            (Some(bytes), Some(path)) => Some(private_key(bytes, path.display())?),
            _ => None,
        },
    };
    match (chain, key) {
        (Some(chain), Some(key)) => Ok(Some((chain, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(config(format_args!(
            "there is a certificate of ours but no key: set ssl.keystore.key or ssl.key.location"
        ))),
        (None, Some(_)) => Err(config(format_args!(
            "there is a key of ours but no certificate: set ssl.keystore.certificate.chain or ssl.certificate.location"
        ))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = fs::read(path)
        .map_err(|error| config(format_args!("{} cannot be read: {error}", path.display())))?;
    let is_java = bytes.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) || bytes.starts_with(&[0xce; 4]);
    // The first byte of anything in DER, as PKCS #12 is.
    let is_der = bytes.first() == Some(&0x30);
    if is_java || is_der {
        let what = if is_java { "a Java key store (JKS)" } else { "a PKCS #12 store or in DER" };
        let name = path.display().to_string();
        return Err(config(format_args!("{name} is {what}: only PEM is read"))
            .with_advice(how_to_convert(&name)));
    }
    Ok(bytes)
}

fn certificates(
    bytes: &[u8],
    origin: impl std::fmt::Display,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| config(format_args!("{origin} is no good PEM: {error}")))?;
    if found.is_empty() {
        return Err(config(format_args!("there is no certificate in {origin}")));
    }
    Ok(found)
}

fn private_key(
    bytes: &[u8],
    origin: impl std::fmt::Display,
) -> Result<PrivateKeyDer<'static>, Error> {
    let is_encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| bytes.windows(mark.len()).any(|window| window == *mark));
    if is_encrypted {
        return Err(config(format_args!("the key in {origin} is encrypted: only plain keys are read"))
            .with_advice("Decrypt it: openssl pkcs8 -in key.pem -out plain.pem, and see that only you can read it."));
    }
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => config(format_args!("there is no private key in {origin}")),
        error => config(format_args!("{origin} is no good PEM: {error}")),
    })
}

fn config(what: std::fmt::Arguments<'_>) -> Error {
    Error::new(ErrorKind::Config, what.to_string())
}

/// Verifies all but the host name.
#[derive(Debug)]
struct AnyHostName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyHostName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The name is looked at last: everything else is right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
