//! The policy itself, with its reasons.

/// The one source of foreign code.
pub(super) const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What each of our own packages says.
pub(super) const OUR_LICENCE: &str = "MIT OR Apache-2.0";

/// Licences that ask for no more than their text and a name.
pub(super) const ALLOWED_LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// What must not come in by any way, and why.
pub(super) const BANNED: &[(&str, &str)] = &[
    ("openssl", "TLS is rustls with ring: no C library of the system, no perl, no pkg-config"),
    ("openssl-sys", "TLS is rustls with ring: no C library of the system, no perl, no pkg-config"),
    ("native-tls", "it stands on OpenSSL here; TLS is rustls with ring"),
    ("aws-lc-rs", "a second cryptography beside ring, and its build wants cmake and minutes"),
    ("aws-lc-sys", "a second cryptography beside ring, and its build wants cmake and minutes"),
    ("rsa", "RUSTSEC-2023-0071 (a timing side channel) has no fix"),
    ("jsonwebtoken", "it brings aws-lc-rs or rsa; tokens are checked by ring"),
    ("chrono", "time is jiff's: one type for an instant"),
    ("time", "time is jiff's: one type for an instant"),
    ("sqlx", "several of its features put a second libsqlite3-sys into the lock"),
    ("diesel", "an engine writes its SQL by hand: a handful of statements whose plans are known"),
    ("backoff", "RUSTSEC-2025-0012: unmaintained; purlin::resilience has its own"),
    ("instant", "RUSTSEC-2024-0384: unmaintained; time comes from the clock"),
    ("bincode", "RUSTSEC-2025-0141: unmaintained; what is stored is JSON"),
    ("figment", "no release since 2024"),
    ("reqwest", "hyper-util's client does, and reqwest brings a second tower-http"),
];

/// What others may use and our own packages do not, and why.
pub(super) const NOT_OURS: &[(&str, &str)] = &[
    ("async-trait", "traits return `impl Future + Send`; the erased twin is private and written out"),
    ("lazy_static", "std::sync::LazyLock"),
    ("once_cell", "std::sync::OnceLock and LazyLock"),
    ("parking_lot", "std::sync::Mutex is as fast here and poisons"),
    ("rand", "randomness is an argument, and ring has some where it must be secret"),
    ("regex", "it is the largest part of a build that does not need it"),
];

/// Packages that are there in two versions, and who wants the older one.
pub(super) const ALLOWED_TWICE: &[(&str, &str)] = &[
    ("const-oid", "x509-cert, through tokio-postgres-rustls, which reads certificates for channel binding"),
    ("fallible-iterator", "tokio-postgres; rusqlite has moved on"),
    ("foldhash", "petgraph, through hashbrown 0.15, when gRPC code is generated"),
    ("getrandom", "ring 0.17"),
    ("hashbrown", "petgraph, when gRPC code is generated"),
    ("itertools", "prost-build, when gRPC code is generated"),
    ("syn", "procedural macros that have not moved to syn 3: tracing, pin-project, prost"),
    ("wasi", "whoami, through tokio-postgres, on a platform that we do not build for"),
    ("windows-sys", "ring 0.17, on a platform that we do not build for"),
];
