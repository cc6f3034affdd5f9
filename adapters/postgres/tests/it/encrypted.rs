//! Encrypted connections, and servers that are not who they should be.

use std::path::{Path, PathBuf};
use std::process::Command;

use purlin::message::{Envelope, Fault, FaultKind};
use purlin::store::{Commit, Expected, StreamId};
use purlin_postgres::OpenError;

use crate::server::Server;

/// Certificates and their keys, made with the `openssl` program, in a folder that goes with the test.
struct Office(PathBuf);

/// The files of a certificate and its key.
struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
}

impl Office {
    /// A new folder; none when there is no `openssl` and nobody insists (`CI`).
    fn open() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            let what = "openssl is not installed (Debian: apt-get install openssl)";
            assert!(std::env::var_os("CI").is_none(), "{what}");
            eprintln!("skipped: {what}");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("purlin-tls-{}", purlin::message::new_id()));
        std::fs::create_dir(&folder).expect("the temporary folder can be written");
        Some(Self(folder))
    }

    /// A certificate of a host (or of a client) that only itself vouches for, and which may vouch for others.
    fn of_itself(&self, file: &str, name: &str) -> Certificate {
        let made = self.files(file);
        self.openssl(&made, name, &[]);
        made
    }

    /// One that another one vouches for.
    fn certify(&self, file: &str, name: &str, issuer: &Certificate) -> Certificate {
        let made = self.files(file);
        let (certificate, key) = (path(&issuer.certificate), path(&issuer.key));
        let plain = "basicConstraints=critical,CA:FALSE";
        self.openssl(&made, name, &["-CA", certificate, "-CAkey", key, "-addext", plain]);
        made
    }

    fn files(&self, name: &str) -> Certificate {
        let file = |end| self.0.join(format!("{name}.{end}"));
        Certificate { certificate: file("pem"), key: file("key") }
    }

    fn openssl(&self, made: &Certificate, name: &str, more: &[&str]) {
        let kind = if name.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" };
        let output = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-days",
                "30",
                "-nodes",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ])
            .args([
                "-out",
                path(&made.certificate),
                "-keyout",
                path(&made.key),
                "-subj",
                &format!("/CN={name}"),
            ])
            .args(["-addext", &format!("subjectAltName={kind}:{name}")])
            .args(more)
            .output()
            .expect("openssl can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

fn content(path: &Path) -> String {
    std::fs::read_to_string(path).expect("it was made")
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

    let Some(office) = Office::open() else { return };
    let (ours, theirs) =
        (office.of_itself("ours", "ours.example"), office.of_itself("theirs", "theirs.example"));
    let (root, other) = (path(&ours.certificate), path(&theirs.certificate));
    let serve = |with: &Certificate, more: &[&str]| {
        let certificate =
            format!("ssl_cert_file = '{}'", server.write("server.pem", &content(&with.certificate)));
        let key = format!("ssl_key_file = '{}'", server.write("server.key", &content(&with.key)));
        server.restart_with(&[&["ssl = on", &certificate, &key], more].concat());
    };

    let here = office.certify("here", "127.0.0.1", &ours);
    serve(&here, &[]);
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
        assert!(said.contains("invalid peer certificate"), "{mode}: {said}");
    }

    serve(&office.certify("elsewhere", "db.example", &ours), &[]);
    assert!(
        opened(&server, &format!("sslmode=verify-ca&sslrootcert={root}")).await.expect("of whichever host")
    );
    let said = refused(&server, &format!("sslmode=verify-full&sslrootcert={root}")).await;
    assert!(said.contains("not valid for name"), "{said}");

    let alone = office.of_itself("alone", "127.0.0.1");
    serve(&alone, &[]);
    let known = format!("sslmode=verify-full&sslrootcert={}", path(&alone.certificate));
    assert!(opened(&server, &known).await.expect("it is known"));
    refused(&server, &format!("sslmode=verify-full&sslrootcert={root}")).await;
    let alone = office.of_itself("alone-elsewhere", "db.example");
    serve(&alone, &[]);
    let known = path(&alone.certificate);
    assert!(opened(&server, &format!("sslmode=verify-ca&sslrootcert={known}")).await.expect("it is known"));
    let said = refused(&server, &format!("sslmode=verify-full&sslrootcert={known}")).await;
    assert!(said.contains("not valid for name"), "{said}");

    // A server that wants to know who we are, from those who come encrypted.
    let clients = format!("ssl_ca_file = '{}'", server.write("clients.pem", &content(&theirs.certificate)));
    server.write(
        "data/pg_hba.conf",
        "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\nhostnossl all all 127.0.0.1/32 trust\n",
    );
    serve(&here, &[&clients]);
    let checked = format!("sslmode=verify-full&sslrootcert={root}");
    refused(&server, &checked).await;
    let client = office.certify("client", "purlin.example", &theirs);
    let known = format!("{checked}&sslcert={}&sslkey={}", path(&client.certificate), path(&client.key));
    assert!(opened(&server, &known).await.expect("we are known"));
}
