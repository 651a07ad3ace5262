//! Whom to trust, and who one is, where Redis is spoken to over TLS. Does not know URLs.

use std::fmt;

use redis::{Client, ClientTlsConfig, ConnectionInfo, RedisError, TlsCertificates};
use tokio_rustls::rustls::crypto::CryptoProvider;

/// What [`Redis::open_with_tls`] takes; all of it is PEM.
///
/// [`Redis::open_with_tls`]: super::Redis::open_with_tls
#[derive(Clone, Default)]
pub struct Tls {
    /// The authorities that may have signed a server's certificate. Default: those that the
    /// operating system trusts.
    pub ca_certificates: Option<Vec<u8>>,
    /// The certificate, with those that signed it, and the key to show to servers that ask for
    /// them. Default: none.
    pub client_certificate: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    pub(super) fn certificates(self) -> TlsCertificates {
        let client_tls = self.client_certificate;
        let client_tls =
            client_tls.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        TlsCertificates { client_tls, root_cert: self.ca_certificates }
    }

    pub(super) fn add_to(&self, info: &mut ConnectionInfo) -> Result<(), RedisError> {
        let client = Client::build_with_tls(info.clone(), self.clone().certificates())?;
        *info = client.get_connection_info().clone();
        Ok(())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("has_ca_certificates", &self.ca_certificates.is_some())
            .field("has_client_certificate", &self.client_certificate.is_some())
            .finish()
    }
}

/// Two features may bring a provider each, between which rustls does not choose.
pub(super) fn ensure_provider() {
    #[cfg(feature = "aws-lc-rs")]
    let provider = Some(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    let provider = Some(tokio_rustls::rustls::crypto::ring::default_provider());
    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
    let provider = None::<CryptoProvider>;
    if let Some(provider) = provider.filter(|_| CryptoProvider::get_default().is_none()) {
        // Another thread may have been first, which is as good.
        let _ = provider.install_default();
    }
}
