//! Encryption of the connections, by the parameters and in the degrees of PostgreSQL's own programs (`sslmode` and its
//! kin: PostgreSQL's documentation, "SSL Support" of libpq).

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::OpenError;
use crate::url::Url;

/// The name of the roots that the operating system trusts.
const SYSTEM: &str = "system";

/// How much is asked of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Nothing: whoever is between can read and change all.
    Nothing,
    /// That a root which is trusted vouches for it.
    Issuer,
    /// That, and that it is of the host that was asked for.
    IssuerAndHost,
}

/// What a URL says of encryption, for these hosts: whether, and how.
///
/// When it says nothing, connections to this machine are plain, and others are encrypted if the server can, without
/// knowing who it is, as with PostgreSQL's own programs. `require` checks the certificate if it is said what to check it
/// against, and `verify-ca` and `verify-full` check it against what the operating system trusts when nothing else is
/// said.
pub(crate) fn said(
    url: &Url,
    hosts: &[Host],
    addresses: &[IpAddr],
) -> Result<(SslMode, MakeRustlsConnect), OpenError> {
    let roots = url.get("sslrootcert");
    let (mode, check) = asked(url.get("sslmode"), roots, Place::of(hosts, addresses))?;
    let provider = Arc::new(ring::default_provider());
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("TLS", error))?;
    let verifier = verifier(check, roots, provider)?;
    let builder = versions.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match (url.get("sslcert"), url.get("sslkey")) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => {
            let chain = certificates("sslcert", certificate)?;
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|error| failed(&named("sslkey", key), error))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| failed(&named("sslcert", certificate), error))?
        }
        (Some(_), None) | (None, Some(_)) => {
            let both = "a client's certificate needs both sslcert=FILE and sslkey=FILE";
            return Err(odd("sslcert, sslkey", both));
        }
    };
    // What PostgreSQL 17 wants to hear of who begins with the handshake (`sslnegotiation=direct`).
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok((mode, MakeRustlsConnect::new(config)))
}

/// Where the servers are that may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// All behind sockets of the file system, where nobody sits between.
    Sockets,
    /// All on this machine.
    Here,
    /// Some may be elsewhere.
    Away,
}

impl Place {
    fn of(hosts: &[Host], addresses: &[IpAddr]) -> Self {
        let is_socket = |host: &Host| match host {
            Host::Tcp(_) => false,
            #[cfg(unix)]
            Host::Unix(_) => true,
        };
        let is_here = |host: &Host| match host {
            Host::Tcp(name) => {
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            #[cfg(unix)]
            Host::Unix(_) => true,
        };
        match addresses {
            [] if !hosts.is_empty() && hosts.iter().all(is_socket) => Self::Sockets,
            [] if hosts.iter().all(is_here) => Self::Here,
            [_, ..] if addresses.iter().all(IpAddr::is_loopback) => Self::Here,
            _ => Self::Away,
        }
    }
}

/// Whether connections are encrypted, and what the server must show, by what a URL says.
fn asked(mode: Option<&str>, roots: Option<&str>, place: Place) -> Result<(SslMode, Check), OpenError> {
    // A root that anybody can have a certificate of says nothing without the host.
    let issuer = match roots {
        None | Some(SYSTEM) => Check::IssuerAndHost,
        Some(_) => Check::Issuer,
    };
    Ok(match mode {
        Some("disable" | "prefer" | "require" | "verify-ca" | "verify-full") if place == Place::Sockets => {
            (SslMode::Disable, Check::Nothing)
        }
        None if place != Place::Away => (SslMode::Disable, Check::Nothing),
        None | Some("prefer") => (SslMode::Prefer, Check::Nothing),
        Some("disable") => (SslMode::Disable, Check::Nothing),
        Some("require") if roots.is_none() => (SslMode::Require, Check::Nothing),
        Some("require" | "verify-ca") => (SslMode::Require, issuer),
        Some("verify-full") => (SslMode::Require, Check::IssuerAndHost),
        // What stands there may be anything, and is not repeated.
        Some(_) => {
            return Err(odd("sslmode", "known are disable, prefer, require, verify-ca and verify-full"));
        }
    })
}

/// A parameter that cannot be met, and why.
pub(crate) fn odd(parameter: &str, why: &str) -> OpenError {
    OpenError::Tls { what: parameter.to_owned(), source: why.into() }
}

/// Whether a connection failed because the other side's certificate will not do, or ours: it will not do later either.
pub(crate) fn is_refusal(error: &tokio_postgres::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.and_then(std::io::Error::get_ref).is_some_and(|inner| inner.is::<Error>())
}

fn verifier(
    check: Check,
    roots: Option<&str>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, OpenError> {
    if check == Check::Nothing {
        return Ok(Arc::new(Unchecked(provider)));
    }
    let mut known = Vec::new();
    let trusted = match roots {
        None | Some(SYSTEM) => of_the_system()?,
        Some(file) => {
            known = certificates("sslrootcert", file)?;
            let mut trusted = RootCertStore::empty();
            for certificate in &known {
                trusted
                    .add(certificate.clone())
                    .map_err(|error| failed(&named("sslrootcert", file), error))?;
            }
            trusted
        }
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), provider)
        .build()
        .map_err(|error| failed("sslrootcert", error))?;
    Ok(Arc::new(Trusting { verifier, known, check }))
}

/// The roots that the operating system trusts.
fn of_the_system() -> Result<RootCertStore, OpenError> {
    let found = rustls_native_certs::load_native_certs();
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(found.certs);
    if trusted.is_empty() {
        let none = "this machine has none: say sslrootcert=FILE, or install them (Debian: ca-certificates)";
        let source = found.errors.into_iter().next().map_or_else(|| none.into(), Into::into);
        return Err(OpenError::Tls { what: "the roots that the system trusts".into(), source });
    }
    Ok(trusted)
}

/// The certificates of a file; at least one.
fn certificates(parameter: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let what = || named(parameter, file);
    let read: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(file).map_err(|error| failed(&what(), error))?.collect();
    match read.map_err(|error| failed(&what(), error))? {
        none if none.is_empty() => Err(odd(&what(), "there is no certificate in the file (PEM)")),
        some => Ok(some),
    }
}

fn named(parameter: &str, file: &str) -> String {
    format!("{parameter}={file}")
}

fn failed(what: &str, source: impl Into<purlin::store::Cause>) -> OpenError {
    OpenError::Tls { what: what.to_owned(), source: source.into() }
}

/// Takes every certificate.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes certificates that a trusted root vouches for, and those that are trusted themselves: a server's own, signed by
/// itself, is no issuer of its own for webpki. Such a one is trusted as long as it stands in the file, whatever its dates.
#[derive(Debug)]
struct Trusting {
    verifier: Arc<WebPkiServerVerifier>,
    known: Vec<CertificateDer<'static>>,
    check: Check,
}

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.known.contains(certificate) {
            if self.check == Check::IssuerAndHost {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, host)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        // The name is the last thing that is looked at.
        match self.verifier.verify_server_cert(certificate, intermediates, host, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.check == Check::Issuer => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    fn mode(url: &str) -> Result<SslMode, OpenError> {
        Ok(Target::new(&Url::split(url), "orders")?.mode())
    }

    #[test]
    fn what_is_not_said_depends_on_where_the_server_is() {
        for here in [
            "postgres://u@localhost/d",
            "postgres://u@127.0.0.1,[::1]/d",
            "host=/run/pg user=u",
            "host=localhost",
        ] {
            assert_eq!(mode(here).unwrap(), SslMode::Disable, "{here}");
        }
        for away in
            ["postgres://u@db.example/d", "postgres://u@localhost,db.example/d", "host=10.1.2.3 user=u"]
        {
            assert_eq!(mode(away).unwrap(), SslMode::Prefer, "{away}");
        }
        assert_eq!(mode("hostaddr=10.1.2.3 user=u").unwrap(), SslMode::Prefer);
        assert_eq!(mode("hostaddr=127.0.0.1 user=u").unwrap(), SslMode::Disable);
        assert_eq!(mode("host=localhost hostaddr=10.1.2.3 user=u").unwrap(), SslMode::Prefer);
        assert_eq!(mode("postgres://u@localhost/d?sslmode=require").unwrap(), SslMode::Require);
    }

    #[test]
    fn what_the_server_must_show_is_never_less_than_was_asked_for() {
        use Check::{Issuer, IssuerAndHost, Nothing};
        let of = |mode, roots| asked(Some(mode), roots, Place::Away).unwrap();
        assert_eq!(of("require", None), (SslMode::Require, Nothing));
        for mode in ["require", "verify-ca"] {
            assert_eq!(of(mode, Some("/a.pem")), (SslMode::Require, Issuer), "{mode}");
            assert_eq!(of(mode, Some(SYSTEM)), (SslMode::Require, IssuerAndHost), "anybody has one of those");
        }
        assert_eq!(of("verify-ca", None), (SslMode::Require, IssuerAndHost), "anybody has one of those");
        for roots in [None, Some(SYSTEM), Some("/a.pem")] {
            assert_eq!(of("verify-full", roots), (SslMode::Require, IssuerAndHost));
        }
        assert_eq!(asked(Some("require"), None, Place::Here).unwrap().0, SslMode::Require);
        assert_eq!(asked(Some("require"), None, Place::Sockets).unwrap().0, SslMode::Disable);
        let hidden = "postgres://u@localhost/d?ssl%6Dode=require";
        assert!(mode(hidden).is_err(), "what is not seen is not taken for nothing");
    }

    #[test]
    fn what_cannot_be_met_says_which_parameter_and_which_file() {
        for (url, at_fault) in [
            ("postgres://u@h/d?sslmode=verify", "sslmode"),
            (
                "postgres://u@h/d?sslmode=verify-full&sslrootcert=/nowhere/root.pem",
                "sslrootcert=/nowhere/root.pem",
            ),
            ("postgres://u@h/d?sslmode=require&sslcert=/nowhere/c.pem", "sslcert, sslkey"),
            ("postgres://u@h/d?sslcert=/nowhere/c.pem&sslkey=/nowhere/k.pem", "sslcert=/nowhere/c.pem"),
        ] {
            let refused = mode(url).expect_err("it cannot be met").to_string();
            assert!(refused.contains(at_fault), "{url}: {refused}");
        }
    }
}
