//! `wss:` over real loopback with a certificate made for the test.
//! Does not test rustls; only that it is asked, and that nobody is trusted unasked.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use sockeye_ws::net::{Client, ConnectError, Message, Server, connect};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A server of one name that echoes; its port and its certificate.
async fn serve(name: &str) -> (u16, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let mut websocket = Server::new().accept(stream).await.unwrap();
            while let Some(message) = websocket.next().await {
                websocket.send(message.unwrap()).await.unwrap();
            }
        }
    });
    (port, cert.der().clone())
}

fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn e2_messages_of_all_sizes_over_tls() {
    let (port, certificate) = serve("localhost").await;
    let client = Client::new(&format!("wss://localhost:{port}/")).tls(trusting(certificate));
    let mut websocket = client.connect().await.unwrap();
    for len in [0, 1, 126, 20_000, 1 << 20] {
        let message = Message::binary(vec![7; len]);
        websocket.send(message.clone()).await.unwrap();
        assert_eq!(websocket.next().await.unwrap().unwrap(), message);
    }
    websocket.close(None, "").await.unwrap();
}

#[tokio::test]
async fn engine_io_client_cve_2016_10536_certificates_are_verified_by_default() {
    let (port, certificate) = serve("localhost").await;
    let untrusted = connect(&format!("wss://localhost:{port}/")).await.unwrap_err();
    assert!(matches!(untrusted, ConnectError::Tls(_)), "{untrusted}");
    // Trusted, but not for this name.
    let client = Client::new(&format!("wss://127.0.0.1:{port}/")).tls(trusting(certificate));
    let misnamed = client.connect().await.unwrap_err();
    assert!(matches!(misnamed, ConnectError::Tls(_)), "{misnamed}");
}
