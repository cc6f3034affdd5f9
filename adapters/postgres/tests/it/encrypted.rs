//! Encrypted connections, and servers that are not who they should be.

use std::path::PathBuf;

use purlin::message::{Envelope, Fault, FaultKind};
use purlin::store::{Commit, Expected, StreamId};
use purlin_postgres::OpenError;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::server::Server;

/// An issuer of certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("it signs itself").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate of a host, or of a client of that name, and its key.
    fn certify(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.issuer).expect("it is signed").pem(), key.serialize_pem())
    }
}

/// A certificate that only itself vouches for, as `openssl req -x509` makes it.
fn of_itself(name: &str) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    (params.self_signed(&key).expect("it signs itself").pem(), key.serialize_pem())
}

/// Files of ours, which go with the test.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("purlin-tls-{}", purlin::message::new_id()));
        std::fs::create_dir(&folder).expect("the temporary folder can be written");
        Self(folder)
    }

    fn write(&self, name: &str, content: &str) -> String {
        let file = self.0.join(name);
        std::fs::write(&file, content).expect("it can be written");
        file.display().to_string()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens the store with these parameters and commits; whether all its connections are encrypted.
async fn opened(server: &Server, parameters: &str) -> Result<bool, OpenError> {
    let store = purlin_postgres::open(format!("{}?{parameters}", server.url()), "sealed").await?;
    let stream = StreamId::new("thing", "1").expect("a name");
    let commit = Commit::new().append(stream, Expected::Any, [Envelope::raw("thing.counted", "1")]);
    store.commit(commit).await.expect("it is taken");
    let asked = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                 WHERE application_name = 'purlin sealed'";
    let row = server.client().await.query_one(asked, &[]).await.expect("it is answered");
    store.close().await;
    Ok(row.get(0))
}

/// The refusal, with all its causes.
async fn refused(server: &Server, parameters: &str) -> String {
    let error = opened(server, parameters).await.expect_err("it is refused");
    assert_eq!(error.kind(), FaultKind::Unavailable, "{error}");
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        said = format!("{said}: {next}");
        cause = next.source();
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_encrypted_and_servers_checked_as_the_url_says() {
    let Some(server) = Server::start() else { return };
    let said = refused(&server, "sslmode=require").await;
    assert!(said.contains("does not support TLS"), "{said}");
    assert!(!opened(&server, "sslmode=prefer").await.expect("plain will do"), "the server cannot encrypt");

    let (files, ours, theirs) = (Files::new(), Authority::new("ours"), Authority::new("theirs"));
    let root = files.write("root.pem", &ours.pem);
    let other = files.write("other.pem", &theirs.pem);
    let serve = |(certificate, key): &(String, String), more: &[&str]| {
        let certificate = format!("ssl_cert_file = '{}'", server.write("server.pem", certificate));
        let key = format!("ssl_key_file = '{}'", server.write("server.key", key));
        server.restart_with(&[&["ssl = on", &certificate, &key], more].concat());
    };

    serve(&ours.certify("127.0.0.1"), &[]);
    assert!(!opened(&server, "").await.expect("it is on this machine"), "nothing was said");
    for encrypted in [
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=require&sslrootcert={root}"),
        format!("sslmode=verify-ca&sslrootcert={root}"),
        format!("sslmode=verify-full&sslrootcert={root}"),
    ] {
        assert!(opened(&server, &encrypted).await.expect(&encrypted), "{encrypted}");
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let said = refused(&server, &format!("sslmode={mode}&sslrootcert={other}")).await;
        assert!(said.contains("UnknownIssuer"), "{mode}: {said}");
    }

    serve(&ours.certify("db.example"), &[]);
    assert!(
        opened(&server, &format!("sslmode=verify-ca&sslrootcert={root}")).await.expect("of whichever host")
    );
    let said = refused(&server, &format!("sslmode=verify-full&sslrootcert={root}")).await;
    assert!(said.contains("not valid for name"), "{said}");

    let alone = of_itself("127.0.0.1");
    let own = files.write("own.pem", &alone.0);
    serve(&alone, &[]);
    assert!(opened(&server, &format!("sslmode=verify-full&sslrootcert={own}")).await.expect("it is known"));
    refused(&server, &format!("sslmode=verify-full&sslrootcert={root}")).await;
    let alone = of_itself("db.example");
    let own = files.write("own.pem", &alone.0);
    serve(&alone, &[]);
    assert!(opened(&server, &format!("sslmode=verify-ca&sslrootcert={own}")).await.expect("it is known"));
    let said = refused(&server, &format!("sslmode=verify-full&sslrootcert={own}")).await;
    assert!(said.contains("not valid for name"), "{said}");

    // A server that wants to know who we are, from those who come encrypted.
    let clients = format!("ssl_ca_file = '{}'", server.write("clients.pem", &theirs.pem));
    server.write(
        "data/pg_hba.conf",
        "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\nhostnossl all all 127.0.0.1/32 trust\n",
    );
    serve(&ours.certify("127.0.0.1"), &[&clients]);
    let checked = format!("sslmode=verify-full&sslrootcert={root}");
    refused(&server, &checked).await;
    let (certificate, key) = theirs.certify("purlin");
    let (certificate, key) = (files.write("client.pem", &certificate), files.write("client.key", &key));
    let known = format!("{checked}&sslcert={certificate}&sslkey={key}");
    assert!(opened(&server, &known).await.expect("we are known"));
}
