//! Who may speak in a run: certificates from an authority that lives as long as the run.

use std::fmt;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use serde::{Deserialize, Serialize};

use crate::SocketError;

/// Both ends must offer it; a peer of another protocol fails the handshake.
const ALPN: &[u8] = b"bace/1";

/// The certificate authority of one run, held by its coordinator alone.
pub struct RunAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What one member of a run proves itself with and checks others by. It holds a private key: it
/// travels to its member only, in a file of mode 0600 or a pipe.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The member's name, e.g. `w3.run.local`.
    pub name: String,
    /// The run's authority, DER.
    pub ca_der: Vec<u8>,
    /// The member's certificate, DER.
    pub cert_der: Vec<u8>,
    /// The member's private key, PKCS#8 DER.
    pub key_der: Vec<u8>,
}

impl RunAuthority {
    /// A fresh authority.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new() -> Result<Self, SocketError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "run authority");
        let key = KeyPair::generate().map_err(refused)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(refused)?;
        Ok(Self { issuer })
    }

    /// Credentials for the member `name`, which must be a DNS name such as `w3.run.local`.
    ///
    /// # Errors
    /// When `name` is none.
    pub fn issue(&self, name: &str) -> Result<Credentials, SocketError> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(refused)?;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().map_err(refused)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(refused)?;
        Ok(Credentials {
            name: name.to_owned(),
            ca_der: self.issuer.as_ref().der().to_vec(),
            cert_der: certificate.der().to_vec(),
            key_der: key.serialize_der(),
        })
    }
}

impl fmt::Debug for RunAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunAuthority").finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    /// Leaves the key out: this may end in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// What this member demands of those who connect to it: a certificate of this run.
    pub(crate) fn server_config(&self) -> Result<rustls::ServerConfig, SocketError> {
        let provider = Arc::new(provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.roots()?),
            Arc::clone(&provider),
        )
        .build()
        .map_err(refused)?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refused)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.certificate()], self.key())
            .map_err(refused)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    /// What this member shows those it connects to, and demands of them.
    pub(crate) fn client_config(&self) -> Result<rustls::ClientConfig, SocketError> {
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refused)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(vec![self.certificate()], self.key())
            .map_err(refused)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, SocketError> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(self.ca_der.clone()))
            .map_err(refused)?;
        Ok(roots)
    }

    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.cert_der.clone())
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.clone()).into()
    }
}

/// AES-128 first: on loopback the cipher is the limit, and ChaCha20 halves the throughput.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..rustls::crypto::ring::default_provider()
    }
}

fn refused(error: impl fmt::Display) -> SocketError {
    SocketError::Credentials(error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_share_the_authority_and_nothing_else() {
        let authority = RunAuthority::new().unwrap();
        let first = authority.issue("w0.run.local").unwrap();
        let second = authority.issue("w1.run.local").unwrap();
        assert_eq!(first.ca_der, second.ca_der);
        assert_ne!(first.key_der, second.key_der);
        assert!(first.server_config().is_ok() && second.client_config().is_ok());
        assert_ne!(
            RunAuthority::new()
                .unwrap()
                .issue("w0.run.local")
                .unwrap()
                .ca_der,
            first.ca_der
        );
    }

    #[test]
    fn a_key_never_reaches_a_log() {
        let credentials = RunAuthority::new().unwrap().issue("w0.run.local").unwrap();
        assert_eq!(
            format!("{credentials:?}"),
            "Credentials { name: \"w0.run.local\", .. }"
        );
    }

    #[test]
    fn broken_credentials_are_an_error() {
        let mut credentials = RunAuthority::new().unwrap().issue("w0.run.local").unwrap();
        credentials.key_der.truncate(10);
        let error = credentials.server_config().unwrap_err().to_string();
        assert!(error.starts_with("use the run's credentials:"), "{error}");
    }

    /// What a member reads from a file or a pipe, damaged on its way.
    #[derive(Debug, Clone)]
    enum Damage {
        Overwrite(prop::sample::Index, u8),
        Number(prop::sample::Index, String),
        Cut(prop::sample::Index),
    }

    fn damage() -> impl Strategy<Value = Damage> {
        let place = any::<prop::sample::Index>();
        prop_oneof![
            (place.clone(), any::<u8>()).prop_map(|(at, byte)| Damage::Overwrite(at, byte)),
            (place.clone(), "-?[0-9]{1,25}").prop_map(|(at, text)| Damage::Number(at, text)),
            place.prop_map(Damage::Cut),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn damaged_credentials_are_refused(damages in prop::collection::vec(damage(), 1..4)) {
            static WHOLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let mut json = WHOLE
                .get_or_init(|| {
                    let issued = RunAuthority::new().unwrap().issue("w0.run.local").unwrap();
                    serde_json::to_vec(&issued).unwrap()
                })
                .clone();
            for damage in damages {
                match damage {
                    Damage::Overwrite(at, byte) if !json.is_empty() => *at.get_mut(&mut json) = byte,
                    Damage::Number(at, text) => {
                        let numbers = json.iter().enumerate().filter(|(_, byte)| byte.is_ascii_digit());
                        let places: Vec<usize> = numbers.map(|(place, _)| place).collect();
                        if !places.is_empty() {
                            let place = *at.get(&places);
                            json.splice(place..=place, text.bytes());
                        }
                    }
                    Damage::Cut(at) => json.truncate(at.index(json.len() + 1)),
                    Damage::Overwrite(..) => {}
                }
            }
            // Nothing but an error may come of bytes that are no certificate; what still is one may serve.
            if let Ok(credentials) = serde_json::from_slice::<Credentials>(&json) {
                let refused = [credentials.server_config().err(), credentials.client_config().err()];
                for error in refused.into_iter().flatten() {
                    prop_assert!(matches!(error, SocketError::Credentials(_)), "{error}");
                }
            }
        }
    }
}
