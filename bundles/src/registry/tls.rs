//! Whom to believe: authorities of the system, of the settings and of certs.d; and how to prove who we are.
//!
//! Spec: containers-certs.d(5): `<dir>/<host[:port]>/*.crt` are authorities, `*.cert` with `*.key` beside it is for us.

use std::io;
use std::path::{Path, PathBuf};

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::error::Problem;
use super::settings::Security;

/// Where certificates by host are.
pub const CERTS_DIRS: &[&str] = &["/etc/containers/certs.d", "/etc/docker/certs.d"];
/// More than any file with certificates has.
const LARGEST_FILE: u64 = 4 << 20;

/// The authorities this machine trusts; nothing when it names none: then those that came with this program.
///
/// Honours `SSL_CERT_FILE` and `SSL_CERT_DIR`.
pub(super) fn system_roots() -> Vec<Certificate<'static>> {
    // Files that cannot be read are left out: those that can may do.
    let found = rustls_native_certs::load_native_certs().certs;
    found.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
}

/// What TLS with `authority` (host, with its port when it is not the usual one) goes by.
pub(super) fn config(
    authority: &str,
    ca: Option<&Path>,
    security: Security,
    dirs: &[PathBuf],
    system: &[Certificate<'static>],
) -> Result<TlsConfig, Problem> {
    let mut extra = Vec::new();
    if let Some(path) = ca {
        extra.extend(authorities(path)?);
    }
    let mut client = None;
    for dir in dirs {
        let dir = dir.join(authority);
        for path in files(&dir)? {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => extra.extend(authorities(&path)?),
                Some("cert") => client = Some(client_certificate(&path)?),
                _ => {}
            }
        }
    }
    let roots = if extra.is_empty() && system.is_empty() {
        RootCerts::WebPki
    } else {
        RootCerts::new_with_certs(&[system, &extra].concat())
    };
    let builder = TlsConfig::builder().provider(TlsProvider::Rustls).root_certs(roots).client_cert(client);
    let builder = builder.unversioned_rustls_crypto_provider(std::sync::Arc::new(ring::default_provider()));
    Ok(builder.disable_verification(security == Security::Insecure).build())
}

/// The files of a directory by name; none when there is no directory.
fn files(dir: &Path) -> Result<Vec<PathBuf>, Problem> {
    let problem = |error: io::Error| wrong(dir, error);
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(problem(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry.map_err(problem)?.path());
    }
    files.sort();
    Ok(files)
}

fn wrong(path: &Path, why: impl ToString) -> Problem {
    Problem::Certificates { path: path.to_owned(), why: why.to_string() }
}

fn items(path: &Path) -> Result<Vec<PemItem<'static>>, Problem> {
    let bytes = super::read_file(path, LARGEST_FILE).map_err(|error| wrong(path, error))?;
    parse_pem(&bytes).map(|item| item.map_err(|error| wrong(path, error))).collect()
}

/// All certificates of a file.
fn authorities(path: &Path) -> Result<Vec<Certificate<'static>>, Problem> {
    let mut found = Vec::new();
    for item in items(path)? {
        if let PemItem::Certificate(certificate) = item {
            let mut store = rustls::RootCertStore::empty();
            store.add(CertificateDer::from(certificate.der().to_vec())).map_err(|error| wrong(path, error))?;
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(wrong(path, "no certificate in PEM in it")) } else { Ok(found) }
}

/// `x.cert` with `x.key`. Checked here: ureq takes it for granted.
fn client_certificate(path: &Path) -> Result<ClientCert, Problem> {
    let key_path = path.with_extension("key");
    let mut chain = Vec::new();
    for item in items(path)? {
        if let PemItem::Certificate(certificate) = item {
            chain.push(certificate);
        }
    }
    let key = items(&key_path)?.into_iter().find_map(|item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    });
    let key: PrivateKey<'static> = key.ok_or_else(|| wrong(&key_path, "no private key in PEM in it"))?;
    let der = chain.iter().map(|certificate| CertificateDer::from(certificate.der().to_vec())).collect();
    let key_der = PrivateKeyDer::try_from(key.der().to_vec()).map_err(|error| wrong(&key_path, error))?;
    let checked = CertifiedKey::from_der(der, key_der, &ring::default_provider());
    checked.map_err(|error| wrong(path, format!("with {}: {error}", key_path.display())))?;
    Ok(ClientCert::new_with_certs(&chain, key))
}
