//! Who gets in, and what members say to each other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::support::*;
use crate::{Credentials, Endpoint, NetThread, Profile, RunAuthority, SocketError};

#[tokio::test]
async fn only_members_of_the_run_get_in() {
    let ours = RunAuthority::new().unwrap();
    let theirs = RunAuthority::new().unwrap();
    let profile = Profile::control();
    let coordinator = ours.issue("coordinator.run.local").unwrap();
    let endpoint = Endpoint::bind(loopback(), &coordinator, profile).unwrap();
    let address = endpoint.local_addr().unwrap();
    let (outcome, mut outcomes) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(pending) = endpoint.accept().await {
            outcome.send(pending.establish().await).await.unwrap();
        }
    });

    let member = Endpoint::bind(loopback(), &ours.issue("w3.run.local").unwrap(), profile).unwrap();
    let connection = member
        .connect(address, "coordinator.run.local")
        .await
        .unwrap();
    let accepted = outcomes.recv().await.unwrap().unwrap();
    assert_eq!(accepted.peer_name(), "w3.run.local");
    assert_eq!(connection.peer_name(), "coordinator.run.local");

    let wrong_name = member
        .connect(address, "w9.run.local")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        wrong_name.starts_with("connect to w9.run.local at 127.0.0.1:"),
        "{wrong_name}"
    );
    assert!(outcomes.recv().await.unwrap().is_err());

    let stranger =
        Endpoint::bind(loopback(), &theirs.issue("w3.run.local").unwrap(), profile).unwrap();
    assert!(
        stranger
            .connect(address, "coordinator.run.local")
            .await
            .is_err()
    );
    assert!(outcomes.recv().await.unwrap().is_err());

    // Knows our authority, and has a certificate of another.
    let mixed = Credentials {
        ca_der: coordinator.ca_der.clone(),
        ..theirs.issue("w3.run.local").unwrap()
    };
    let intruder = Endpoint::bind(loopback(), &mixed, profile).unwrap();
    assert!(said_hello(&intruder, address).await.is_err());
    assert!(outcomes.recv().await.unwrap().is_err());
}

#[tokio::test]
async fn who_has_no_certificate_gets_no_answer() {
    let authority = RunAuthority::new().unwrap();
    let coordinator = authority.issue("coordinator.run.local").unwrap();
    let endpoint = Endpoint::bind(loopback(), &coordinator, Profile::control()).unwrap();
    let address = endpoint.local_addr().unwrap();
    let refused = tokio::spawn(async move {
        let pending = endpoint.accept().await.unwrap();
        pending.establish().await.map(|_| ())
    });

    let mut roots = rustls::RootCertStore::empty();
    roots.add(coordinator.ca_der.clone().into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"bace/1".to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let client = quinn::Endpoint::client(loopback()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let connection = client
        .connect_with(config, address, "coordinator.run.local")
        .unwrap()
        .await
        // The client's side of the handshake is done before the refusal arrives.
        .unwrap();
    let error = connection.closed().await.to_string();
    assert!(error.contains("certificate"), "{error}");
    assert!(matches!(
        refused.await.unwrap(),
        Err(SocketError::Accept { .. })
    ));
}

async fn said_hello(endpoint: &Endpoint, address: SocketAddr) -> Result<Vec<u8>, SocketError> {
    let connection = endpoint.connect(address, "coordinator.run.local").await?;
    let (answer, _writer, _reader) = connection.hello(b"hello", MAX_BYTES).await?;
    Ok(answer)
}

#[tokio::test]
async fn control_messages_are_whole_in_both_directions() {
    let pair = pair(Profile::control()).await;
    let serving = pair.server.clone();
    let echo = tokio::spawn(async move {
        let (mut writer, mut reader) = serving.accept_messages(MAX_BYTES).await?;
        while let Some(message) = reader.receive().await? {
            writer.send(&message).await?;
        }
        writer.finish().await
    });
    let (answer, mut writer, mut reader) = pair.client.hello(b"who", MAX_BYTES).await.unwrap();
    assert_eq!(answer, b"who");
    for size in [0, 1, 70_000, MAX_BYTES as usize] {
        writer.send(&pattern(size)).await.unwrap();
        assert_eq!(reader.receive().await.unwrap().unwrap(), pattern(size));
    }
    let error = writer
        .send(&pattern(MAX_BYTES as usize + 1))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "send a message of 1048577 bytes: the limit is 1048576"
    );
    writer.finish().await.unwrap();
    assert!(reader.receive().await.unwrap().is_none());
    echo.await.unwrap().unwrap();
}

#[tokio::test]
async fn broken_control_messages_are_errors() {
    let pair = pair(Profile::control()).await;
    for (bytes, expected) in [
        (
            &[0xff; 4][..],
            "announced 4294967295 bytes, the limit is 1048576",
        ),
        (&[5, 0, 0, 0, 1][..], "ended within a message"),
        (&[5, 0][..], "ended within a message"),
    ] {
        let (mut stream, _answers) = pair.client.quinn().open_bi().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.finish().unwrap();
        let (_writer, mut reader) = pair.server.accept_messages(MAX_BYTES).await.unwrap();
        let error = reader.receive().await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_peer_that_falls_silent_is_lost_after_the_idle_timeout() {
    let profile = Profile {
        idle_timeout: Duration::from_millis(1_000),
        keep_alive: Duration::from_millis(200),
        bulk: false,
    };
    let authority = RunAuthority::new().unwrap();
    let (near, far) = (
        authority.issue("w0.run.local"),
        authority.issue("w1.run.local"),
    );
    let near_net = NetThread::start("near").unwrap();
    let far_net = NetThread::start("far").unwrap();
    let far = far_net
        .run(async move { Endpoint::bind(loopback(), &far.unwrap(), profile).unwrap() })
        .unwrap();
    let address = far.local_addr().unwrap();
    far_net.handle().spawn(async move {
        let connection = far.accept().await.unwrap().establish().await.unwrap();
        connection.closed().await
    });
    let (_near, connection) = near_net
        .run(async move {
            let near = Endpoint::bind(loopback(), &near.unwrap(), profile).unwrap();
            let connection = near.connect(address, "w1.run.local").await.unwrap();
            (near, connection)
        })
        .unwrap();
    // Kept alive well beyond the idle timeout.
    let alive = connection.clone();
    let waited = near_net.run(async move {
        tokio::time::timeout(Duration::from_millis(1_500), alive.closed()).await
    });
    assert!(waited.unwrap().is_err());
    // As a killed process: no farewell.
    drop(far_net);
    let error = near_net
        .run(async move { connection.closed().await })
        .unwrap();
    assert_eq!(
        error.to_string(),
        "keep the connection to w1.run.local: timed out"
    );
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let credentials = RunAuthority::new().unwrap().issue("w0.run.local").unwrap();
    let first = Endpoint::bind(loopback(), &credentials, Profile::data()).unwrap();
    let address = first.local_addr().unwrap();
    let error = Endpoint::bind(address, &credentials, Profile::data())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with(&format!(
        "bind UDP address {address}: Address already in use"
    )));
    first.close("done").await;
    assert!(first.accept().await.is_none());
}
