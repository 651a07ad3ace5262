//! TLS for `wss:`, by rustls: the server's certificate is always verified.
//! Does not know what travels inside.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::ConnectError;
use crate::handshake::Url;
use crate::net::AnyStream;

/// A configuration of the caller's.
#[derive(Clone)]
pub(super) struct Config(pub(super) Arc<ClientConfig>);

impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClientConfig")
    }
}

/// What a stream to a server is encrypted with; it can be had before there is a stream.
pub(super) struct Encryption {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Encryption {
    /// For the server of `url`.
    pub(super) fn new(config: Option<&Config>, url: &Url) -> Result<Self, ConnectError> {
        let config = match config {
            Some(Config(config)) => Some(Arc::clone(config)),
            None => default_config()?,
        };
        Self::with(config, url)
    }

    fn with(config: Option<Arc<ClientConfig>>, url: &Url) -> Result<Self, ConnectError> {
        let connector = TlsConnector::from(config.ok_or(ConnectError::TlsMissing)?);
        let name = ServerName::try_from(url.host().to_owned()).map_err(|error| {
            ConnectError::Tls(io::Error::new(io::ErrorKind::InvalidInput, error))
        })?;
        Ok(Self { connector, name })
    }

    pub(super) async fn encrypt(self, tcp: TcpStream) -> Result<AnyStream, ConnectError> {
        let stream = self.connector.connect(self.name, tcp).await.map_err(ConnectError::Tls)?;
        Ok(AnyStream::boxed(stream))
    }
}

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
#[expect(clippy::unnecessary_wraps, reason = "with a provider it can fail")]
fn default_config() -> Result<Option<Arc<ClientConfig>>, ConnectError> {
    Ok(None)
}

/// The operating system's roots and the provider that the features name (of two, aws-lc-rs),
/// whatever the process has installed. Read once: there are hundreds of roots.
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
fn default_config() -> Result<Option<Arc<ClientConfig>>, ConnectError> {
    use std::sync::OnceLock;

    #[cfg(feature = "aws-lc-rs")]
    use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
    #[cfg(not(feature = "aws-lc-rs"))]
    use tokio_rustls::rustls::crypto::ring::default_provider;

    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();

    if let Some(config) = CONFIG.get() {
        return Ok(Some(Arc::clone(config)));
    }
    let mut roots = tokio_rustls::rustls::RootCertStore::empty();
    // Some systems carry roots that cannot be read; without them fewer servers are trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Tls(io::Error::other(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(Arc::clone(CONFIG.get_or_init(|| Arc::new(config)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_configuration_there_is_no_encryption() {
        let url = Url::parse("wss://example.com/").unwrap();
        let missing = Encryption::with(None, &url);
        assert!(matches!(missing, Err(ConnectError::TlsMissing)));
        assert!(Encryption::new(None, &url).is_ok(), "the features of the tests bring a default");
    }
}
