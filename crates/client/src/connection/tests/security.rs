//! TLS and SASL against a server that plays a broker: with good and bad certificates, and with SCRAM as a broker does it, and as one
//! that does not know the password.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;

use base64::{Engine, engine::general_purpose::STANDARD};
use kavka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use ring::{digest, hmac};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::settings::{SecurityProtocol, StaticToken, Token, TokenSource};

/// Who issues certificates.
struct Issuer(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Issuer {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

impl Identity {
    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.serialize_pem().as_bytes()).unwrap()
    }

    /// A server that shows it, and that wants certificates of `clients`, if given.
    fn server(&self, clients: Option<&Issuer>) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(issuer) => {
                let mut roots = RootCertStore::empty();
                roots.add(issuer.0.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = vec![self.certificate.der().clone()];
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, self.private_key()).unwrap()))
    }
}

fn secured(protocol: SecurityProtocol, properties: &[(&str, &str)]) -> CommonSettings {
    let mut settings = settings();
    settings.security_protocol = protocol;
    for (name, value) in properties {
        settings.set(name, value).expect("a property");
    }
    settings
}

/// Connects to a server that does TLS.
async fn over_tls(server: TlsAcceptor, settings: &CommonSettings) -> Result<Connection, Error> {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(stream) = server.accept(stream).await {
            let mut peer = Peer { stream };
            peer.answer_versions().await;
            let asked = peer.request().await;
            peer.answer_heartbeat(&asked, ErrorCode::None).await;
        }
    });
    let connection = Connection::open(&address, settings, &Security::new(settings)?, FIRST).await?;
    let response = connection.call(&heartbeat("a"), LONG).await?;
    assert_eq!(response.error_code, ErrorCode::None);
    Ok(connection)
}

#[tokio::test]
async fn a_certificate_of_a_trusted_issuer_for_that_host_is_accepted() {
    let issuer = Issuer::new("one");
    let server = issuer.issue(|_| {}).server(None);
    for protocols in ["TLSv1.2,TLSv1.3", "TLSv1.2", "TLSv1.3"] {
        let settings = secured(
            SecurityProtocol::Ssl,
            &[("ssl.truststore.certificates", &issuer.pem()), ("ssl.enabled.protocols", protocols)],
        );
        over_tls(server.clone(), &settings).await.expect(protocols);
    }
}

#[tokio::test]
async fn an_unknown_issuer_an_expired_certificate_and_a_wrong_name_are_refused() {
    let (issuer, other) = (Issuer::new("one"), Issuer::new("other"));
    let expired = issuer.issue(|params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let elsewhere = issuer.issue(|params| {
        *params = CertificateParams::new(vec!["elsewhere.example".to_owned()]).unwrap();
    });
    let good = issuer.issue(|_| {});
    for (server, trusted, expected) in [
        (&good, &other, "UnknownIssuer"),
        (&expired, &issuer, "expired"),
        (&elsewhere, &issuer, "elsewhere.example"),
    ] {
        let settings =
            secured(SecurityProtocol::Ssl, &[("ssl.truststore.certificates", &trusted.pem())]);
        let error = over_tls(server.server(None), &settings).await.expect_err(expected);
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.is_fatal() && !error.is_retriable());
    }
    let any_name = |certificates: &str| {
        secured(
            SecurityProtocol::Ssl,
            &[
                ("ssl.truststore.certificates", certificates),
                ("ssl.endpoint.identification.algorithm", ""),
            ],
        )
    };
    over_tls(elsewhere.server(None), &any_name(&issuer.pem())).await.expect("any name will do");
    let error =
        over_tls(expired.server(None), &any_name(&issuer.pem())).await.expect_err("expired");
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    let error = over_tls(good.server(None), &any_name(&other.pem())).await.expect_err("unknown");
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
}

#[tokio::test]
async fn a_broker_that_wants_to_know_our_certificate_gets_it() {
    let issuer = Issuer::new("one");
    let server = issuer.issue(|_| {}).server(Some(&issuer));
    let trust = ("ssl.truststore.certificates", issuer.pem());
    let without = secured(SecurityProtocol::Ssl, &[(trust.0, &trust.1)]);
    let error = over_tls(server.clone(), &without).await.expect_err("no certificate");
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert!(error.advice().contains("ssl.keystore.location"), "{}", error.advice());

    let us = issuer.issue(|_| {});
    let (chain, key) = (us.certificate.pem(), us.key.serialize_pem());
    let inline = secured(
        SecurityProtocol::Ssl,
        &[
            (trust.0, &trust.1),
            ("ssl.keystore.certificate.chain", &chain),
            ("ssl.keystore.key", &key),
        ],
    );
    over_tls(server.clone(), &inline).await.expect("our certificate");

    let dir = std::env::temp_dir().join(format!("kavka-tls-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = |name: &str| dir.join(name).display().to_string();
    std::fs::write(dir.join("store.pem"), format!("{key}{chain}")).unwrap();
    std::fs::write(dir.join("ca.pem"), &trust.1).unwrap();
    let files = secured(
        SecurityProtocol::Ssl,
        &[("ssl.ca.location", &path("ca.pem")), ("ssl.keystore.location", &path("store.pem"))],
    );
    over_tls(server, &files).await.expect("our certificate, from files");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn a_listener_without_tls_is_named_so() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let mut peer = accept(&listener).await;
        // What a plain listener makes of it: a frame of half a gigabyte. It closes.
        peer.stream.read_u32().await.unwrap();
    });
    let settings = secured(
        SecurityProtocol::Ssl,
        &[("ssl.truststore.certificates", &Issuer::new("one").pem())],
    );
    let security = Security::new(&settings).unwrap();
    let error = Connection::open(&address, &settings, &security, FIRST).await.expect_err("no TLS");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.advice().contains("listener for SSL"), "{}", error.advice());
}

#[test]
fn files_that_are_no_pem_are_refused_with_the_way_out() {
    let file = std::env::temp_dir().join(format!("kavka-store-{}", std::process::id()));
    let path = file.display().to_string();
    for (content, expected) in [
        (&[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2][..], "a Java key store (JKS)"),
        (&[0x30, 0x82, 0x0a, 0x10][..], "PKCS #12"),
        (b"hello", "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n", "no good PEM"),
    ] {
        std::fs::write(&file, content).unwrap();
        let settings = secured(SecurityProtocol::Ssl, &[("ssl.truststore.location", &path)]);
        let error = Security::new(&settings).expect_err(expected);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(expected), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    let missing = secured(SecurityProtocol::Ssl, &[("ssl.truststore.location", &path)]);
    assert!(Security::new(&missing).expect_err("gone").to_string().contains(&path));

    let issuer = Issuer::new("one");
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let chain = issuer.issue(|_| {}).certificate.pem();
    let others_key = issuer.issue(|_| {}).key.serialize_pem();
    let settings = |properties: &[(&str, &str)]| {
        let mut all = vec![("ssl.truststore.certificates", issuer.pem())];
        all.extend(properties.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let all: Vec<(&str, &str)> =
            all.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Security::new(&secured(SecurityProtocol::Ssl, &all))
    };
    let both =
        [("ssl.keystore.key", encrypted), ("ssl.keystore.certificate.chain", chain.as_str())];
    let error = settings(&both).expect_err("encrypted");
    assert!(error.advice().contains("openssl pkcs8"), "{}", error.advice());
    let others = [("ssl.keystore.key", others_key.as_str()), both[1]];
    let error = settings(&others).expect_err("another's key");
    assert!(error.to_string().contains("do not fit each other"), "{error}");
    let error = settings(&both[1..]).expect_err("no key");
    assert!(error.to_string().contains("no key"), "{error}");
    let error = settings(&[("ssl.cipher.suites", "TLS_NULL")]).expect_err("no such suite");
    assert!(error.to_string().contains("TLS_AES_256_GCM_SHA384"), "{error}");
    settings(&[("ssl.cipher.suites", "TLS_AES_256_GCM_SHA384")]).expect("a suite");
}

/// How the broker's half of SCRAM behaves.
#[derive(Clone, Copy, PartialEq)]
enum Broker {
    Honest,
    WrongSignature,
    OtherNonce,
    FewIterations,
}

const PASSWORD: &str = "pencil";

impl Peer {
    async fn answer_handshake(&mut self, offered: &[&str]) {
        let asked = self.request().await;
        let request = SaslHandshakeRequest::decode(&mut Reader::new(asked.body), 1).unwrap();
        let is_offered = offered.contains(&&*request.mechanism);
        let response = SaslHandshakeResponse {
            error_code: if is_offered {
                ErrorCode::None
            } else {
                ErrorCode::UnsupportedSaslMechanism
            },
            mechanisms: offered.iter().map(|name| (*name).into()).collect(),
        };
        self.answer::<SaslHandshakeRequest>(asked.header.correlation_id, 1, &response).await;
    }

    /// What the client says, and a way to answer.
    async fn said(&mut self) -> (i32, String) {
        let asked = self.request().await;
        assert_eq!(asked.header.request_api_version, 2);
        let request = SaslAuthenticateRequest::decode(&mut Reader::new(asked.body), 2).unwrap();
        let text = String::from_utf8(request.auth_bytes.to_vec()).unwrap();
        (asked.header.correlation_id, text)
    }

    async fn say(&mut self, correlation_id: i32, text: &str, session_lifetime_ms: i64) {
        let response = SaslAuthenticateResponse {
            auth_bytes: Bytes::copy_from_slice(text.as_bytes()),
            session_lifetime_ms,
            ..Default::default()
        };
        self.answer::<SaslAuthenticateRequest>(correlation_id, 2, &response).await;
    }

    async fn refuse(&mut self, correlation_id: i32, why: &str) {
        let response = SaslAuthenticateResponse {
            error_code: ErrorCode::SaslAuthenticationFailed,
            error_message: Some(why.into()),
            ..Default::default()
        };
        self.answer::<SaslAuthenticateRequest>(correlation_id, 2, &response).await;
    }

    /// SCRAM as a broker does it, written after the RFC and not after the client.
    async fn scram(&mut self, behaviour: Broker) {
        let (id, first) = self.said().await;
        let bare = first.strip_prefix("n,,").unwrap().to_owned();
        let nonce = bare.split_once(",r=").unwrap().1.to_owned();
        let server_nonce = match behaviour {
            Broker::OtherNonce => "other".to_owned(),
            _ => format!("{nonce}server"),
        };
        let iterations = if behaviour == Broker::FewIterations { 1000 } else { 4096 };
        let salt = b"salt";
        let server_first = format!("r={server_nonce},s={},i={iterations}", STANDARD.encode(salt));
        self.say(id, &server_first, 0).await;
        let (id, last) = self.said().await;
        let (without_proof, proof) = last.rsplit_once(",p=").unwrap();
        assert_eq!(without_proof, format!("c=biws,r={server_nonce}"));
        let mut salted = [0; 32];
        ring::pbkdf2::derive(
            ring::pbkdf2::PBKDF2_HMAC_SHA256,
            NonZeroU32::new(iterations).unwrap(),
            salt,
            PASSWORD.as_bytes(),
            &mut salted,
        );
        let sign = |key: &[u8], text: &[u8]| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
        };
        let stored = digest::digest(&digest::SHA256, &sign(&salted, b"Client Key"));
        let message = format!("{bare},{server_first},{without_proof}");
        let signature = sign(stored.as_ref(), message.as_bytes());
        let proof = STANDARD.decode(proof).unwrap();
        let key: Vec<u8> = proof.iter().zip(&signature).map(|(one, other)| one ^ other).collect();
        if digest::digest(&digest::SHA256, &key).as_ref() != stored.as_ref() {
            let why = "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256";
            return self.refuse(id, why).await;
        }
        let mut signature = sign(&sign(&salted, b"Server Key"), message.as_bytes());
        if behaviour == Broker::WrongSignature {
            signature[31] ^= 1;
        }
        self.say(id, &format!("v={}", STANDARD.encode(signature)), 0).await;
    }
}

fn sasl(mechanism: &str, password: &str) -> CommonSettings {
    let properties =
        [("sasl.mechanism", mechanism), ("sasl.username", "us=er"), ("sasl.password", password)];
    secured(SecurityProtocol::SaslPlaintext, &properties)
}

/// Connects to a server that does what `script` says after it told its versions.
async fn over_sasl<F: Future<Output = Peer> + Send>(
    settings: &CommonSettings,
    script: impl FnOnce(Peer) -> F,
) -> Result<(Connection, Peer), Error> {
    let (listener, address) = listen().await;
    let peer = async {
        let mut peer = accept(&listener).await;
        peer.answer_versions().await;
        script(peer).await
    };
    let peer = tokio::time::timeout(LONG, peer);
    let (connection, peer) =
        tokio::join!(Connection::open(&address, settings, &PLAIN, FIRST), peer);
    Ok((connection?, peer.expect("a script that comes to its end")))
}

async fn scram_with(password: &str) -> Result<(), Error> {
    let script = async move |mut peer: Peer| {
        peer.answer_handshake(&["PLAIN", "SCRAM-SHA-256"]).await;
        peer.scram(Broker::Honest).await;
        peer
    };
    over_sasl(&sasl("SCRAM-SHA-256", password), script).await.map(|_| ())
}

#[tokio::test]
async fn scram_is_complete_when_both_have_proved_to_know_the_password() {
    scram_with(PASSWORD).await.expect("the right password");
    let error = scram_with("pen").await.expect_err("a wrong password");
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.is_fatal() && !error.is_retriable());
    assert!(error.to_string().contains("invalid credentials"), "{error}");
}

/// The peer panics when the client hangs up on it; only what the client says counts here.
async fn refusal_of(behaviour: Broker) -> Error {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let mut peer = accept(&listener).await;
        peer.answer_versions().await;
        peer.answer_handshake(&["SCRAM-SHA-256"]).await;
        peer.scram(behaviour).await;
    });
    let settings = sasl("SCRAM-SHA-256", PASSWORD);
    Connection::open(&address, &settings, &PLAIN, FIRST).await.expect_err("a broker that cheats")
}

#[tokio::test]
async fn a_broker_that_cheats_at_scram_is_refused() {
    for (behaviour, expected) in [
        (Broker::WrongSignature, "signature is wrong"),
        (Broker::OtherNonce, "nonce does not go on from ours"),
        (Broker::FewIterations, "wants 1000 SCRAM iterations"),
    ] {
        let error = refusal_of(behaviour).await;
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn plain_says_user_and_password() {
    let script = async |mut peer: Peer| {
        peer.answer_handshake(&["PLAIN"]).await;
        let (id, said) = peer.said().await;
        assert_eq!(said, "\0us=er\0pencil");
        peer.say(id, "", 0).await;
        peer
    };
    let (connection, _peer) = over_sasl(&sasl("PLAIN", PASSWORD), script).await.expect("let in");
    assert!(!connection.is_retired());
}

#[tokio::test]
async fn a_mechanism_that_is_not_offered_is_told_with_those_that_are() {
    let script = async |mut peer: Peer| {
        peer.answer_handshake(&["GSSAPI", "SCRAM-SHA-512"]).await;
        peer
    };
    let error = over_sasl(&sasl("PLAIN", PASSWORD), script).await.expect_err("not offered");
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.to_string().contains("it offers GSSAPI, SCRAM-SHA-512"), "{error}");
}

#[tokio::test]
async fn a_token_is_shown_and_its_refusal_told_in_the_brokers_words() {
    let mut settings =
        secured(SecurityProtocol::SaslPlaintext, &[("sasl.mechanism", "OAUTHBEARER")]);
    let token = StaticToken::new(Token::new("abc.def.").extension("tenant", "a"));
    settings.security.sasl.tokens = TokenSource::Provider(Arc::new(token));
    let shown = "n,,\x01auth=Bearer abc.def.\x01tenant=a\x01\x01";
    let script = async |mut peer: Peer| {
        peer.answer_handshake(&["OAUTHBEARER"]).await;
        let (id, said) = peer.said().await;
        assert_eq!(said, shown);
        peer.say(id, "", 0).await;
        peer
    };
    over_sasl(&settings, script).await.expect("let in");
    let script = async |mut peer: Peer| {
        peer.answer_handshake(&["OAUTHBEARER"]).await;
        let (id, _) = peer.said().await;
        peer.say(id, "{\"status\":\"invalid_token\"}", 0).await;
        let (id, said) = peer.said().await;
        assert_eq!(said, "\x01");
        peer.refuse(id, "{\"status\":\"invalid_token\"}").await;
        peer
    };
    let error = over_sasl(&settings, script).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.to_string().contains("invalid_token"), "{error}");
}

async fn with_session(lifetime_ms: i64) -> (Connection, Peer) {
    let script = async move |mut peer: Peer| {
        peer.answer_handshake(&["PLAIN"]).await;
        let (id, _) = peer.said().await;
        peer.say(id, "", lifetime_ms).await;
        peer
    };
    over_sasl(&sasl("PLAIN", PASSWORD), script).await.expect("let in")
}

#[tokio::test]
async fn a_connection_retires_before_its_session_ends_and_still_answers_what_was_asked() {
    assert!(!with_session(3_600_000).await.0.is_retired());
    let (connection, mut peer) = with_session(20).await;
    let answer = connection.send(&heartbeat("a"), 4).expect("sent");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(connection.is_retired() && !connection.is_closed());
    drop(connection);
    let asked = peer.request().await;
    peer.answer_heartbeat(&asked, ErrorCode::UnknownMemberId).await;
    let response: HeartbeatResponse = answer.wait(LONG).await.expect("an answer");
    assert_eq!(response.error_code, ErrorCode::UnknownMemberId);
    let mut rest = Vec::new();
    peer.stream.read_to_end(&mut rest).await.expect("the end");
    assert!(rest.is_empty());
}

/// Who locks users out after so many wrong passwords must not be asked in a loop.
#[tokio::test]
async fn a_refusal_is_not_tried_again_fast() {
    let (listener, address) = listen().await;
    let asked = Arc::new(AtomicI32::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let mut peer = accept(&listener).await;
            count.fetch_add(1, Ordering::SeqCst);
            peer.answer_versions().await;
            peer.answer_handshake(&["PLAIN"]).await;
            let (id, _) = peer.said().await;
            peer.refuse(id, "wrong password").await;
        }
    });
    let mut settings = sasl("PLAIN", "wrong");
    settings.bootstrap_servers = vec![address];
    let cluster = crate::cluster::Cluster::new(settings).expect("settings");
    for _ in 0..20 {
        let error = cluster.any().await.expect_err("a wrong password");
        assert_eq!(error.kind(), ErrorKind::Authentication);
        assert!(error.to_string().contains("wrong password"), "{error}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
