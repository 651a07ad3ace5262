//! `wss:` over real loopback with a certificate made for the test.
//! Does not test rustls; only that it is asked, and that nobody is trusted unasked.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use sockeye_ws::net::{Client, ConnectError, Message, Server, connect};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::support::write;

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

/// A name that no certificate can be for: its first label has more than 63 characters.
fn unnameable() -> String {
    format!("wss://{}.example/", "x".repeat(64))
}

/// Nobody has connected before the connection that this makes.
async fn assert_not_called(listener: &TcpListener) {
    let own = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (_, first) = listener.accept().await.unwrap();
    assert_eq!(first, own.local_addr().unwrap(), "somebody was called before");
}

#[tokio::test]
async fn e2_what_cannot_be_encrypted_is_found_before_anybody_is_called() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&unnameable())
        .proxy(&format!("http://{}", proxy.local_addr().unwrap()))
        .handshake_timeout(Duration::from_secs(60));
    let error = client.connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls(_)), "{error}");
    assert_not_called(&proxy).await;
}

#[tokio::test]
async fn e2_what_cannot_be_encrypted_behind_a_redirect_is_found_before_anybody_is_called() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new("ws://redirecting.example/")
        .redirects_max(1)
        .proxy(&format!("http://{}", proxy.local_addr().unwrap()))
        .handshake_timeout(Duration::from_secs(60));
    let redirecting = async {
        let (mut tunnel, _) = proxy.accept().await.unwrap();
        for answer in ["HTTP/1.1 200 OK\r\n".to_owned(), redirect(&unnameable())] {
            read_head(&mut tunnel).await;
            write(&mut tunnel, format!("{answer}\r\n").as_bytes()).await;
        }
    };
    let (connected, ()) = tokio::join!(client.connect(), redirecting);
    let error = connected.unwrap_err();
    assert!(matches!(error, ConnectError::Tls(_)), "{error}");
    assert_not_called(&proxy).await;
}

fn redirect(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n")
}

async fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
}
